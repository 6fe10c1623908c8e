// A source of PT: the kernel's intel_pt PMU, or the simulator. The recorder drives either through this one interface.
#pragma once

#include <algorithm>
#include <bit>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "capture/memory_copy.h"
#include "hindcast/cut.h"
#include "hindcast/perf_record.h"
#include "hindcast/result.h"
#include "hindcast/wait_record.h"

namespace hindcast::capture {

struct PtSourceConfig {
  PtOptions pt;
  uint64_t ring_bytes =
      uint64_t{64} << 20;     // per CPU; a power of two pages. 0: as much as the limits grant, up to 64 MiB
  std::vector<CpuId> cpus;    // every online CPU
  int cgroup = -1;            // descriptor of a cgroup's folder, borrowed for good: trace its processes only; -1: all
  bool command_only = false;  // trace the started process and its children, wherever they run, and nobody else
  bool kernel = false;        // kernel code, too
  uint64_t ring_budget = 0;   // bytes of all rings together; 0: no such limit
};

/// The size of each ring by what was asked for alone: a power of two, 0 when the budget is less than a byte for each CPU.
inline uint64_t wanted_ring_bytes(const PtSourceConfig& config) {
  constexpr uint64_t kAutomatic = uint64_t{64} << 20;
  const uint64_t bytes = config.ring_bytes ? config.ring_bytes : kAutomatic;
  if (config.ring_budget == 0) return bytes;
  return std::min(bytes, std::bit_floor(config.ring_budget / std::max<size_t>(config.cpus.size(), 1)));
}

/// What should happen to a sideband record that the source was shown.
enum class RecordFate : uint8_t { keep, drop };

/// Life: create, then prepare(), then the caller starts its command (wrapped by command()), calls poll() often and on_record()
/// for every sideband record in time order per CPU. start_snapshot() and take_snapshot() take the window as it is, as often
/// as wanted; freeze() takes it once and for all. One thread of the caller.
class PtSource {
 public:
  virtual ~PtSource() = default;
  virtual std::string name() const = 0;  // "simulated" or "perf"

  /// Opens rings and channels. Errors: unavailable / permission with found and fix.
  virtual Result<void> prepare(const PtSourceConfig& config) = 0;

  /// The command line to run instead of argv (the simulator puts QEMU in front). Same length or longer.
  virtual Result<std::vector<std::string>> command(const std::vector<std::string>& argv) = 0;
  /// Told right after fork, before the child may run on.
  virtual Result<void> on_started(Pid pid) = 0;

  /// Sees each sideband record before it is stored; may rewrite it in place (same length) or drop it. The simulator
  /// hides QEMU's own mappings and helper threads here and learns of context switches.
  virtual RecordFate on_record(CpuId ring, perf::Record& record, std::span<uint8_t> whole_record) = 0;
  /// Sees each record of waits and messages before it is kept, when sideband until its time has been shown to on_record();
  /// may change it in place (same length) or drop it. The simulator hides what is not the program's here.
  virtual RecordFate on_wait(const wait::Record&, std::span<uint8_t>) { return RecordFate::keep; }
  /// Everything up to this time on the record clock has been shown to on_record().
  virtual void sideband_complete_until(RecordTime t) = 0;

  /// A bounded amount of work; called every few milliseconds. Errors end the recording with what there is.
  virtual Result<void> poll() = 0;

  /// A CPU left, or joined (again), the online ones. Errors: it joined and cannot be traced.
  virtual void cpu_went(CpuId) {}
  virtual Result<void> cpu_came(CpuId) { return {}; }

  /// Asks for a Cut of each ring as of now; tracing goes on. One at a time. Errors: what freeze() says.
  virtual Result<void> start_snapshot() = 0;
  /// What start_snapshot() asked for, cuts as freeze() gives them; nothing yet: poll() on. It comes within seconds, whatever
  /// the traced programs do.
  virtual Result<std::optional<std::vector<Cut>>> take_snapshot() = 0;

  /// Stops tracing and takes a Cut of each ring. info.id is left 0 for the caller to number.
  virtual Result<std::vector<Cut>> freeze() = 0;

  /// What the kernel runs is in its trace. Known once prepare() is done.
  virtual bool traces_kernel() const { return false; }

  /// Fills what only the source knows: cpu, clock, record_clock, notes.
  virtual void describe(SnapshotInfo& info) const = 0;

  /// Code in memory that the source itself knows of: all that is known by now.
  virtual std::vector<MemoryCopy> memory_copies() { return {}; }
};

}  // namespace hindcast::capture
