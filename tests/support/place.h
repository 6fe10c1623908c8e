// Where a program of a test runs: in the namespaces of another process, in a cgroup, with more in its environment.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace hindcast::test {

struct Place {
  int pidfd = -1;      // of a process whose namespaces it shares, all but the user namespace; -1: ours. Borrowed
  std::string cgroup;  // folder of a version 2 cgroup that it joins; empty: ours
  std::vector<std::string> env;  // "NAME=value"
};

/// Forks a child of ours that goes there, whichever pid namespace that is in, and does `what`, which execs. It ends with 126
/// when it cannot get there, with 127 when `what` comes back. Its process id here; -1: errno says why there is none.
int fork_in(const Place& place, const std::function<void()>& what);

}  // namespace hindcast::test
