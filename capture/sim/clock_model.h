// The clocks of one simulated CPU: crystal clock and core cycles as functions of the TSC.
//
// The TSC is the host's own. Everything else is made up, seeded: the core clock drifts all the time and changes its
// ratio now and then; the CBR that software sees lags that change; in a C-state the core clock stands still.
#pragma once

#include <cstdint>

#include "capture/sim/seeded_random.h"
#include "hindcast/pt_config.h"

namespace hindcast::sim {

inline constexpr uint64_t kNever = ~uint64_t{0};

/// A CPU to simulate on a host whose TSC runs at tsc_hz: a Skylake-SP (family 6 model 85) with a 24 MHz crystal, CPUID
/// leaf 15H with EAX = 2 as on real ones, and the nominal ratio that comes nearest.
PtCpu simulated_cpu(uint64_t tsc_hz);

/// Queries must come with times that never decrease. One thread.
class ClockModel {
 public:
  /// start: the TSC from which on it may be asked. purpose: differs from CPU to CPU. changing: false keeps the core
  /// clock at its nominal frequency.
  ClockModel(const PtCpu& cpu, uint64_t tsc_hz, uint64_t start, uint64_t seed, uint64_t purpose, bool changing = true);

  /// Crystal clock ticks at t: floor(t * den / num).
  uint64_t ctc(uint64_t tsc) const { return static_cast<uint64_t>(Wide{tsc} * den_ / num_); }
  /// The first TSC value at which the crystal clock stands at ctc.
  uint64_t tsc_of_ctc(uint64_t ctc) const { return static_cast<uint64_t>((Wide{ctc} * num_ + den_ - 1) / den_); }

  /// Core cycles since the model began.
  uint64_t cycles(uint64_t tsc) {
    while (tsc >= segment_end_) next_segment();
    return segment_cycles_ + (((tsc - segment_start_) * segment_rate_) >> kRateShift);
  }

  /// What CBR says now.
  uint8_t cbr() const { return cbr_; }
  /// The next time at which update() has something to do; it must then be called.
  uint64_t next_update() const { return segment_end_ < cbr_change_at_ ? segment_end_ : cbr_change_at_; }
  /// True when cbr() became another.
  bool update(uint64_t tsc);

  /// The core clock stands still from sleep to wake; wake() may choose another ratio.
  void sleep(uint64_t tsc);
  void wake(uint64_t tsc);

 private:
  using Wide = unsigned __int128;
  static constexpr unsigned kRateShift = 24;

  void start_segment(uint64_t tsc);
  void next_segment();
  void plan_change(uint64_t tsc);

  uint32_t num_, den_;
  uint64_t ticks_per_us_;
  uint8_t nominal_;
  bool changing_;
  SeededRandom random_;
  bool asleep_ = false;
  uint8_t ratio_;     // the real one
  uint8_t cbr_;       // the one that was announced
  double drift_ = 0;  // relative deviation of the real frequency from ratio_
  uint64_t segment_start_ = 0, segment_end_ = 0, segment_cycles_ = 0, segment_rate_ = 0;
  uint64_t ratio_change_at_ = kNever;
  uint64_t cbr_change_at_ = kNever;
};

}  // namespace hindcast::sim
