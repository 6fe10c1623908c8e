// The real source of PT: the kernel's intel_pt PMU, one event and one AUX ring per CPU, in overwrite mode.
#pragma once

#include <map>
#include <memory>

#include "capture/perf_event.h"
#include "capture/pt_caps.h"
#include "capture/pt_source.h"
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
  /// One PT cut per CPU, and one sideband cut per CPU with the AUX, ITRACE_START and LOST records of its PT event.
  Result<std::vector<Cut>> freeze() override;
  void describe(SnapshotInfo& info) const override;
  std::vector<MemoryCopy> take_memory_copies() override { return {}; }

 private:
  struct CpuTrace {
    CpuId cpu;
    SidebandRing ring;  // of the PT event itself
    Mapping aux;
    std::vector<uint8_t> records;
    uint64_t truncated = 0, partial = 0, collisions = 0;
  };
  Result<CpuTrace> open_cpu(const perf_event_attr& attr, CpuId cpu, uint64_t aux_bytes);
  void drain(CpuTrace& trace);

  PerfCalls& calls_;
  MachineRoots roots_;
  PtCpu cpu_;
  std::vector<CpuTrace> traces_;
  TscConversion clock_;
  std::vector<std::string> notes_;
};

}  // namespace hindcast::capture
