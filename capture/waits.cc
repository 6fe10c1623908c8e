#include "capture/waits.h"

#include "hindcast/wait_record.h"

namespace hindcast::capture {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kMissedLook{500};  // it asks the kernel about each program

constexpr size_t kMostWaiting = size_t{64} << 20;

uint64_t monotonic(Clock::time_point t = Clock::now()) {
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(t.time_since_epoch()).count());
}

}  // namespace

Waits::Waits(WaitProbe probe, ClockLog clock, size_t window_bytes)
    : probe_(std::move(probe)), store_(window_bytes), clock_(std::move(clock)) {
  looked_ = missed_looked_ = monotonic();
  dropped_.assign(probe_.dropped().begin(), probe_.dropped().end());
  missed_ = probe_.missed();
}

Result<Waits> Waits::open(const WaitProbeConfig& config, size_t window_bytes) {
  ClockLog clock;
  clock.sample();  // before any record
  HC_TRY(WaitProbe probe, WaitProbe::open(config));
  return Waits(std::move(probe), std::move(clock), window_bytes);
}

void Waits::add_lost(uint32_t cpu, uint64_t until, uint64_t count) {
  wait::Lost lost{};
  lost.header = {sizeof lost, wait::kLost, cpu, -1, -1, until};
  lost.from = cpu == kNoCpu.value() ? missed_looked_ : looked_;
  lost.count = count;
  lost_ += count;
  waiting_.push({until, 0}, {reinterpret_cast<const uint8_t*>(&lost), sizeof lost});
}

/// A counter that grew between two looks was advanced after the clock was read before the first, and before it is read
/// after the second.
void Waits::look_for_losses(bool missed_too) {
  const uint64_t before = monotonic();
  const std::span<const uint64_t> now = probe_.dropped();
  for (size_t cpu = 0; cpu < now.size(); ++cpu) {
    const uint64_t count = __atomic_load_n(&now[cpu], __ATOMIC_RELAXED);
    if (count == dropped_[cpu]) continue;
    add_lost(static_cast<uint32_t>(cpu), monotonic(), count - dropped_[cpu]);
    dropped_[cpu] = count;
  }
  looked_ = before;
  if (!missed_too) return;
  const uint64_t missed = probe_.missed();
  if (missed != missed_) add_lost(kNoCpu.value(), monotonic(), missed - missed_);
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
  clock_.poll(now);
}

void Waits::finish() {
  drain();
  look_for_losses(true);
  clock_.sample();
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
  if (const uint64_t oldest = store_.oldest()) clock_.forget_before(oldest);
}

std::vector<Cut> Waits::streams() {
  clock_.sample();
  std::vector<Cut> out;
  out.push_back(store_.stream());
  out.push_back(clock_.stream());
  return out;
}

}  // namespace hindcast::capture
