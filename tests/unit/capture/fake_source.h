// A PtSource for tests: passes the command through and hands out the PT bytes that it was given.
#pragma once

#include <functional>
#include <map>

#include "capture/pt_source.h"

namespace hindcast::capture {

class FakeSource : public PtSource {
 public:
  explicit FakeSource(std::string name) : name_(std::move(name)) {}
  std::string name() const override { return name_; }
  Result<void> prepare(const PtSourceConfig& config) override {
    config_ = config;
    return prepare_result;
  }
  Result<std::vector<std::string>> command(const std::vector<std::string>& argv) override { return argv; }
  Result<void> on_started(Pid pid) override {
    started = pid;
    return {};
  }
  RecordFate on_record(CpuId cpu, perf::Record& record, std::span<uint8_t> whole) override {
    EXPECT_EQ(whole.size(), record.body.size() + 8);
    types[record.type]++;
    const auto id = record.type == perf::kSample ? std::nullopt : perf::read_sample_id(record, perf::kOurSampleType);
    if (id && id->time && record.type != perf::kLost) {
      if (*id->time < last_time[cpu]) out_of_order++;
      last_time[cpu] = *id->time;
      if (*id->time <= complete_until) after_complete++;
    }
    return record.type == drop_type ? RecordFate::drop : RecordFate::keep;
  }
  void sideband_complete_until(RecordTime t) override {
    if (t < complete_until) out_of_order++;
    complete_until = t;
  }
  Result<void> poll() override { return on_poll ? on_poll() : Result<void>(); }
  Result<void> start_snapshot() override {
    ++snapshots;
    return {};
  }
  Result<std::optional<std::vector<Cut>>> take_snapshot() override {
    HC_TRY(std::vector<Cut> cuts, freeze());
    return std::optional(std::move(cuts));
  }
  Result<std::vector<Cut>> freeze() override {
    std::vector<Cut> cuts;
    for (const CpuId cpu : config_.cpus) {
      Cut c;
      c.info.cpu = cpu;
      c.bytes = {1, 2, 3, static_cast<uint8_t>(cpu.value())};
      c.info.bytes = c.bytes.size();
      c.info.ring_bytes = config_.ring_bytes;
      cuts.push_back(std::move(c));
    }
    return cuts;
  }
  void describe(SnapshotInfo& info) const override { info.notes.push_back("a fake source"); }
  std::vector<MemoryCopy> memory_copies() override { return copies; }

  Result<void> prepare_result;
  std::function<Result<void>()> on_poll;  // the recorder reads no ring while this runs
  const PtSourceConfig& config() const { return config_; }

  Pid started = kNoPid;
  std::map<uint32_t, uint64_t> types;
  std::map<CpuId, RecordTime> last_time;
  RecordTime complete_until{0};
  uint64_t out_of_order = 0, after_complete = 0;
  uint64_t snapshots = 0;
  uint32_t drop_type = 0xffffffff;
  std::vector<MemoryCopy> copies;

 private:
  std::string name_;
  PtSourceConfig config_;
};

}  // namespace hindcast::capture
