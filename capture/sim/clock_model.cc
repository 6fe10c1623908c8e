#include "capture/sim/clock_model.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace hindcast::sim {
namespace {

constexpr double kCrystalHz = 24e6;
constexpr double kBusHz = 100e6;
constexpr double kMaxDrift = 0.002;  // spread spectrum, temperature, voltage: the core clock is never quite its ratio

}  // namespace

PtCpu simulated_cpu(uint64_t tsc_hz) {
  PtCpu cpu;
  cpu.family = 6;
  cpu.model = 85;
  cpu.stepping = 4;
  cpu.tsc_ctc_den = 2;
  cpu.tsc_ctc_num =
      std::max<uint32_t>(2, static_cast<uint32_t>(std::lround(2.0 * static_cast<double>(tsc_hz) / kCrystalHz)));
  cpu.ctc_hz = static_cast<uint32_t>(tsc_hz * cpu.tsc_ctc_den / cpu.tsc_ctc_num);
  cpu.nominal_ratio = static_cast<uint8_t>(std::clamp(std::lround(static_cast<double>(tsc_hz) / kBusHz), 1L, 200L));
  return cpu;
}

ClockModel::ClockModel(const PtCpu& cpu, uint64_t tsc_hz, uint64_t start, uint64_t seed, uint64_t purpose,
                       bool changing)
    : num_(cpu.tsc_ctc_num),
      den_(cpu.tsc_ctc_den),
      ticks_per_us_(std::max<uint64_t>(1, tsc_hz / 1000000)),
      nominal_(cpu.nominal_ratio),
      changing_(changing),
      random_(seed, purpose),
      ratio_(cpu.nominal_ratio),
      cbr_(cpu.nominal_ratio) {
  plan_change(start);
  start_segment(start);
}

void ClockModel::start_segment(uint64_t tsc) {
  segment_start_ = tsc;
  if (!changing_) {
    segment_end_ = tsc + (uint64_t{1} << 36);  // keeps the product in cycles() within 64 bits
  } else {
    drift_ = std::clamp(drift_ + (random_.unit() - 0.5) * 0.001, -kMaxDrift, kMaxDrift);
    segment_end_ = tsc + random_.between(50, 200) * ticks_per_us_;
    if (ratio_change_at_ > tsc) segment_end_ = std::min(segment_end_, ratio_change_at_);
  }
  segment_rate_ = asleep_ ? 0
                          : static_cast<uint64_t>(std::ldexp(static_cast<double>(ratio_) / nominal_ * (1 + drift_),
                                                             static_cast<int>(kRateShift)));
}

void ClockModel::plan_change(uint64_t tsc) {
  if (changing_)
    ratio_change_at_ = tsc + static_cast<uint64_t>(random_.exponential(20000)) * ticks_per_us_ + ticks_per_us_;
}

void ClockModel::next_segment() {
  const uint64_t at = segment_end_;
  segment_cycles_ += ((at - segment_start_) * segment_rate_) >> kRateShift;
  if (at == ratio_change_at_) {
    const int low = std::max(4, nominal_ / 2), high = nominal_ + 9;
    ratio_ = static_cast<uint8_t>(random_.between(static_cast<uint64_t>(low), static_cast<uint64_t>(high)));
    cbr_change_at_ = at + random_.between(1, 30) * ticks_per_us_;  // announced late
    plan_change(cbr_change_at_);
  }
  start_segment(at);
}

bool ClockModel::update(uint64_t tsc) {
  (void)cycles(tsc);
  if (cbr_change_at_ > tsc) return false;
  cbr_change_at_ = kNever;
  return std::exchange(cbr_, ratio_) != ratio_;
}

void ClockModel::sleep(uint64_t tsc) {
  segment_cycles_ = cycles(tsc);
  asleep_ = true;
  segment_start_ = tsc;
  segment_end_ = kNever;
  segment_rate_ = 0;
  cbr_change_at_ = kNever;
}

void ClockModel::wake(uint64_t tsc) {
  asleep_ = false;
  if (changing_ && random_.chance(0.5)) {
    const int low = std::max(4, nominal_ / 2), high = nominal_ + 9;
    ratio_ = static_cast<uint8_t>(random_.between(static_cast<uint64_t>(low), static_cast<uint64_t>(high)));
  }
  cbr_ = ratio_;
  plan_change(tsc);
  start_segment(tsc);
}

}  // namespace hindcast::sim
