#include "capture/waits.h"

#include "hindcast/wait_record.h"

namespace hindcast::capture {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kMissedLook{500};  // it asks the kernel about each program

constexpr size_t kMostWaiting = size_t{64} << 20;

uint64_t monotonic(Clock::time_point t) {
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(t.time_since_epoch()).count());
}

}  // namespace

Waits::Waits(WaitProbe probe, size_t window_bytes)
    : probe_(std::move(probe)), store_(StreamKind::waits, window_bytes), drops_(probe_.dropped()) {
  missed_looked_ = monotonic_ns();
  missed_ = probe_.missed();
}

Result<Waits> Waits::open(const WaitProbeConfig& config, size_t window_bytes) {
  HC_TRY(WaitProbe probe, WaitProbe::open(config));
  return Waits(std::move(probe), window_bytes);
}

void Waits::add_lost(const wait::Lost& lost) {
  lost_ += lost.count;
  waiting_.push({lost.header.time, 0}, {reinterpret_cast<const uint8_t*>(&lost), sizeof lost});
}

void Waits::look_for_losses(bool missed_too) {
  drops_.look(probe_.dropped(), [this](const wait::Lost& lost) { add_lost(lost); });
  if (!missed_too) return;
  const uint64_t before = monotonic_ns(), missed = probe_.missed();
  if (missed != missed_) add_lost(lost_record(kNoCpu.value(), missed_looked_, monotonic_ns(), missed - missed_));
  missed_ = missed;
  missed_looked_ = before;
}

void Waits::drain() {
  if (waiting_.bytes() > kMostWaiting) return;  // the kernel counts what finds no room meanwhile
  probe_.drain([this](ByteSpan record) { waiting_.push({ByteReader(record).read<wait::Header>().time, 0}, record); });
}

void Waits::poll() {
  const auto now = Clock::now();
  drain();
  const bool missed_too = now >= next_missed_look_;
  if (missed_too) next_missed_look_ = now + kMissedLook;
  look_for_losses(missed_too);
}

void Waits::finish() {
  drain();
  look_for_losses(true);
}

void Waits::keep(Clock::time_point until, const Filter& filter) {
  const uint64_t limit = monotonic(until);
  RecordFifo later;  // records stand nearly in the order of time, not quite
  for (; !waiting_.empty(); waiting_.pop()) {
    const std::span<uint8_t> whole = waiting_.front();
    if (waiting_.front_key().time > limit) {
      later.push(waiting_.front_key(), whole);
      continue;
    }
    wait::Record record;
    const bool good = wait::Reader(whole).next(record);
    HC_CHECK(good);  // ours, or the kernel's word for word
    if (record.header.kind == wait::kLost || filter(record, whole) == RecordFate::keep) store_.add(whole);
  }
  waiting_ = std::move(later);
}

}  // namespace hindcast::capture
