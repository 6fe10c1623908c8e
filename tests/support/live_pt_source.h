// The perf source on a machine without PT: a live program under the simulator makes the packets, a double of the kernel puts
// them into AUX rings, and the real perf source opens, stops and copies these.
#pragma once

#include <map>
#include <memory>

#include "capture/perf_source.h"
#include "capture/sim/sim_source.h"
#include "tests/support/pt_kernel.h"

namespace hindcast::test {

/// Packets reach the double's rings at each freeze: all that the program made until then. Everything around the PT (switches,
/// mappings, code) is the real kernel's. One thread.
class LivePtSource : public capture::PtSource {
 public:
  /// kernel and files describe one machine, which has as many CPUs as this one.
  LivePtSource(const sim::SimConfig& sim, PtKernel& kernel, const PtMachineFiles& files);

  std::string name() const override { return "simulated"; }  // its clocks and its program are
  Result<void> prepare(const capture::PtSourceConfig& config) override;
  Result<std::vector<std::string>> command(const std::vector<std::string>& argv) override;
  Result<void> on_started(Pid pid) override;
  capture::RecordFate on_record(CpuId ring, perf::Record& record, std::span<uint8_t> whole) override;
  void sideband_complete_until(RecordTime t) override { sim_->sideband_complete_until(t); }
  Result<void> poll() override;
  void cpu_went(CpuId cpu) override { perf_.cpu_went(cpu); }
  Result<void> cpu_came(CpuId cpu) override { return perf_.cpu_came(cpu); }
  Result<void> start_snapshot() override { return sim_->start_snapshot(); }
  Result<std::optional<std::vector<Cut>>> take_snapshot() override;
  Result<std::vector<Cut>> freeze() override;
  bool traces_kernel() const override { return perf_.traces_kernel(); }
  void describe(SnapshotInfo& info) const override;
  std::vector<capture::MemoryCopy> memory_copies() override { return sim_->memory_copies(); }

  /// Called when the CPUs have made their packets and before the perf source looks.
  std::function<void()> before_freeze;

 private:
  void feed(const std::vector<Cut>& cuts);

  std::unique_ptr<capture::PtSource> sim_;
  PtKernel& kernel_;
  capture::PerfSource perf_;
  std::map<CpuId, size_t> fed_;  // bytes of the simulator's rings that the double has
};

}  // namespace hindcast::test
