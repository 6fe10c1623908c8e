// A host inside of this machine: network, mounts, host name, processes, System V IPC, cgroups and clocks of its own, joined to
// other ones by a cable each into a switch.
//
// What it does not have of its own: users, CPUs and the kernel; the record clock, the TSC and CLOCK_MONOTONIC as hindcastd reads
// them, which must be the kernel's; BPF programs, which know no pid namespaces.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "hindcast/fd.h"
#include "tests/support/own_cgroup.h"
#include "tests/support/place.h"
#include "tests/support/run_program.h"

namespace hindcast::test {

/// A switch, in a network namespace of its own; nothing of the machine's network is touched. Needs root.
class TestNetwork {
 public:
  TestNetwork();
  /// Why there is none; empty: there is.
  const std::string& missing() const { return missing_; }

 private:
  friend class TestHost;
  Fd space_;
  std::string missing_;
  int hosts_ = 0;
};

/// Clocks that differ from this machine's.
struct HostClock {
  int64_t wall_offset_ns = 0;  // of CLOCK_REALTIME, now
  double wall_ppm = 0;         // and how much faster it goes from now on
  int64_t uptime_offset_s =
      0;  // of CLOCK_MONOTONIC and CLOCK_BOOTTIME; 0 where hindcastd runs: its records have the kernel's
};

/// Gone with the object, and with it all that runs there; also when this process ends in whatever way, but for its cgroup, which
/// then stays behind empty.
class TestHost {
 public:
  /// At most 200 in a network, which must outlive it.
  TestHost(TestNetwork& network, const std::string& name, const HostClock& clock = {});
  ~TestHost();
  TestHost(const TestHost&) = delete;
  TestHost& operator=(const TestHost&) = delete;

  /// Why there is none; empty: there is.
  const std::string& missing() const { return missing_; }
  const std::string& address() const { return address_; }
  const OwnCgroup& cgroup() const { return cgroup_; }

  /// For processes that are to run there, with the host's wall clock. within: a cgroup inside of the host's; empty: its first.
  Place place(const std::string& within = {}) const;
  /// Runs a program there, to its end.
  Ran run(const std::vector<std::string>& argv, const std::string& within = {}) const;
  /// Runs it on a thread in the host's network, to its end.
  void in_network(const std::function<void()>& what) const;

  /// In the host's wall clock what this machine's shows as `ns` since 1970.
  int64_t wall_ns(int64_t ns) const;

 private:
  bool begin();
  bool lay_cable();

  TestNetwork& network_;
  const std::string name_;
  const HostClock clock_;
  int64_t anchor_ns_ = 0;
  OwnCgroup cgroup_;
  std::string address_, missing_;
  int number_ = 0;
  int init_ = -1;  // process 1 of the host, by its id here
  Fd pidfd_;
  Fd life_;  // process 1 ends when this is closed
};

}  // namespace hindcast::test
