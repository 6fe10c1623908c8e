#include "tests/support/place.h"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <thread>

namespace hindcast::test {

namespace {

bool get_there(const Place& place) {
  if (!place.cgroup.empty()) {
    const int members = ::open((place.cgroup + "/cgroup.procs").c_str(), O_WRONLY | O_CLOEXEC);
    if (members < 0 || ::write(members, "0", 1) != 1) return false;  // 0: whoever writes
    ::close(members);
  }
  constexpr int kSpaces = CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWCGROUP | CLONE_NEWTIME;
  if (place.pidfd >= 0 && ::setns(place.pidfd, kSpaces) != 0) return false;
  for (const std::string& e : place.env) ::putenv(::strdup(e.c_str()));
  return true;
}

}  // namespace

int fork_in(const Place& place, const std::function<void()>& what) {
  int child = -1, error = 0;
  const auto begin = [&] {
    if (place.pidfd < 0 || ::setns(place.pidfd, CLONE_NEWPID) == 0) child = ::fork();
    error = errno;
    if (child != 0) return;
    if (!get_there(place)) ::_exit(126);
    what();
    ::_exit(127);
  };
  // Only what a thread forks afterwards is in the other pid namespace, and it never gets out of it again: one for this alone.
  std::thread(begin).join();
  errno = error;
  return child;
}

}  // namespace hindcast::test
