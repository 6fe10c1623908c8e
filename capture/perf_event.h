// perf_event_open(2) and what goes with it: the system calls behind an interface, and the attributes of our
// events.
#pragma once

#include <string>
#include <vector>

#include <linux/perf_event.h>

#include "hindcast/fd.h"
#include "hindcast/perf_record.h"
#include "hindcast/result.h"

namespace hindcast::capture {

/// The kernel calls that perf sources make. Tests put a double in its place.
class PerfCalls {
 public:
  virtual ~PerfCalls() = default;
  /// perf_event_open(2), close-on-exec, without a group. flags: PERF_FLAG_PID_CGROUP, or 0. A descriptor, or a negative
  /// errno.
  virtual int open(const perf_event_attr& attr, pid_t pid, int cpu, unsigned long flags) = 0;
  /// mmap(2), shared. 0, or a negative errno.
  virtual int map(const Fd& fd, size_t bytes, int prot, off_t offset, Mapping& out) = 0;
  /// ioctl(2). 0, or a negative errno.
  virtual int control(const Fd& fd, unsigned long request, unsigned long argument) = 0;
};

/// The real ones. Lives for the whole program.
PerfCalls& kernel_perf_calls();

/// Which clock stamps the records.
enum class RecordClock : uint8_t { perf_default, monotonic_raw };

/// A software event that counts nothing and carries every kind of sideband record we can use.
perf_event_attr sideband_attr(RecordClock clock, uint32_t wakeup_bytes);

/// A sample at each page fault taken in user mode: where a simulated PT leaves the traced code.
perf_event_attr page_fault_attr(RecordClock clock, uint32_t wakeup_bytes);

/// Wakes its reader at each mapping of code by one process and all that it will fork.
perf_event_attr mapping_alarm_attr(RecordClock clock);

/// Finds what this kernel grants of `wanted` by opening it on one CPU: the optional record kinds are tried
/// one by one when it refuses them together, and each refused one is a line in notes. Errors: what is not
/// optional was refused.
Result<perf_event_attr> negotiate_sideband(PerfCalls& calls, perf_event_attr wanted, int cpu,
                                           std::vector<std::string>& notes);

/// What an event reaches, which decides what the kernel asks of its owner.
struct PerfReach {
  bool whole_cpu = true;  // also of a cgroup's processes; false: of tasks of our own
  bool kernel = false;    // exclude_kernel is not set
};

/// The Error for a refused perf_event_open, with the settings that decide it.
///   object  what was to be opened, e.g. "CPU 3: sideband"
///   proc    the proc file system, where perf_event_paranoid is read
Error perf_open_error(int error, const std::string& object, PerfReach reach = {}, const std::string& proc = "/proc");

}  // namespace hindcast::capture
