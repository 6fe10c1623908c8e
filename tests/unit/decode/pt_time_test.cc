// Timing packets to bounds, rule by rule. The truth on random schedules: pt_time_model_test.
#include "decode/stretches.h"

#include <gtest/gtest.h>

#include <vector>

#include "tests/support/corpus.h"
#include "tests/support/pt_bytes.h"

namespace hindcast::decode {
namespace {

using test::PtBytes;

constexpr uint64_t kMin = 0, kMax = UINT64_MAX;

/// TSC = CTC * 100, one MTC each 8 CTC ticks (800 TSC ticks).
PtTimeConfig config(uint8_t period = 3) {
  PtTimeConfig c;
  c.tsc_ctc_num = 100;
  c.tsc_ctc_den = 1;
  c.mtc_period = period;
  return c;
}

TscInterval interval(uint64_t earliest, uint64_t latest) { return {Tsc(earliest), Tsc(latest)}; }
/// What a reading's upper bound adds: the latency, and one tick of TMA's rounding.
uint64_t latest_mtc(uint64_t tick) { return tick + 1 + kPacketLatency; }

TEST(PtTime, WithoutTimingPacketsAllIsUnknown) {
  const PtBytes t = PtBytes().psb().psbend().tip_pge(1).tnt("T").tip_pgd();
  EXPECT_TRUE(scan_packets(t.bytes(), config()).times.window(0, t.size()).is_unknown());
  EXPECT_TRUE(TimeMap().at(5).is_unknown());
}

TEST(PtTime, TscBoundsWhatFollowsFromBelowAndWhatPrecedesFromAbove) {
  PtBytes t = PtBytes().psb().tsc(5000).psbend();
  const uint64_t pge = t.size();
  t.tip_pge(1);
  const uint64_t pgd = t.size();
  t.tip_pgd().psb().tsc(9000).psbend();
  const TimeMap m = scan_packets(t.bytes(), config()).times;
  EXPECT_EQ(m.at(pge), interval(5000, 9000 + kPacketLatency));
  EXPECT_EQ(m.window(pge, pgd), interval(5000, 9000 + kPacketLatency));
  EXPECT_EQ(m.at(0).latest, Tsc(5000 + kPacketLatency));
  EXPECT_EQ(m.at(0).earliest, Tsc(kMin));
  EXPECT_EQ(m.at(t.size()), interval(9000, kMax));
  EXPECT_EQ(m.readings(), 2u);
}

TEST(PtTime, MtcAfterTmaBoundsBothSides) {
  // At TSC 10000 the CTC was 0x105, and had been for 40 ticks. The next MTC tick is CTC 0x108, 3 ticks of 100 later.
  PtBytes t = PtBytes().psb().tsc(10000).tma(0x105, 40).psbend().mtc(0x108 >> 3);
  const uint64_t between = t.size();
  t.tip_pge(1).mtc(0x110 >> 3);
  const TimeMap m = scan_packets(t.bytes(), config()).times;
  const uint64_t tick = 10000 - 40 + 300;
  EXPECT_EQ(m.at(between), interval(tick - 1, latest_mtc(tick + 800)));
}

TEST(PtTime, MtcWithoutTheClockRatioOrBeforeTmaSaysNothing) {
  PtTimeConfig unknown = config();
  unknown.tsc_ctc_num = 0;
  const PtBytes t = PtBytes().psb().tsc(10000).tma(0x105, 40).psbend().mtc(0x21).tip_pge(1).mtc(0x22);
  EXPECT_EQ(scan_packets(t.bytes(), unknown).times.readings(), 1u);
  const PtBytes no_tma = PtBytes().psb().tsc(10000).psbend().mtc(0x21).tip_pge(1).mtc(0x22);
  EXPECT_EQ(scan_packets(no_tma.bytes(), config()).times.readings(), 1u);
  const PtBytes no_tsc = PtBytes().psb().tma(0x105, 40).psbend().mtc(0x21).tip_pge(1).mtc(0x22);
  EXPECT_EQ(scan_packets(no_tsc.bytes(), config()).times.readings(), 0u);
}

TEST(PtTime, TheFirstBranchPacketAfterAnMtcMayBeOlderThanIt) {
  PtBytes t = PtBytes().psb().tsc(10000).tma(0x100, 0).psbend().tip_pge(1).mtc(0x21);
  const uint64_t first = t.size();
  t.tnt("TTT");
  const uint64_t second = t.size();
  t.tnt("NNN").mtc(0x22);
  const TimeMap m = scan_packets(t.bytes(), config()).times;
  EXPECT_EQ(m.at(first).earliest, Tsc(10000));
  EXPECT_EQ(m.at(second).earliest, Tsc(10800 - 1));
  EXPECT_EQ(m.at(first).latest, Tsc(latest_mtc(11600)));
}

TEST(PtTime, ATipMayHaveBeenDeferredWithItsTnt) {
  PtBytes t = PtBytes().psb().tsc(10000).tma(0x100, 0).psbend().tip_pge(1).mtc(0x21).tnt("TNT");
  const uint64_t tip = t.size();
  t.tip(0x401000);
  const uint64_t tip2 = t.size();
  t.tip(0x402000);
  const uint64_t next = t.size();
  t.tnt("T");
  const TimeMap m = scan_packets(t.bytes(), config()).times;
  EXPECT_EQ(m.at(tip).earliest, Tsc(10000));
  EXPECT_EQ(m.at(tip2).earliest, Tsc(10000));
  EXPECT_EQ(m.at(next).earliest, Tsc(10799));
}

TEST(PtTime, APacketThatIsSentAtOnceIsYoungerThanTheMtcBeforeIt) {
  for (const PtBytes& packet : {PtBytes().fup(1), PtBytes().tip_pgd(), PtBytes().tip_pge(1), PtBytes().mode_exec()}) {
    PtBytes t = PtBytes().psb().tsc(10000).tma(0x100, 0).psbend().mtc(0x21);
    const uint64_t at = t.size();
    t.append(packet);
    EXPECT_EQ(scan_packets(t.bytes(), config()).times.at(at).earliest, Tsc(10799));
  }
}

TEST(PtTime, AnotherTimingPacketProvesThatTheFirstBatchIsOut) {
  PtBytes t = PtBytes().psb().tsc(10000).tma(0x100, 0).psbend().tip_pge(1).mtc(0x21).tnt("TTT").mtc(0x22);
  const uint64_t at = t.size();
  t.tnt("N");
  EXPECT_EQ(scan_packets(t.bytes(), config()).times.at(at).earliest, Tsc(10799));
}

TEST(PtTime, LostMtcsAreCountedUpToATurnOfTheCounter) {
  PtBytes t = PtBytes().psb().tsc(10000).tma(0x100, 0).psbend().mtc(0x21).mtc(0x20);  // 255 periods on
  const uint64_t at = t.size();
  t.tip_pge(1).mtc(0x21);
  const TimeMap m = scan_packets(t.bytes(), config()).times;
  EXPECT_EQ(m.at(at), interval(10000 + 256 * 800 - 1, latest_mtc(10000 + 257 * 800)));
}

TEST(PtTime, TheSameMtcTwiceIsAWholeTurnOrNoneSoNoUpperBoundIsLeft) {
  PtBytes t = PtBytes().psb().tsc(10000).tma(0x100, 0).psbend().mtc(0x21).mtc(0x21);
  const uint64_t at = t.size();
  t.tip_pge(1).mtc(0x22);
  const uint64_t later = t.size();
  t.psb().tsc(900000).tma(0x15, 0).psbend();
  const TimeMap m = scan_packets(t.bytes(), config()).times;
  EXPECT_EQ(m.at(at), interval(10800 - 1, 900000 + kPacketLatency));
  EXPECT_EQ(m.at(later).earliest, Tsc(11600 - 1));
}

TEST(PtTime, AnMtcForTheTickThatTmaCountedIsLateAndChangesNothing) {
  // MTC of CTC 0x100, sent after TSC and TMA that were made 50 ticks after it.
  PtBytes t = PtBytes().psb().tsc(10050).tma(0x100, 50).psbend().mtc(0x20);
  const uint64_t at = t.size();
  t.tip_pge(1).mtc(0x21);
  EXPECT_EQ(scan_packets(t.bytes(), config()).times.at(at), interval(10050, latest_mtc(10800)));
}

TEST(PtTime, AfterAnOverflowMtcIsALowerBoundOnlyUntilTscAndTma) {
  PtBytes t = PtBytes().psb().tsc(10000).tma(0x100, 0).psbend().mtc(0x21).ovf();
  const uint64_t at = t.size();
  t.fup(1).mtc(0x22);
  const uint64_t after = t.size();
  t.tip_pgd().psb().tsc(999000).tma(0x7, 0).psbend();
  const uint64_t tied = t.size();
  t.tip_pge(1).mtc(1);
  const TimeMap m = scan_packets(t.bytes(), config()).times;
  EXPECT_EQ(m.at(at), interval(10799, 999000 + kPacketLatency));
  EXPECT_EQ(m.at(after), interval(11599, 999000 + kPacketLatency));
  EXPECT_EQ(m.at(tied), interval(999000, latest_mtc(999100)));
}

TEST(PtTime, AfterATscWithoutTmaMtcIsALowerBoundOnly) {
  PtBytes t = PtBytes().psb().tsc(10000).tma(0x100, 0).psbend().mtc(0x21).tsc(500000);
  const uint64_t at = t.size();
  t.tip_pge(1).mtc(0x22);
  EXPECT_EQ(scan_packets(t.bytes(), config()).times.at(at), interval(500000, kMax));
}

TEST(PtTime, ACutInTheRingIsALossToo) {
  PtBytes t = PtBytes().psb().tsc(10000).tma(0x100, 0).psbend().mtc(0x21);
  const uint64_t cut = t.size();
  t.psb().psbend();
  const uint64_t at = t.size();
  t.tip_pge(1).mtc(0x22);
  const std::vector<uint64_t> cuts{cut};
  EXPECT_EQ(scan_packets(t.bytes(), config()).times.at(at).latest, Tsc(latest_mtc(11600)));
  EXPECT_EQ(scan_packets(t.bytes(), config(), cuts).times.at(at), interval(10799, kMax));
}

TEST(PtTime, TheCrystalCounterMayWrapBetweenTmaAndMtc) {
  PtBytes t = PtBytes().psb().tsc(1000000).tma(0xfffd, 10).psbend().mtc(0);  // CTC 0x10000: 3 ticks on
  const uint64_t at = t.size();
  t.tip_pge(1).mtc(1);
  EXPECT_EQ(scan_packets(t.bytes(), config()).times.at(at), interval(1000289, latest_mtc(1001090)));
}

TEST(PtTime, LongMtcPeriodsShareFewBitsWithTma) {
  // Period 9: MTC carries CTC[16:9], TMA only CTC[15:0]. TMA at 0x0305: the next tick is 0x0400 (251 on).
  PtBytes t = PtBytes().psb().tsc(1000000).tma(0x0305, 0).psbend().mtc(0x82);  // bit 16 set: TMA could not know
  const uint64_t at = t.size();
  t.tip_pge(1).mtc(0x83);
  EXPECT_EQ(scan_packets(t.bytes(), config(9)).times.at(at), interval(1025099, latest_mtc(1025100 + 51200)));
  // Period 14: four periods look like none, so MTC never bounds from above.
  PtBytes u = PtBytes().psb().tsc(1000000).tma(0x0001, 0).psbend().mtc(1);
  const uint64_t there = u.size();
  u.tip_pge(1).mtc(2);
  EXPECT_EQ(scan_packets(u.bytes(), config(14)).times.at(there), interval(1000000 + 16383 * 100 - 1, kMax));
}

TEST(PtTime, FractionsOfTheClockRatioDoNotAddUp) {
  PtTimeConfig c = config(0);
  c.tsc_ctc_num = 1000;
  c.tsc_ctc_den = 3;
  PtBytes t = PtBytes().psb().tsc(100000).tma(0, 0).psbend();
  for (int i = 1; i <= 3000; ++i) t.mtc(static_cast<uint8_t>(i));
  const uint64_t at = t.size();
  t.tip_pge(1).mtc(static_cast<uint8_t>(3001));
  EXPECT_EQ(scan_packets(t.bytes(), c).times.at(at), interval(1100000 - 1, latest_mtc(1100334)));
}

TEST(PtTime, TscWrapsAt56BitsAndNearGivesTheRest) {
  const uint64_t turn = uint64_t{1} << 56;
  PtBytes t = PtBytes().psb().tsc(turn - 10).psbend();
  const uint64_t at = t.size();
  t.tip_pge(1).psb().tsc(90).psbend();
  EXPECT_EQ(scan_packets(t.bytes(), config()).times.at(at), interval(turn - 10, turn + 90 + kPacketLatency));
  PtTimeConfig c = config();
  c.near = Tsc(3 * turn + 12345);
  EXPECT_EQ(scan_packets(t.bytes(), c).times.at(at), interval(3 * turn - 10, 3 * turn + 90 + kPacketLatency));
}

TEST(PtTime, ATscThatSlipsBehindAnMtcLosesNothing) {
  PtBytes t = PtBytes().psb().tsc(10000).tma(0x100, 0).psbend().mtc(0x21).tsc(10790);  // made 10 ticks before the MTC
  const uint64_t at = t.size();
  t.tip_pge(1);
  const TimeMap m = scan_packets(t.bytes(), config()).times;
  EXPECT_EQ(m.at(at).earliest, Tsc(10799));
  EXPECT_EQ(m.contradictions(), 0u);
}

TEST(PtTime, OfTwoTimesThatContradictNeitherIsBelieved) {
  PtBytes t = PtBytes().psb().tsc(10000).psbend().tip_pge(1).tip_pgd().psb().tsc(70000000).psbend();
  const uint64_t at = t.size();
  t.tip_pge(1).tip_pgd().psb().tsc(20000).psbend();
  const uint64_t after = t.size();
  t.tip_pge(1).tip_pgd().psb().tsc(30000).psbend();
  const TimeMap m = scan_packets(t.bytes(), config()).times;
  EXPECT_EQ(m.contradictions(), 1u);
  EXPECT_EQ(m.at(at), interval(10000, 30000 + kPacketLatency));
  EXPECT_EQ(m.at(after), interval(20000, 30000 + kPacketLatency));
}

TEST(PtTime, WhatPacketsContradictIsNoOuterBound) {
  const PtBytes t = PtBytes().psb().tnt("T").tsc(10000).psbend().tip_pge(1).tnt("T").tnt("T").tnt("T");
  PtTimeConfig c = config();
  c.traced = {Tsc(9000), Tsc(20000)};
  const uint64_t end = t.bytes().size() - 1;
  TimeMap m = scan_packets(t.bytes(), c).times;
  EXPECT_EQ(m.contradictions(), 0u);
  EXPECT_EQ(m.at(0).earliest, Tsc(9000));
  EXPECT_EQ(m.at(end), (TscInterval{Tsc(10000), Tsc(20000)}));

  c.traced = {Tsc(50000), Tsc(60000)};  // began only after the packet was made
  m = scan_packets(t.bytes(), c).times;
  EXPECT_EQ(m.contradictions(), 1u);
  EXPECT_EQ(m.at(0), (TscInterval{Tsc::min(), Tsc(10000 + kPacketLatency)}));
  EXPECT_EQ(m.at(end), (TscInterval{Tsc(10000), Tsc(60000)}));

  c.traced = {Tsc(10), Tsc(20)};  // ended before it
  m = scan_packets(t.bytes(), c).times;
  EXPECT_EQ(m.contradictions(), 1u);
  EXPECT_EQ(m.at(0), (TscInterval{Tsc(10), Tsc(10000 + kPacketLatency)}));
  EXPECT_EQ(m.at(end), (TscInterval{Tsc(10000), Tsc::max()}));
}

TEST(PtTime, DenseTimingPacketsCostAtMostTenBytesEach) {
  PtBytes t = PtBytes().psb().tsc(10000).tma(0x100, 0).psbend().tip_pge(1);
  for (int i = 1; i <= 10000; ++i) t.mtc(static_cast<uint8_t>(0x20 + i)).tnt("TTNNTT").tnt("T");
  const TimeMap m = scan_packets(t.bytes(), config()).times;
  EXPECT_EQ(m.readings(), 10001u);
  EXPECT_LE(m.memory_bytes(), 10 * m.readings());
}

TEST(PtTime, TimingPacketsOfAnIdleCpuCostNothing) {
  PtBytes t = PtBytes().psb().tsc(10000).tma(0x100, 0).psbend().tip_pge(1);
  const uint64_t pgd = t.size();
  t.tip_pgd();
  for (int i = 1; i <= 10000; ++i) t.mtc(static_cast<uint8_t>(0x20 + i)).cyc(300);
  const uint64_t pge = t.size();
  t.tip_pge(1);
  const TimeMap m = scan_packets(t.mtc(static_cast<uint8_t>(0x20 + 10001)).bytes(), config()).times;
  EXPECT_EQ(m.readings(), 10002u);
  EXPECT_LE(m.memory_bytes(), 200u);
  EXPECT_EQ(m.at(pgd), interval(10000, latest_mtc(10800)));
  EXPECT_EQ(m.at(pge), interval(9999 + 800 * 10000, latest_mtc(10000 + 800 * 10001)));
}

TEST(PtTime, TheLastPacketThatIsSurelyBeforeATime) {
  PtBytes t = PtBytes().psb().tsc(5000).psbend().tip_pge(1).tip_pgd();
  const uint64_t second = t.size() + 16;  // behind the PSB
  t.psb().tsc(9000).psbend();
  const TimeMap m = scan_packets(t.bytes(), config()).times;
  EXPECT_EQ(m.last_before(Tsc(5000 + kPacketLatency)), std::nullopt);
  EXPECT_EQ(m.last_before(Tsc(9001 + kPacketLatency)), second);
  EXPECT_EQ(m.last_before(Tsc::max()), second);
  EXPECT_EQ(m.last_before(Tsc(5001 + kPacketLatency)), uint64_t{16});
  size_t found = 0;
  for (uint64_t time = 4000; time < 10000; time += 100) {
    const auto first = m.first_from(Tsc(time));
    found += first.has_value();
    EXPECT_EQ(first.has_value(), m.at(t.size()).earliest >= Tsc(time)) << time;
    if (!first) continue;
    EXPECT_GE(m.at(*first).earliest, Tsc(time));
    if (*first > 0) {
      EXPECT_LT(m.at(*first - 1).earliest, Tsc(time));
    }
  }
  EXPECT_GT(found, 10u);
  PtTimeConfig ended = config();
  ended.traced.latest = Tsc(10000);
  EXPECT_EQ(scan_packets(t.bytes(), ended).times.last_before(Tsc(10001)), ~uint64_t{0});
}

TEST(PtTimeCorpus, EventsOfARealTraceLieNearTheReferenceTimes) {
  HC_REQUIRE_CORPUS();
  const test::CorpusTrace trace = test::corpus_trace("perf-hello-asm");
  const std::vector<uint8_t> bytes = test::file_bytes(trace.trace);
  PtTimeConfig c;
  c.tsc_ctc_num = trace.expected.at("cpuid_0x15_ebx");
  c.tsc_ctc_den = trace.expected.at("cpuid_0x15_eax");
  c.mtc_period = trace.expected.at("mtc_freq");
  const TimeMap m = scan_packets(bytes, c).times;
  EXPECT_EQ(m.contradictions(), 0u);
  EXPECT_EQ(m.readings(), 1u + 538u);
  const auto rows = test::control_event_rows(trace);
  size_t row = 0;
  PacketReader reader(bytes);
  ASSERT_TRUE(reader.resync());
  for (Packet p; reader.next(p) == Step::ok;) {
    if (p.kind != Kind::tip_pge && p.kind != Kind::tip_pgd) continue;
    ASSERT_LT(row, rows.size());
    const TscInterval at = m.at(p.offset);
    ASSERT_FALSE(at.is_unknown());
    EXPECT_LE(at.latest.value() - at.earliest.value(), 2 * 1232 + kPacketLatency + 4);
    // libipt's estimates differ by up to 1,000 ticks between its versions; the corpus README allows 2,000.
    EXPECT_GE(*rows[row].tsc + 2000, at.earliest.value()) << row;
    EXPECT_LE(*rows[row].tsc, at.latest.value() + 2000) << row;
    ++row;
  }
  EXPECT_EQ(row, rows.size());
}

}  // namespace
}  // namespace hindcast::decode
