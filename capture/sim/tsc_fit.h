// The relation between the TSC and CLOCK_MONOTONIC_RAW, found from samples and stated as an enclosure.
//
// With clocksource tsc the kernel computes CLOCK_MONOTONIC_RAW as base + (tsc * mult >> shift) with constants that it makes
// from a frequency in whole kHz (clocks_calc_mult_shift in kernel/time/clocksource.c). So the samples only have to decide
// which kHz it is; then the relation holds exactly for as long as the machine is up. When no such constant fits (another
// clocksource), a line through the samples is used and its worst residual is the error.
#pragma once

#include <deque>
#include <optional>

#include "hindcast/clock_sample.h"
#include "hindcast/pt_config.h"

namespace hindcast::sim {

/// Reads CLOCK_MONOTONIC_RAW between two TSC readings; the tightest of a few tries. About 1 us.
ClockSample sample_raw_clock();

class TscFit {
 public:
  /// Samples in order of time.
  void add(const ClockSample& sample);
  /// The best relation so far; known is false before two samples some time apart.
  const TscConversion& conversion() const { return conversion_; }
  /// TSC ticks a second, as far as known.
  uint64_t tsc_hz() const { return tsc_hz_; }
  /// The relation is the kernel's own, not just a line through samples.
  bool exact() const { return exact_; }

  /// The middle of the TSC values at which the record clock stood at t.
  uint64_t to_tsc(RecordTime t) const;

 private:
  void fit();
  bool try_khz(uint64_t khz);
  void fit_line();

  static constexpr size_t kKept = 256;
  std::deque<ClockSample> samples_;
  TscConversion conversion_;
  uint64_t tsc_hz_ = 0;
  bool exact_ = false;
};

}  // namespace hindcast::sim
