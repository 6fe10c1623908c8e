// What the kernel lets this process do, as /proc says: capabilities, the paranoia of perf, and memory for its rings.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace hindcast::capture {

/// In the effective set. number: CAP_*. False when it cannot be read.
bool has_capability(const std::string& proc, int number);

/// perf_event_paranoid; none when it cannot be read. Kernel code may be traced at 1 or less, whole CPUs at 0 or less.
std::optional<int> perf_paranoid(const std::string& proc);

/// How much memory all perf rings of this user may take together. Every user has perf_event_mlock_kb for each online CPU; what
/// goes beyond counts against the process's RLIMIT_MEMLOCK. Neither limits who has CAP_IPC_LOCK, or anybody when
/// perf_event_paranoid is -1. Other perf users of the same user id share it: less may be left.
struct RingMemory {
  bool limited = false;  // false: also when the limits cannot be read
  uint64_t bytes = 0;    // when limited
  std::string text;      // the settings and their values, for a person
};
RingMemory ring_memory(const std::string& proc, size_t online_cpus);

}  // namespace hindcast::capture
