#include "capture/sim/clock_model.h"

#include <gtest/gtest.h>

namespace hindcast::sim {
namespace {

constexpr uint64_t kHz = 2596154000;
constexpr uint64_t kStart = uint64_t{1} << 50;

TEST(SimClockModel, TheCpuIsOneThatExists) {
  const PtCpu cpu = simulated_cpu(kHz);
  EXPECT_EQ(cpu.family, 6);
  EXPECT_EQ(cpu.model, 85);
  EXPECT_EQ(cpu.tsc_ctc_den, 2u);
  EXPECT_EQ(cpu.tsc_ctc_num, 216u);  // 24 MHz
  EXPECT_EQ(cpu.nominal_ratio, 26);
}

TEST(SimClockModel, TheCrystalClockTicksAtItsRatio) {
  ClockModel m(simulated_cpu(kHz), kHz, kStart, 1, 0);
  for (uint64_t t = kStart; t < kStart + 1000; ++t) {
    const uint64_t ctc = m.ctc(t);
    EXPECT_LE(m.tsc_of_ctc(ctc), t);
    EXPECT_GT(m.tsc_of_ctc(ctc + 1), t);
  }
  EXPECT_EQ(m.tsc_of_ctc(1001) - m.tsc_of_ctc(1000), 108u);
}

TEST(SimClockModel, CyclesNeverGoBackAndKeepToTheRatioWithinItsDrift) {
  ClockModel m(simulated_cpu(kHz), kHz, kStart, 7, 3);
  uint64_t last = m.cycles(kStart), changes = 0;
  for (uint64_t t = kStart; t < kStart + kHz / 2; t += 20000) {
    const uint64_t before = m.cbr();
    changes += m.update(t);
    const uint64_t c = m.cycles(t);
    ASSERT_GE(c, last);
    last = c;
    EXPECT_TRUE(m.cbr() == before || changes > 0);
  }
  EXPECT_GT(changes, 5u);
  EXPECT_LT(changes, 100u);
  // half a second at ratios between 13 and 35 of nominal 26
  EXPECT_GT(static_cast<double>(last), 0.49 * kHz / 2);
  EXPECT_LT(static_cast<double>(last), 1.36 * kHz / 2);
}

TEST(SimClockModel, CyclesStandStillInSleep) {
  ClockModel m(simulated_cpu(kHz), kHz, kStart, 7, 3);
  const uint64_t before = m.cycles(kStart + 1000);
  m.sleep(kStart + 1000);
  EXPECT_EQ(m.cycles(kStart + kHz), before);
  m.wake(kStart + kHz);
  EXPECT_EQ(m.cycles(kStart + kHz), before);
  EXPECT_GT(m.cycles(kStart + kHz + 1000), before);
}

TEST(SimClockModel, SeedsDecideEverything) {
  ClockModel a(simulated_cpu(kHz), kHz, kStart, 7, 3), b(simulated_cpu(kHz), kHz, kStart, 7, 3),
      c(simulated_cpu(kHz), kHz, kStart, 8, 3);
  EXPECT_EQ(a.cycles(kStart + kHz), b.cycles(kStart + kHz));
  EXPECT_NE(a.cycles(kStart + 2 * kHz), c.cycles(kStart + 2 * kHz));
}

}  // namespace
}  // namespace hindcast::sim
