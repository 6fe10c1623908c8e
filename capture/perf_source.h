// The real source of PT: the kernel's intel_pt PMU, one event and one AUX ring per CPU, in overwrite mode.
#pragma once

#include <map>
#include <memory>

#include "capture/aux_history.h"
#include "capture/perf_event.h"
#include "capture/pt_caps.h"
#include "capture/pt_source.h"
#include "capture/record_fifo.h"
#include "capture/sideband_ring.h"

namespace hindcast::capture {

/// Traces every CPU, a cgroup on every CPU, or one process and its children. Cannot run without Intel PT: prepare() says so.
class PerfSource : public PtSource {
 public:
  explicit PerfSource(PerfCalls& calls, MachineRoots roots = {});

  std::string name() const override { return "perf"; }
  /// Options that nobody changed are fitted to the CPU, with a note; others must suit it. Errors: unavailable, unsupported,
  /// permission (also: the rings are larger than the kernel would lock, before any is made), usage.
  Result<void> prepare(const PtSourceConfig& config) override;
  Result<std::vector<std::string>> command(const std::vector<std::string>& argv) override { return argv; }
  /// Turns tracing on. With command_only the events are only opened here. Errors: as prepare().
  Result<void> on_started(Pid pid) override;
  RecordFate on_record(CpuId, perf::Record&, std::span<uint8_t>) override { return RecordFate::keep; }
  void sideband_complete_until(RecordTime) override {}
  /// Empties the small rings in which the kernel tells about the big ones, and turns on again what the kernel turned off
  /// because the trace was truncated.
  Result<void> poll() override;
  /// An event of a CPU that went is dead, even when the CPU comes back: its ring stays in every snapshot until then. Events of
  /// a process only wait.
  void cpu_went(CpuId cpu) override;
  Result<void> cpu_came(CpuId cpu) override;
  /// All CPUs stop, are copied, and go on: what ran meanwhile is not in any cut. The kernel need not send a PSB then, so
  /// later cuts say where this one was. A CPU that cannot be stopped is left out, with a note. Errors: none.
  Result<void> start_snapshot() override;
  Result<std::optional<std::vector<Cut>>> take_snapshot() override { return std::exchange(snapshot_, std::nullopt); }
  /// One PT cut per CPU, and one sideband cut per CPU with the AUX, ITRACE_START and LOST records of its PT event.
  Result<std::vector<Cut>> freeze() override;
  bool traces_kernel() const override { return config_.kernel; }
  void describe(SnapshotInfo& info) const override;

 private:
  struct CpuTrace {
    CpuId cpu;
    SidebandRing ring;  // of the PT event itself
    Mapping aux;
    RecordFifo records;  // of the PT event, the newest
    AuxHistory history;
    bool dead = false;          // its CPU went
    bool switched_off = false;  // by the kernel
    uint64_t truncated = 0, partial = 0, collisions = 0, lost_records = 0;
  };
  Result<uint64_t> choose_ring(const PtPmu& pmu);
  Result<CpuTrace> open_cpu(CpuId cpu);
  Result<void> map_aux(CpuTrace& trace, const std::string& object);
  Result<void> open_all();
  void drain(CpuTrace& trace);
  void enable(CpuTrace& trace);
  void note(const std::string& text);
  std::vector<Cut> stop_and_copy();
  bool of_command() const { return config_.command_only; }

  PerfCalls& calls_;
  MachineRoots roots_;
  PtSourceConfig config_;
  perf_event_attr attr_{};
  uint64_t ring_bytes_ = 0;
  PtCpu cpu_;
  Pid root_ = kNoPid;
  std::vector<CpuTrace> traces_;
  TscConversion clock_;
  std::optional<std::vector<Cut>> snapshot_;
  std::vector<std::string> notes_;
};

}  // namespace hindcast::capture
