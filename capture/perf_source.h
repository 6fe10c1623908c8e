// The real source of PT: the kernel's intel_pt PMU, one event and one AUX ring per CPU, in overwrite mode.
#pragma once

#include <map>
#include <memory>

#include "capture/perf_event.h"
#include "capture/pt_caps.h"
#include "capture/pt_source.h"
#include "capture/record_fifo.h"
#include "capture/sideband_ring.h"

namespace hindcast::capture {

/// The bytes of one overwritten ring, oldest first.
///   ring  the whole AUX area
///   head  aux_head as the kernel published it after DISABLE: an offset in the ring, whatever happened before
/// A ring starts zeroed, so bytes other than zero at its very end show that it has been filled once; the kernel's
/// aux_head does not tell. (What perf calls the first wrap.)
struct RingCopy {
  std::vector<uint8_t> bytes;
  bool wrapped = false;
};
RingCopy copy_overwritten_ring(ByteSpan ring, uint64_t head);

/// Where a freeze stopped in a ring that was written on afterwards, and the bytes in front of that place: while they are
/// still there, so is the place.
struct RingCut {
  uint64_t at = 0;  // offset in the ring
  std::vector<uint8_t> before;
};
RingCut mark_cut(ByteSpan ring, uint64_t head);
/// The cuts that are left, as offsets in copy.bytes, which was made of this ring and head; the others are removed.
std::vector<uint64_t> surviving_cuts(ByteSpan ring, uint64_t head, const RingCopy& copy, std::vector<RingCut>& cuts);

/// Traces user code on every CPU. Cannot run without Intel PT: prepare() says so.
class PerfSource : public PtSource {
 public:
  explicit PerfSource(PerfCalls& calls, MachineRoots roots = {});

  std::string name() const override { return "perf"; }
  Result<void> prepare(const PtSourceConfig& config) override;
  Result<std::vector<std::string>> command(const std::vector<std::string>& argv) override { return argv; }
  /// Turns tracing on.
  Result<void> on_started(Pid pid) override;
  RecordFate on_record(CpuId, perf::Record&, std::span<uint8_t>) override { return RecordFate::keep; }
  void sideband_complete_until(RecordTime) override {}
  /// Empties the small rings in which the kernel tells about the big ones.
  Result<void> poll() override;
  /// All CPUs stop, are copied, and go on: what ran meanwhile is not in any cut. The kernel need not send a PSB then, so
  /// later cuts say where this one was.
  Result<void> start_snapshot() override;
  Result<std::optional<std::vector<Cut>>> take_snapshot() override { return std::exchange(snapshot_, std::nullopt); }
  /// One PT cut per CPU, and one sideband cut per CPU with the AUX, ITRACE_START and LOST records of its PT event.
  Result<std::vector<Cut>> freeze() override;
  void describe(SnapshotInfo& info) const override;
  std::vector<MemoryCopy> take_memory_copies() override { return {}; }

 private:
  struct CpuTrace {
    CpuId cpu;
    SidebandRing ring;  // of the PT event itself
    Mapping aux;
    RecordFifo records;  // of the PT event, the newest
    std::vector<RingCut> cuts;
    uint64_t truncated = 0, partial = 0, collisions = 0;
  };
  Result<CpuTrace> open_cpu(const perf_event_attr& attr, CpuId cpu, uint64_t aux_bytes, int cgroup);
  void drain(CpuTrace& trace);
  Result<std::vector<Cut>> stop_and_copy();

  PerfCalls& calls_;
  MachineRoots roots_;
  PtCpu cpu_;
  std::vector<CpuTrace> traces_;
  TscConversion clock_;
  std::optional<std::vector<Cut>> snapshot_;
  std::vector<std::string> notes_;
};

}  // namespace hindcast::capture
