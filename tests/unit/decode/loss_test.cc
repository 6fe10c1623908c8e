// Whatever is lost shows up in the flow of every thread that it may have belonged to, at its place, with its cause.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "decode/host_trace.h"
#include "tests/support/tiny_host.h"
#include "tests/support/tiny_program.h"

namespace hindcast::decode {
namespace {

using test::PerfBytes;
using test::PtBytes;
using test::text_of;
using test::TinyHost;
using Lines = std::vector<std::string>;

constexpr Pid kPid{10};
constexpr CpuId kCpu0{0};

struct Host : TinyHost {
  Host() {
    snapshot.info.cpu.tsc_ctc_num = snapshot.info.cpu.tsc_ctc_den = 1;
    snapshot.info.pt.mtc_period = 4;
    code(kPid, test::kTinyBase, test::tiny_program());
  }
};

PtBytes start(uint64_t tsc) { return PtBytes().psb().tsc(tsc).psbend().mode_exec(); }
/// One stretch between two times: runs one instruction, 401022 or 401012.
PtBytes& stretch(PtBytes& t, uint64_t from, uint64_t to, uint64_t ip, uint64_t stop) {
  return t.tsc(from).tip_pge(ip).fup(stop).tip_pgd().tsc(to);
}
PtBytes& a(PtBytes& t, uint64_t from) { return stretch(t, from, from + 100, 0x401022, 0x401023); }
PtBytes& b(PtBytes& t, uint64_t from) { return stretch(t, from, from + 100, 0x401012, 0x401013); }

/// Thread 10 until 40000, 11 until 80000, then 10 again.
PerfBytes turns() {
  return PerfBytes()
      .switch_in(1500, 10, 10)
      .switch_out(40000, 10, 10, 10, 11)
      .switch_in(40001, 10, 11, 10, 10)
      .switch_out(80000, 10, 11, 10, 10)
      .switch_in(80001, 10, 10, 10, 11);
}

/// Blocks and gaps only.
Lines flow_of(const HostTrace& host, Tid tid) {
  auto flow = host.thread_flow(tid);
  if (!flow.ok()) return {flow.error().text()};
  Lines lines;
  for (const FlowEvent& e : test::all_events(**flow))
    if (e.event.kind == EventKind::block || e.event.kind == EventKind::gap) lines.push_back(text_of(e.event));
  return lines;
}

const std::string kA = "block 401022-401022 x1 none", kB = "block 401012-401012 x1 none";

TEST(Loss, OverflowThatEndsInAnotherThreadIsAGapOfBoth) {
  Host h;
  PtBytes t = start(1000);
  a(t, 2000);
  t.tsc(30000).tip_pge(0x401022).tsc(39000).ovf();
  t.tsc(70000).tip_pge(0x401012).fup(0x401013).tip_pgd().tsc(70100);
  h.pt(kCpu0, t);
  h.sideband(kCpu0, turns());
  const auto host = h.build();
  EXPECT_THAT(flow_of(*host, Tid(11)), ::testing::ElementsAre("gap pt_overflow", kB));
  const Lines first = flow_of(*host, Tid(10));
  ASSERT_GE(first.size(), 2u);
  EXPECT_EQ(first.front(), kA);
  EXPECT_THAT(first, ::testing::Contains("gap pt_overflow"));
}

TEST(Loss, OverflowWhileOffIsAGapOfWhoeverRanThen) {
  Host h;
  PtBytes t = start(1000);
  a(t, 2000);
  t.tsc(45000).ovf().append(start(60000));
  a(t, 90000);
  h.pt(kCpu0, t);
  h.sideband(kCpu0, turns());
  const auto host = h.build();
  EXPECT_EQ(flow_of(*host, Tid(11)), (Lines{"gap pt_overflow"}));
}

TEST(Loss, GapThatAThreadsReaderSkipsIsStillItsGap) {
  // Thread 10's last stretch begins at a PSB far behind the broken packets, which were 10's too.
  Host h;
  PtBytes t = start(1000);
  a(t, 2000);
  t.tsc(20000).raw({0x05, 0x05}).append(start(39000));
  for (uint64_t at = 41000; at < 79000; at += 1000) b(t.append(start(at)), at + 100);
  t.append(start(81000));
  a(t, 90000);
  h.pt(kCpu0, t);
  h.sideband(kCpu0, turns());
  // libipt reads ahead, so that the broken packet may cost it the stretch in front.
  EXPECT_THAT(flow_of(*h.build(), Tid(10)), ::testing::AnyOf(::testing::ElementsAre(kA, "gap desync", kA),
                                                             ::testing::ElementsAre("gap desync", "gap desync", kA)));
}

TEST(Loss, GapBehindTheLastStretchIsShown) {
  Host h;
  PtBytes t = start(1000);
  a(t, 2000);
  t.tsc(20000).raw({0x05, 0x05}).append(start(95000));
  h.pt(kCpu0, t);
  h.sideband(kCpu0, turns());
  const auto host = h.build();
  const Lines first = flow_of(*host, Tid(10));
  ASSERT_FALSE(first.empty());
  EXPECT_EQ(first.back(), "gap desync");
  EXPECT_EQ(flow_of(*host, Tid(11)), (Lines{"gap desync"}));
}

TEST(Loss, EarlierFreezeInTheMiddleIsAGap) {
  Host h;
  PtBytes t = start(1000);
  a(t, 2000);
  const uint64_t cut = t.size();
  t.append(start(60000));
  a(t, 90000);
  const uint32_t id = h.pt(kCpu0, t);
  h.snapshot.info.streams[id - 1].cuts = {cut};
  h.sideband(kCpu0, turns());
  const auto host = h.build();
  EXPECT_EQ(flow_of(*host, Tid(11)), (Lines{"gap not_captured"}));
  const Lines first = flow_of(*host, Tid(10));
  ASSERT_EQ(first.size(), 3u);
  EXPECT_EQ(first[1], "gap not_captured");
}

TEST(Loss, ARingThatWrappedHasAGapForEachVisitOfAThreadThatMoves) {
  Host h;
  PtBytes t = start(60000);
  a(t, 70000);
  const uint32_t wrapped = h.pt(kCpu0, t);
  h.snapshot.info.streams[wrapped - 1].wrapped = true;
  PtBytes other = start(1000);
  a(other, 15000);
  a(other, 35000);
  h.pt(CpuId(1), other);
  h.sideband(kCpu0, PerfBytes()
                        .switch_in(1500, 10, 10)
                        .switch_out(10000, 10, 10, 0, 0)
                        .switch_in(21000, 10, 10)
                        .switch_out(30000, 10, 10, 0, 0)
                        .switch_in(65000, 10, 10));
  h.sideband(CpuId(1), PerfBytes(1)
                           .switch_in(11000, 10, 10)
                           .switch_out(20000, 10, 10, 0, 0)
                           .switch_in(31000, 10, 10)
                           .switch_out(40000, 10, 10, 0, 0));
  EXPECT_EQ(flow_of(*h.build(), Tid(10)), (Lines{"gap not_captured", kA, "gap not_captured", kA, kA}));
}

TEST(Loss, ARingThatBeginsWhileAThreadRunsHasItsGapInFront) {
  Host h;
  PtBytes t = PtBytes().psb().mode_exec().fup(0x401022).tsc(60000).psbend();
  t.fup(0x401023).tip_pgd().tsc(60100);
  const uint32_t wrapped = h.pt(kCpu0, t);
  h.snapshot.info.streams[wrapped - 1].wrapped = true;
  PtBytes other = start(1000);
  b(other, 15000);
  h.pt(CpuId(1), other);
  h.sideband(kCpu0, PerfBytes().switch_in(50000, 10, 10));
  h.sideband(CpuId(1), PerfBytes(1).switch_in(11000, 10, 10).switch_out(20000, 10, 10, 0, 0));
  EXPECT_EQ(flow_of(*h.build(), Tid(10)), (Lines{kB, "gap not_captured", kA}));
}

TEST(Loss, TraceThatEndsWhileOnGoesOnUnseen) {
  Host h;
  PtBytes t = start(1000);
  a(t, 2000);
  t.tsc(90000).tip_pge(0x401022).fup(0x401023).tip_pgd().tip_pge(0x401000).tnt("N");
  h.pt(kCpu0, t);
  h.sideband(kCpu0, turns());
  const Lines lines = flow_of(*h.build(), Tid(10));
  ASSERT_GE(lines.size(), 3u);
  EXPECT_EQ(lines.back(), "gap not_captured");
}

TEST(Loss, StreamWhoseEndIsMissingEndsInAGapForWhoeverRanLater) {
  Host h;
  PtBytes t = start(1000);
  a(t, 2000);
  const uint32_t id = h.pt(kCpu0, t);
  h.snapshot.source.holes[id] = {t.size()};
  h.sideband(kCpu0, turns());
  const auto host = h.build();
  EXPECT_THAT(flow_of(*host, Tid(10)), ::testing::ElementsAre(kA, "gap cut", "gap cut"));
  EXPECT_EQ(flow_of(*host, Tid(11)), (Lines{"gap cut"}));
}

TEST(Loss, NothingIsReadAcrossAHole) {
  // The packet in front of the hole would take its address from the filling.
  Host h;
  PtBytes t = start(1000);
  t.tsc(2000).tip_pge(0x401040).raw({0x2d, 0x22});
  const uint64_t hole = t.size();
  t.raw({0x05, 0x05, 0x05, 0x05}).append(start(60000));
  a(t, 90000);
  const uint32_t id = h.pt(kCpu0, t);
  h.snapshot.source.holes[id] = {hole};
  h.sideband(kCpu0, turns());
  const Lines lines = flow_of(*h.build(), Tid(10));
  EXPECT_THAT(lines, ::testing::Contains("gap cut"));
  EXPECT_THAT(lines, ::testing::Not(::testing::Contains(::testing::StartsWith("block 4005"))));
  EXPECT_EQ(lines.back(), kA);
}

TEST(Loss, SidebandWhoseEndIsMissingLeavesWhatFollowsUnattributed) {
  Host h;
  PtBytes t = start(1000);
  a(t, 2000);
  a(t, 90000);
  h.pt(kCpu0, t);
  const PerfBytes records = PerfBytes().switch_in(1500, 10, 10).switch_out(40000, 10, 10, 10, 11);
  const uint32_t id = h.sideband(kCpu0, records);
  h.snapshot.source.holes[id] = {records.bytes().size()};
  const auto host = h.build();
  EXPECT_EQ(flow_of(*host, Tid(10)), (Lines{kA, "gap unattributed 401022"}));
  EXPECT_TRUE(std::any_of(host->gaps().begin(), host->gaps().end(),
                          [](const HostGap& g) { return g.cause == GapCause::cut && g.from == RecordTime(40000); }));
}

TEST(Loss, WhatMayBeAThreadsLeavesWhatItRanOnOtherCpusInItsPlaceAndTime) {
  Host h;
  PtBytes t = start(1000);
  a(t, 10000);
  a(t, 30000);
  a(t, 50000);
  h.pt(kCpu0, t);
  PtBytes other = start(1000);
  b(other, 20000);
  b(other, 40000);
  h.pt(CpuId(1), other);
  const PerfBytes records = PerfBytes().switch_in(1500, 10, 10).switch_out(5000, 10, 10, 0, 0);
  h.snapshot.source.holes[h.sideband(kCpu0, records)] = {records.bytes().size()};
  h.sideband(CpuId(1), PerfBytes(1)
                           .switch_in(19000, 10, 10)
                           .switch_out(21000, 10, 10, 0, 0)
                           .switch_in(39000, 10, 10)
                           .switch_out(41000, 10, 10, 0, 0));
  const auto host = h.build();
  const std::string gap = "gap unattributed 401022";
  EXPECT_EQ(flow_of(*host, Tid(10)), (Lines{gap, kB, gap, kB, gap}));
  auto flow = host->thread_flow(Tid(10));
  ASSERT_TRUE(flow.ok());
  std::vector<uint64_t> earliest;
  for (const FlowEvent& e : test::all_events(**flow))
    if (e.event.kind == EventKind::block) {
      EXPECT_LE(e.event.time.latest, Tsc(earliest.empty() ? 21000 : 41000));
      earliest.push_back(e.event.time.earliest.value());
    }
  EXPECT_THAT(earliest, ::testing::ElementsAre(::testing::Ge(19000u), ::testing::Ge(39000u)));
}

TEST(Loss, WhoRanAloneIsNotCertainWhereRecordsWereLost) {
  Host h;
  PtBytes t = start(1000);
  a(t, 2000);
  h.pt(kCpu0, t);
  h.sideband(kCpu0, PerfBytes().at(500, 10, 10).comm(10, 10, "main").lost(3));
  EXPECT_EQ(flow_of(*h.build(), Tid(10)), (Lines{"gap unattributed 401022"}));
}

TEST(Loss, AChildWhoseExecMayBeLostHasNoCodeOfItsParent) {
  const auto flow = [](bool exec, bool lost) {
    Host h;
    PtBytes t = start(1000);
    a(t, 50000);
    h.pt(kCpu0, t);
    PerfBytes records = PerfBytes().switch_in(1500, 10, 10).at(20000, 10, 10).fork(11, 10, 11, 10);
    if (exec) records.at(21000, 11, 11).comm(11, 11, "new", true).mmap(11, 11, 0x401000, 0x1000, 0, "/new");
    if (lost) records.at(30000, 10, 10).lost(1);
    records.switch_out(40000, 10, 10, 11, 11).switch_in(40001, 11, 11, 10, 10);
    h.sideband(kCpu0, records);
    return flow_of(*h.build(), Tid(11));
  };
  EXPECT_EQ(flow(false, false), (Lines{kA}));
  EXPECT_EQ(flow(false, true), (Lines{"gap image_missing 401022"}));
  EXPECT_EQ(flow(true, false), flow(true, true)) << "its exec was seen";
}

TEST(Loss, TruncatedAuxIsAGapOfWhoeverRanThen) {
  Host h;
  PtBytes t = start(1000);
  a(t, 2000);
  b(t, 50000);
  a(t, 90000);
  h.pt(kCpu0, t);
  PerfBytes records = PerfBytes()
                          .switch_in(1500, 10, 10)
                          .switch_out(40000, 10, 10, 10, 11)
                          .switch_in(40001, 10, 11, 10, 10)
                          .at(60000, 10, 11)
                          .aux(0, 100, perf::kAuxTruncated)
                          .switch_out(80000, 10, 11, 10, 10)
                          .switch_in(80001, 10, 10, 10, 11);
  h.sideband(kCpu0, records);
  EXPECT_EQ(flow_of(*h.build(), Tid(11)), (Lines{kB, "gap aux_truncated"}));
}

TEST(Loss, RingThatWrappedAndBeginsWithAPsbStillLacksItsPast) {
  TinyHost h;
  h.code(kNoPid, test::kTinyBase, test::tiny_program());
  const uint32_t id = h.pt(kCpu0, PtBytes().psb().mode_exec().fup(0x401022).psbend().fup(0x401023).tip_pgd(), Tid(5));
  h.snapshot.info.streams[id - 1].wrapped = true;
  EXPECT_EQ(flow_of(*h.build(), Tid(5)), (Lines{"gap not_captured", kA}));
}

TEST(Loss, FileWithAnotherBuildIdIsNoCode) {
  std::ifstream in("/proc/self/exe", std::ios::binary);
  const std::vector<uint8_t> self(std::istreambuf_iterator<char>(in), {});
  for (const bool right : {false, true}) {
    TinyHost h;
    const uint32_t id = h.image(self, "/a", right ? "" : "00112233445566778899aabbccddeeff00112233");
    h.snapshot.info.images[id - 1].kind = ImageKind::elf;
    PtBytes t = start(1000);
    stretch(t, 2000, 2100, 0x401000, 0x401000);
    h.pt(kCpu0, t);
    h.sideband(kCpu0, PerfBytes().at(100, 10, 10).mmap(10, 10, 0x401000, 0x1000, 0, "/a").switch_in(1500, 10, 10));
    const auto host = h.build();
    uint8_t first = 0;
    EXPECT_EQ(host->image_at(kPid, RecordTime(2000))->read(Ip(0x401000), {&first, 1}), right ? 1u : 0u);
  }
}

}  // namespace
}  // namespace hindcast::decode
