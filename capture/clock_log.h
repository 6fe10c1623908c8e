// Samples of CLOCK_MONOTONIC against the TSC, taken again and again: the clock of BPF records is slewed, so a line between
// two samples holds only between these two.
#pragma once

#include <chrono>
#include <deque>

#include "hindcast/clock_sample.h"
#include "hindcast/cut.h"

namespace hindcast::capture {

class ClockLog {
 public:
  /// Dense enough: NTP changes the rate once a second at most, mostly by less than 1 ppm, which is 25 ns in the middle
  /// between two samples.
  static constexpr std::chrono::milliseconds kEvery{100};
  /// About 1 h 49 min; 1.5 MiB.
  static constexpr size_t kMost = 65536;

  /// Takes a sample when one is due.
  void poll(std::chrono::steady_clock::time_point now);
  /// Takes one now.
  void sample();
  /// Forgets what no record older than `ns` needs: all but the last sample before it.
  void forget_before(uint64_t ns);

  /// As a stream without a number.
  Cut stream() const;
  /// Samples that had to go for want of room: records of their time have no known TSC.
  uint64_t dropped() const { return dropped_; }

 private:
  std::deque<ClockSample> samples_;
  std::chrono::steady_clock::time_point next_{};
  uint64_t dropped_ = 0;
};

}  // namespace hindcast::capture
