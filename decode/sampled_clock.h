// Times of a clock that was only sampled, as intervals of the TSC.
#pragma once

#include <cstdint>
#include <vector>

#include "hindcast/clock_sample.h"
#include "hindcast/units.h"

namespace hindcast::decode {

/// Between two samples the clock is taken for a line, which a slewed clock is not. What bounds the error: how far the lines
/// of the neighbouring pairs of samples, drawn on, miss the sample at the other end. That holds when the clock's rate changed
/// at most once between two samples; NTP changes it once a second at most. Where a pair has no neighbour, and outside of all
/// samples, only what every clock that goes forward keeps is claimed.
class SampledClock {
 public:
  /// samples: as read_clock_samples() gives them. slack_ns: how far a reading may be off the clock itself.
  SampledClock(std::vector<ClockSample> samples, uint64_t slack_ns)
      : samples_(std::move(samples)), slack_ns_(slack_ns) {}

  /// When the clock stood at ns; a side without a bound is Tsc::min() or Tsc::max(). O(log samples).
  TscInterval to_tsc(uint64_t ns) const;
  bool empty() const { return samples_.empty(); }

 private:
  std::vector<ClockSample> samples_;  // both counters never decrease, and stay below kMostCounted
  uint64_t slack_ns_;
};

}  // namespace hindcast::decode
