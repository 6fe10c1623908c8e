#include "capture/sim/tsc_fit.h"

#include <gtest/gtest.h>

#include <thread>

#include "capture/sim/seeded_random.h"

namespace hindcast::sim {
namespace {

/// A clock that relates to the TSC as the kernel's does at 2596154 kHz.
struct FakeClock {
  static constexpr uint32_t kMult = static_cast<uint32_t>(((uint64_t{1000000} << 24) + 2596154 / 2) / 2596154);
  uint64_t zero = 123456789;
  uint64_t ns(uint64_t tsc) const {
    return zero + static_cast<uint64_t>((static_cast<unsigned __int128>(tsc) * kMult) >> 24);
  }
};

TEST(SimTscFit, FindsTheKernelsOwnConstants) {
  FakeClock clock;
  SeededRandom random(1, 1);
  TscFit fit;
  uint64_t tsc = uint64_t{1} << 50;
  for (int i = 0; i < 2000; ++i) {
    const uint64_t before = tsc, read = before + random.between(20, 60), after = read + random.between(20, 60);
    fit.add({before, clock.ns(read), after});
    tsc += 13000000;  // 5 ms
  }
  ASSERT_TRUE(fit.exact());
  EXPECT_EQ(fit.conversion().mult, FakeClock::kMult);
  EXPECT_EQ(fit.conversion().shift, 24);
  EXPECT_NEAR(static_cast<double>(fit.tsc_hz()), 2596154000.0, 1000.0);
  EXPECT_LE(fit.conversion().error_ticks, 40u);
  for (int i = 0; i < 1000; ++i) {
    const uint64_t at = (uint64_t{1} << 50) + random.next() % (tsc - (uint64_t{1} << 50));
    EXPECT_TRUE(fit.conversion().to_tsc(RecordTime(clock.ns(at))).contains(Tsc(at)));
    EXPECT_NEAR(static_cast<double>(static_cast<int64_t>(fit.to_tsc(RecordTime(clock.ns(at))) - at)), 0, 60);
  }
}

TEST(SimTscFit, AClockThatNoConstantFitsIsEnclosedAllTheSame) {
  SeededRandom random(2, 1);
  TscFit fit;
  const uint64_t begin = uint64_t{1} << 50;
  const auto ns = [&](uint64_t tsc) {
    return 1000 + static_cast<uint64_t>(static_cast<double>(tsc - begin) / 2.5961543217);
  };
  for (int i = 0; i < 500; ++i) {
    const uint64_t tsc = begin + static_cast<uint64_t>(i) * 26000000;
    fit.add({tsc, ns(tsc + 40), tsc + 80});
  }
  ASSERT_TRUE(fit.conversion().known);
  for (int i = 0; i < 1000; ++i) {
    const uint64_t at = begin + random.next() % (uint64_t{499} * 26000000);
    EXPECT_TRUE(fit.conversion().to_tsc(RecordTime(ns(at))).contains(Tsc(at)));
  }
}

TEST(SimTscFit, AnswersForThisMachine) {
  TscFit fit;
  for (int i = 0; i < 30; ++i) {
    fit.add(sample_raw_clock());
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  ASSERT_TRUE(fit.conversion().known);
  EXPECT_GT(fit.tsc_hz(), 100000000u);
  for (int i = 0; i < 100; ++i) {
    const ClockSample s = sample_raw_clock();
    const TscInterval found = fit.conversion().to_tsc(RecordTime(s.ns));
    // wide enough for the clock reading to lie between its two neighbours
    EXPECT_LE(found.earliest.value(), s.tsc_after + 1000);
    EXPECT_GE(found.latest.value() + 1000, s.tsc_before);
  }
}

TEST(SimTscFit, OneSampleSaysNothing) {
  TscFit fit;
  fit.add({100, 100, 200});
  EXPECT_FALSE(fit.conversion().known);
}

}  // namespace
}  // namespace hindcast::sim
