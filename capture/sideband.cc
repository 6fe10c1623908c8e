// All sideband rings of one host as one stream of records, in an order that respects time across CPUs.
#include "capture/sideband.h"

#include <algorithm>
#include <ctime>
#include <queue>

#include <x86intrin.h>

#include "capture/record_builder.h"
#include "capture/tsc_page.h"

namespace hindcast::capture {

namespace {

constexpr size_t kAlarmRing = size_t{16} << 10;
constexpr size_t kMostWaiting = size_t{64} << 20;

perf::Record as_record(ByteSpan bytes) {
  perf::Record record;
  perf::RecordReader reader(bytes);
  HC_CHECK(reader.next(record));  // SidebandRing hands out whole records only
  return record;
}

}  // namespace

Result<Sideband> Sideband::open(PerfCalls& calls, const SidebandConfig& config, std::vector<std::string>& notes) {
  if (config.cpus.empty()) return Error{Errc::usage, "cannot trace: no CPUs given", {}, {}};
  Sideband s;
  s.calls_ = &calls;
  s.config_ = config;
  HC_TRY(s.attr_, negotiate_sideband(calls, sideband_attr(config.clock, config.wakeup_bytes),
                                     static_cast<int>(config.cpus.front().value()), notes));
  for (const CpuId cpu : config.cpus) {
    const std::string object = "CPU " + std::to_string(cpu.value()) + ": sideband";
    HC_TRY(SidebandRing ring,
           SidebandRing::open(calls, s.attr_, -1, static_cast<int>(cpu.value()), config.ring_bytes, object));
    if (ring.ring_bytes() < config.ring_bytes && cpu == config.cpus.front())
      notes.push_back("sideband rings are " + std::to_string(ring.ring_bytes() >> 10) + " KiB a CPU instead of " +
                      std::to_string(config.ring_bytes >> 10) + " KiB: the kernel locks no more memory for us");
    s.rings_.push_back({cpu, RingKind::sideband, std::move(ring), {}, 0, 0});
  }
  return s;
}

Result<void> Sideband::watch_page_faults(Pid pid) {
  perf_event_attr attr = page_fault_attr(config_.clock, config_.wakeup_bytes);
  attr.inherit = 1;
  for (const CpuId cpu : config_.cpus) {
    const std::string object = "CPU " + std::to_string(cpu.value()) + ": page faults";
    HC_TRY(SidebandRing ring, SidebandRing::open(*calls_, attr, pid.value(), static_cast<int>(cpu.value()),
                                                 config_.fault_ring_bytes, object));
    rings_.push_back({cpu, RingKind::page_faults, std::move(ring), {}, 0, 0});
  }
  return {};
}

Result<void> Sideband::wake_on_mappings(Pid pid) {
  perf_event_attr attr = mapping_alarm_attr(config_.clock);
  for (const CpuId cpu : config_.cpus) {
    const std::string object = "CPU " + std::to_string(cpu.value()) + ": mappings";
    HC_TRY(SidebandRing ring,
           SidebandRing::open(*calls_, attr, pid.value(), static_cast<int>(cpu.value()), kAlarmRing, object));
    alarms_.push_back(std::move(ring));
  }
  return {};
}

Result<void> Sideband::enable() {
  for (Ring& r : rings_) HC_TRY_VOID(r.ring.enable());
  for (SidebandRing& r : alarms_) HC_TRY_VOID(r.enable());
  return {};
}

Result<void> Sideband::disable() {
  for (SidebandRing& r : alarms_) HC_TRY_VOID(r.disable());
  for (Ring& r : rings_) HC_TRY_VOID(r.ring.disable());
  return {};
}

std::optional<RecordTime> Sideband::now() const {
  if (config_.clock == RecordClock::monotonic_raw) {
    timespec t{};
    HC_CHECK(::clock_gettime(CLOCK_MONOTONIC_RAW, &t) == 0);
    return RecordTime(static_cast<uint64_t>(t.tv_sec) * 1000000000u + static_cast<uint64_t>(t.tv_nsec));
  }
  const TscConversion c = read_tsc_conversion(page());
  if (!c.known) return std::nullopt;
  return c.to_record_time(Tsc(__rdtsc()));
}

void Sideband::drain(const std::function<void(CpuId, const perf::Record&)>& sink) {
  for (SidebandRing& r : alarms_) r.drain([](ByteSpan) {});
  for (Ring& r : rings_)
    if (r.waiting.bytes() <= kMostWaiting) take(r, sink);
}

void Sideband::take(Ring& r, const std::function<void(CpuId, const perf::Record&)>& sink) {
  const auto keep = [&](ByteSpan bytes) {
    const perf::Record record = as_record(bytes);
    if (const auto time = record_time(record, perf::kOurSampleType); time && time->value() > r.last_time)
      r.last_time = time->value();
    newest_ = std::max(newest_, r.last_time);
    r.waiting.push({r.last_time, arrivals_++}, bytes);
    if (sink) sink(r.cpu, record);
  };
  r.ring.drain(keep);
  if (r.ring.damaged() != r.damaged) {
    r.damaged = r.ring.damaged();
    std::vector<uint8_t> lost;
    append_lost_record(lost, 0, 1, {RecordTime(r.last_time), r.cpu, Pid(0), Tid(0)});
    keep(lost);
  }
}

Result<void> Sideband::add_cpu(CpuId cpu) {
  const auto old = std::find_if(rings_.begin(), rings_.end(),
                                [cpu](const Ring& r) { return r.cpu == cpu && r.kind == RingKind::sideband; });
  if (old != rings_.end()) {
    take(*old, {});
    HC_TRY_VOID(old->ring.disable());
  }
  HC_TRY(SidebandRing ring, SidebandRing::open(*calls_, attr_, -1, static_cast<int>(cpu.value()), config_.ring_bytes,
                                               "CPU " + std::to_string(cpu.value()) + ": sideband"));
  HC_TRY_VOID(ring.enable());
  if (old != rings_.end()) {
    old->ring = std::move(ring);
    old->damaged = 0;
  } else {
    config_.cpus.push_back(cpu);
    rings_.push_back({cpu, RingKind::sideband, std::move(ring), {}, 0, 0});
  }
  return {};
}

void Sideband::deliver(RecordTime until, const std::function<void(Delivered&)>& sink) {
  using Entry = std::pair<OrderKey, Ring*>;
  const auto later = [](const Entry& a, const Entry& b) { return b.first < a.first; };
  std::priority_queue<Entry, std::vector<Entry>, decltype(later)> next(later);
  const auto offer = [&](Ring& r) {
    if (!r.waiting.empty() && r.waiting.front_key().time <= until.value()) next.push({r.waiting.front_key(), &r});
  };
  for (Ring& r : rings_) offer(r);
  while (!next.empty()) {
    const auto [key, r] = next.top();
    next.pop();
    if (key.time < delivered_until_) late_++;
    Delivered d{r->cpu, r->kind, key, r->waiting.front()};
    sink(d);
    r->waiting.pop();
    offer(*r);
  }
  delivered_until_ = std::max(delivered_until_, until.value() + (until < RecordTime::max() ? 1 : 0));
}

size_t Sideband::ring_bytes() const { return rings_.front().ring.ring_bytes(); }

const perf_event_mmap_page* Sideband::page() const { return rings_.front().ring.page(); }

std::vector<int> Sideband::wakeup_fds() const {
  std::vector<int> fds;
  for (const Ring& r : rings_)
    if (r.kind == RingKind::sideband) fds.push_back(r.ring.fd().get());
  for (const SidebandRing& r : alarms_) fds.push_back(r.fd().get());
  return fds;
}

}  // namespace hindcast::capture
