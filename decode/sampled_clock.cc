#include "decode/sampled_clock.h"

#include <algorithm>

namespace hindcast::decode {

namespace {

using Wide = __int128;

Wide middle(const ClockSample& s) { return Wide(s.tsc_before) + (s.tsc_after - s.tsc_before) / 2; }

/// Where the line through (ns, tsc) of a and b stands at ns. b.ns > a.ns.
Wide on_line(const ClockSample& a, Wide tsc_a, const ClockSample& b, Wide tsc_b, uint64_t ns) {
  const Wide over = Wide(ns) - Wide(a.ns);
  return tsc_a + (tsc_b - tsc_a) * over / Wide(b.ns - a.ns);
}

/// How far the line through a and b misses c.
Wide miss(const ClockSample& a, const ClockSample& b, const ClockSample& c) {
  if (b.ns == a.ns) return 0;
  const Wide d = on_line(a, middle(a), b, middle(b), c.ns) - middle(c);
  return d < 0 ? -d : d;
}

Tsc clamped(Wide v, Wide low, Wide high) { return Tsc(static_cast<uint64_t>(std::clamp(v, low, high))); }

}  // namespace

TscInterval SampledClock::to_tsc(uint64_t ns) const {
  TscInterval out = TscInterval::unknown();
  // the first that is later
  const auto next =
      std::upper_bound(samples_.begin(), samples_.end(), ns, [](uint64_t t, const ClockSample& s) { return t < s.ns; });
  if (next != samples_.begin()) out.earliest = Tsc(std::prev(next)->tsc_before);
  if (next != samples_.end()) out.latest = Tsc(next->tsc_after);
  if (next == samples_.begin() || next == samples_.end()) return out;
  const auto before = std::prev(next);
  const bool has_left = before != samples_.begin(), has_right = std::next(next) != samples_.end();
  if (!has_left && !has_right) return out;
  Wide error = 0;
  if (has_left) error = std::max(error, miss(*std::prev(before), *before, *next));
  if (has_right) error = std::max(error, miss(*next, *std::next(next), *before));
  const Wide ticks = Wide(next->tsc_after) - Wide(before->tsc_before);
  error += 1 + ticks * Wide(slack_ns_) / Wide(next->ns - before->ns);
  const Wide low = out.earliest.value(), high = out.latest.value();
  out.earliest =
      clamped(on_line(*before, Wide(before->tsc_before), *next, Wide(next->tsc_before), ns) - error, low, high);
  out.latest = clamped(on_line(*before, Wide(before->tsc_after), *next, Wide(next->tsc_after), ns) + error, low, high);
  return out;
}

}  // namespace hindcast::decode
