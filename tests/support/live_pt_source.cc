#include "tests/support/live_pt_source.h"

namespace hindcast::test {

LivePtSource::LivePtSource(const sim::SimConfig& sim, PtKernel& kernel, const PtMachineFiles& files)
    : sim_(sim::make_sim_source(sim)), kernel_(kernel), perf_(kernel, files.roots()) {}

Result<void> LivePtSource::prepare(const capture::PtSourceConfig& config) {
  capture::PtSourceConfig endless = config;
  endless.ring_bytes = uint64_t{256} << 20;  // whole, so that what is new can be told
  endless.kernel = false;                    // the double is asked for it, and the simulator has none
  HC_TRY_VOID(sim_->prepare(endless));
  return perf_.prepare(config);
}

Result<std::vector<std::string>> LivePtSource::command(const std::vector<std::string>& argv) {
  return sim_->command(argv);
}

Result<void> LivePtSource::on_started(Pid pid) {
  HC_TRY_VOID(sim_->on_started(pid));
  return perf_.on_started(pid);
}

capture::RecordFate LivePtSource::on_record(CpuId ring, perf::Record& record, std::span<uint8_t> whole) {
  return sim_->on_record(ring, record, whole);
}

Result<void> LivePtSource::poll() {
  HC_TRY_VOID(sim_->poll());
  return perf_.poll();
}

void LivePtSource::feed(const std::vector<Cut>& cuts) {
  for (const Cut& cut : cuts) {
    HC_CHECK(!cut.info.wrapped);
    size_t& fed = fed_[cut.info.cpu];
    kernel_.trace(cut.info.cpu, ByteSpan(cut.bytes).subspan(fed));
    fed = cut.bytes.size();
  }
}

Result<std::optional<std::vector<Cut>>> LivePtSource::take_snapshot() {
  HC_TRY(const auto cuts, sim_->take_snapshot());
  if (!cuts) return std::optional<std::vector<Cut>>();
  feed(*cuts);
  if (before_freeze) before_freeze();
  HC_TRY_VOID(perf_.start_snapshot());
  return perf_.take_snapshot();
}

Result<std::vector<Cut>> LivePtSource::freeze() {
  HC_TRY(const std::vector<Cut> cuts, sim_->freeze());
  feed(cuts);
  if (before_freeze) before_freeze();
  return perf_.freeze();
}

void LivePtSource::describe(SnapshotInfo& info) const {
  sim_->describe(info);
  SnapshotInfo perf;
  perf_.describe(perf);
  info.notes.insert(info.notes.end(), perf.notes.begin(), perf.notes.end());
}

}  // namespace hindcast::test
