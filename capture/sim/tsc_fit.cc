#include "capture/sim/tsc_fit.h"

#include <algorithm>
#include <cmath>

#include "capture/sample_clock.h"

namespace hindcast::sim {
namespace {

/// clocks_calc_mult_shift(from = khz, to = 10^6, maxsec = 600 * 1000), as the kernel registers the TSC; and the 11 % headroom for
/// adjustments that __clocksource_update_freq_scale leaves in mult.
void kernel_mult_shift(uint64_t khz, uint32_t& mult, uint16_t& shift) {
  unsigned headroom = 32;
  for (uint64_t tmp = (uint64_t{600} * 1000 * khz) >> 32; tmp; tmp >>= 1) --headroom;
  unsigned sft = 32;
  uint64_t m = 0;
  for (; sft > 0; --sft) {
    m = ((uint64_t{1000000} << sft) + khz / 2) / khz;
    if ((m >> headroom) == 0) break;
  }
  uint32_t value = static_cast<uint32_t>(m);
  while (true) {
    const uint32_t adjustment = static_cast<uint32_t>(uint64_t{value} * 11 / 100);
    if (value + adjustment >= value && value - adjustment <= value) break;
    value >>= 1;
    --sft;
  }
  mult = value;
  shift = static_cast<uint16_t>(sft);
}

uint64_t scaled(uint64_t tsc, uint32_t mult, uint16_t shift) {
  return static_cast<uint64_t>((static_cast<unsigned __int128>(tsc) * mult) >> shift);
}

}  // namespace

ClockSample sample_raw_clock() { return capture::sample_clock(CLOCK_MONOTONIC_RAW); }

void TscFit::add(const ClockSample& sample) {
  samples_.push_back(sample);
  // The oldest stays: a long base line decides the rate. Of the others every second goes when there are many.
  if (samples_.size() > kKept) {
    std::deque<ClockSample> kept;
    for (size_t i = 0; i < samples_.size(); i += 2) kept.push_back(samples_[i]);
    if (samples_.size() % 2 == 0) kept.push_back(samples_.back());
    samples_ = std::move(kept);
  }
  fit();
}

/// The enclosure of `zero` that all samples allow when the TSC runs at khz; false when there is none.
bool TscFit::try_khz(uint64_t khz) {
  TscConversion c;
  kernel_mult_shift(khz, c.mult, c.shift);
  // For each sample some tsc in [before, after] gave ns: ns - scaled(after) <= zero <= ns - scaled(before), with one
  // nanosecond of rounding on either side.
  int64_t low = INT64_MIN, high = INT64_MAX;
  for (const ClockSample& s : samples_) {
    low = std::max(low, static_cast<int64_t>(s.ns - scaled(s.tsc_after, c.mult, c.shift)) - 1);
    high = std::min(high, static_cast<int64_t>(s.ns - scaled(s.tsc_before, c.mult, c.shift)) + 1);
  }
  if (low > high) return false;
  c.zero = static_cast<uint64_t>(low + (high - low) / 2);
  const double ticks_per_ns = static_cast<double>(khz) / 1e6;
  c.error_ticks = static_cast<uint64_t>(std::ceil(static_cast<double>(high - low + 1) / 2 * ticks_per_ns)) + 1;
  c.known = true;
  conversion_ = c;
  tsc_hz_ = khz * 1000;
  return true;
}

void TscFit::fit_line() {
  const ClockSample &a = samples_.front(), &b = samples_.back();
  const double ticks = static_cast<double>(b.tsc_before - a.tsc_before);
  const double ns_per_tick = static_cast<double>(b.ns - a.ns) / ticks;
  TscConversion c;
  c.shift = 31;
  while (std::ldexp(ns_per_tick, c.shift) >= 4294967295.0) --c.shift;
  c.mult = static_cast<uint32_t>(std::lround(std::ldexp(ns_per_tick, c.shift)));
  int64_t low = INT64_MAX, high = INT64_MIN;
  for (const ClockSample& s : samples_) {
    low = std::min(low, static_cast<int64_t>(s.ns - scaled(s.tsc_after, c.mult, c.shift)));
    high = std::max(high, static_cast<int64_t>(s.ns - scaled(s.tsc_before, c.mult, c.shift)));
  }
  c.zero = static_cast<uint64_t>(low + (high - low) / 2);
  c.error_ticks = static_cast<uint64_t>(std::ceil(static_cast<double>(high - low) / 2 / ns_per_tick)) + 1;
  c.known = true;
  conversion_ = c;
  tsc_hz_ = static_cast<uint64_t>(1e9 / ns_per_tick);
}

void TscFit::fit() {
  if (samples_.size() < 2) return;
  const ClockSample &a = samples_.front(), &b = samples_.back();
  const uint64_t ns = b.ns - a.ns;
  if (ns < 1000000) return;
  // kHz between the slowest and the fastest line through the first and the last bracket
  const double slow = static_cast<double>(b.tsc_before - a.tsc_after) / static_cast<double>(ns) * 1e6;
  const double fast = static_cast<double>(b.tsc_after - a.tsc_before) / static_cast<double>(ns) * 1e6;
  const auto low = static_cast<uint64_t>(std::floor(slow)), high = static_cast<uint64_t>(std::ceil(fast));
  exact_ = false;
  if (high - low <= 64) {
    // From the middle outwards, so that the choice does not lean to one side while several fit.
    const uint64_t middle = (low + high) / 2;
    for (uint64_t d = 0; d <= high - low && !exact_; ++d) {
      if (middle + d <= high && try_khz(middle + d))
        exact_ = true;
      else if (d <= middle - low && try_khz(middle - d))
        exact_ = true;
    }
  }
  if (!exact_) fit_line();
}

uint64_t TscFit::to_tsc(RecordTime t) const {
  const TscInterval i = conversion_.to_tsc(t);
  return i.earliest.value() + (i.latest.value() - i.earliest.value()) / 2;
}

}  // namespace hindcast::sim
