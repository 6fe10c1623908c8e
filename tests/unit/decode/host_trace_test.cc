// Flows of threads over CPUs: who ran what, in which order, and what is said to be missing.
#include "decode/host_trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "decode/engine_compare.h"
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
constexpr CpuId kCpu0{0}, kCpu1{1};

/// One tick of CTC is one tick of TSC, and each MTC stands for 16: times as exact as a test wants.
void timing(TinyHost& h) {
  h.snapshot.info.cpu.tsc_ctc_num = h.snapshot.info.cpu.tsc_ctc_den = 1;
  h.snapshot.info.pt.mtc_period = 4;
}

PtBytes start(uint64_t tsc) { return PtBytes().psb().tsc(tsc).psbend().mode_exec(); }
/// One stretch between two times.
PtBytes& stretch(PtBytes& t, uint64_t from, uint64_t to, uint64_t ip, uint64_t stop) {
  return t.tsc(from).tip_pge(ip).fup(stop).tip_pgd().tsc(to);
}

std::vector<std::string> thread_lines(const HostTrace& host, Tid tid, const FlowOptions& options = {}) {
  auto flow = host.thread_flow(tid, options);
  if (!flow.ok()) return {flow.error().text()};
  Lines lines;
  for (const FlowEvent& e : test::all_events(**flow)) {
    EXPECT_EQ(e.tid, tid);
    lines.push_back(text_of(e.event));
  }
  return lines;
}

TEST(HostTrace, StreamOfOneThreadIsItsOwn) {
  TinyHost h;
  h.code(kNoPid, test::kTinyBase, test::tiny_program());
  PtBytes t = start(1000);
  h.pt(kCpu0, stretch(t, 1100, 1200, 0x401022, 0x401023), Tid(5));
  const auto host = h.build();
  EXPECT_EQ(thread_lines(*host, Tid(5)),
            (Lines{"enabled 401022", "block 401022-401022 x1 none", "async_disabled 401023"}));
}

TEST(HostTrace, WithoutAnyThreadTheCpuIsOneFlow) {
  TinyHost h;
  h.code(kNoPid, test::kTinyBase, test::tiny_program());
  PtBytes t = start(1000);
  h.pt(kNoCpu, stretch(t, 1100, 1200, 0x401022, 0x401023));
  const auto host = h.build();
  ASSERT_EQ(host->threads().size(), 1u);
  EXPECT_EQ(host->threads()[0].tid, kNoTid);
  EXPECT_EQ(thread_lines(*host, kNoTid).size(), 3u);
}

TEST(HostTrace, ThreadsOfOneCpuAreToldApartBySwitches) {
  TinyHost h;
  timing(h);
  h.code(kPid, test::kTinyBase, test::tiny_program());
  PtBytes t = start(1000);
  stretch(t, 2000, 2100, 0x401022, 0x401023);
  stretch(t, 50000, 50100, 0x401012, 0x401014);
  stretch(t, 90000, 90100, 0x401013, 0x401014);
  h.pt(kCpu0, t);
  h.sideband(kCpu0, PerfBytes()
                        .at(500, 10, 10)
                        .comm(10, 10, "main")
                        .comm(10, 11, "side")
                        .switch_in(1500, 10, 10)
                        .switch_out(40000, 10, 10, 10, 11)
                        .switch_in(40001, 10, 11, 10, 10)
                        .switch_out(80000, 10, 11, 10, 10)
                        .switch_in(80001, 10, 10, 10, 11));
  const auto host = h.build();
  EXPECT_EQ(thread_lines(*host, Tid(10)),
            (Lines{"enabled 401022", "block 401022-401022 x1 none", "async_disabled 401023", "enabled 401013",
                   "block 401013-401013 x1 none", "async_disabled 401014"}));
  EXPECT_EQ(thread_lines(*host, Tid(11)),
            (Lines{"enabled 401012", "block 401012-401013 x2 none", "async_disabled 401014"}));
  EXPECT_EQ(host->find_thread(Tid(11))->comm, "side");
  EXPECT_EQ(host->find_thread(Tid(11))->stretches, 1u);
  EXPECT_EQ(host->cpus()[0].attributed_stretches, 3u);
}

TEST(HostTrace, ThreadThatMovesIsOneFlowInTheOrderOfTime) {
  TinyHost h;
  timing(h);
  h.code(kPid, test::kTinyBase, test::tiny_program());
  PtBytes a = start(1000), b = start(1000);
  stretch(a, 2000, 2100, 0x401022, 0x401023);
  stretch(b, 50000, 50100, 0x401012, 0x401014);
  stretch(a, 90000, 90100, 0x401013, 0x401014);
  h.pt(kCpu0, a);
  h.pt(kCpu1, b);
  h.sideband(kCpu0, PerfBytes(0)
                        .switch_in(1500, 10, 10)
                        .switch_out(40000, 10, 10)
                        .switch_in(40001, 0, 0, 10, 10)
                        .switch_out(80000, 0, 0, 10, 10)
                        .switch_in(80001, 10, 10)
                        .switch_out(99000, 10, 10));
  h.sideband(kCpu1, PerfBytes(1).switch_in(45000, 10, 10).switch_out(70000, 10, 10));
  const auto host = h.build();
  EXPECT_EQ(thread_lines(*host, Tid(10)),
            (Lines{"enabled 401022", "block 401022-401022 x1 none", "async_disabled 401023", "enabled 401012",
                   "block 401012-401013 x2 none", "async_disabled 401014", "enabled 401013",
                   "block 401013-401013 x1 none", "async_disabled 401014"}));
  EXPECT_EQ(host->find_thread(Tid(10))->cpus, (std::vector<CpuId>{kCpu0, kCpu1}));
}

TEST(HostTrace, TimeRangeLeavesOutWholeStretches) {
  TinyHost h;
  timing(h);
  h.code(kPid, test::kTinyBase, test::tiny_program());
  PtBytes a = start(1000);
  stretch(a, 20000, 20100, 0x401022, 0x401023);
  stretch(a, 90000, 90100, 0x401013, 0x401014);
  h.pt(kCpu0, a, Tid(10));
  const auto host = h.build();
  EXPECT_EQ(thread_lines(*host, Tid(10), {{Tsc(80000), Tsc(100000)}, Resync::earliest}),
            (Lines{"enabled 401013", "block 401013-401013 x1 none", "async_disabled 401014"}));
}

TEST(HostTrace, LostSwitchesLeaveTheirStretchesUnattributedAndTheRestAsItWas) {
  TinyHost h;
  timing(h);
  h.code(kPid, test::kTinyBase, test::tiny_program());
  PtBytes t = start(1000);
  stretch(t, 2000, 2100, 0x401022, 0x401023);
  stretch(t, 50000, 50100, 0x401012, 0x401014);
  stretch(t, 90000, 90100, 0x401013, 0x401014);
  h.pt(kCpu0, t);
  h.sideband(kCpu0, PerfBytes()
                        .switch_in(1500, 10, 10)
                        .switch_out(40000, 10, 10, 10, 11)
                        .switch_in(40001, 10, 11, 10, 10)
                        .at(60000, 10, 11)
                        .lost(7)
                        .switch_out(80000, 10, 12, 10, 10)
                        .switch_in(80001, 10, 10, 10, 12));
  const auto host = h.build();
  const Lines expected = {
      "enabled 401022", "block 401022-401022 x1 none", "async_disabled 401023", "gap unattributed 401012",
      "enabled 401013", "block 401013-401013 x1 none", "async_disabled 401014"};
  EXPECT_EQ(thread_lines(*host, Tid(10)), expected);
  EXPECT_EQ(thread_lines(*host, Tid(11)), (Lines{"gap unattributed 401012"}));
  EXPECT_TRUE(std::any_of(host->gaps().begin(), host->gaps().end(), [](const HostGap& g) {
    return g.cause == GapCause::sideband_lost && g.count == 7 && g.from == RecordTime(40001) &&
           g.to == RecordTime(80000);
  }));
  EXPECT_EQ(host->cpus()[0].attributed_stretches, 2u);
}

TEST(HostTrace, StretchThatFitsNobodyIsAGapForWhoeverWasThere) {
  TinyHost h;
  timing(h);
  h.code(kPid, test::kTinyBase, test::tiny_program());
  PtBytes t = start(1000);
  stretch(t, 2000, 2100, 0x401022, 0x401023);
  t.tsc(30000).tip_pge(0x401012).tsc(30100).tsc(50000).fup(0x401014).tip_pgd().tsc(50100);  // across the switch
  h.pt(kCpu0, t);
  h.sideband(kCpu0, PerfBytes()
                        .switch_in(1500, 10, 10)
                        .switch_out(40000, 10, 10, 10, 11)
                        .switch_in(40001, 10, 11, 10, 10)
                        .switch_out(80000, 10, 11, 10, 12)
                        .switch_in(80001, 10, 12, 10, 11));
  const auto host = h.build();
  EXPECT_EQ(thread_lines(*host, Tid(10)), (Lines{"enabled 401022", "block 401022-401022 x1 none",
                                                 "async_disabled 401023", "gap unattributed 401012"}));
  EXPECT_EQ(thread_lines(*host, Tid(11)), (Lines{"gap unattributed 401012"}));
  EXPECT_EQ(thread_lines(*host, Tid(12)), Lines{});
}

TEST(HostTrace, SlicesOlderThanTheRingAreNotCaptured) {
  TinyHost h;
  timing(h);
  h.code(kPid, test::kTinyBase, test::tiny_program());
  PtBytes t = PtBytes().tnt("TTT").append(start(50000));
  stretch(t, 60000, 60100, 0x401022, 0x401023);
  const uint32_t id = h.pt(kCpu0, t);
  h.snapshot.info.streams[id - 1].wrapped = true;
  h.sideband(kCpu0, PerfBytes().switch_in(1500, 10, 10).switch_out(40000, 10, 10).switch_in(55000, 10, 10));
  const auto host = h.build();
  EXPECT_EQ(thread_lines(*host, Tid(10)),
            (Lines{"gap not_captured", "enabled 401022", "block 401022-401022 x1 none", "async_disabled 401023"}));
}

TEST(HostTrace, CpuFlowNamesTheThreadOfEachEvent) {
  TinyHost h;
  timing(h);
  h.code(kPid, test::kTinyBase, test::tiny_program());
  PtBytes t = start(1000);
  stretch(t, 2000, 2100, 0x401022, 0x401023);
  stretch(t, 50000, 50100, 0x401012, 0x401014);
  h.pt(kCpu0, t);
  h.sideband(kCpu0,
             PerfBytes().switch_in(1500, 10, 10).switch_out(40000, 10, 10, 10, 11).switch_in(40001, 10, 11, 10, 10));
  const auto host = h.build();
  auto flow = host->cpu_flow(kCpu0);
  ASSERT_TRUE(flow.ok());
  std::vector<int> tids;
  for (const FlowEvent& e : test::all_events(**flow))
    if (e.event.kind == EventKind::block) tids.push_back(e.tid.value());
  EXPECT_EQ(tids, (std::vector<int>{10, 11}));
  EXPECT_FALSE(host->cpu_flow(CpuId(9)).ok());
}

TEST(HostTrace, CpuWithoutAnySwitchBelongsToWhoeverWroteARecordThere) {
  TinyHost h;
  timing(h);
  h.code(kPid, test::kTinyBase, test::tiny_program());
  PtBytes t = start(1000);
  stretch(t, 2000, 2100, 0x401022, 0x401023);
  h.pt(kCpu0, t);
  h.sideband(kCpu0, PerfBytes(0).at(1500, 10, 12).comm(10, 12, "busy"));
  h.sideband(kCpu1, PerfBytes(1).switch_in(1500, 10, 10).switch_out(3000, 10, 10));
  const auto host = h.build();
  EXPECT_EQ(thread_lines(*host, Tid(12)).size(), 3u);
}

TEST(HostTrace, EachProcessRunsItsOwnCode) {
  TinyHost h;
  timing(h);
  h.code(kPid, test::kTinyBase, test::tiny_program());
  h.code(Pid(20), test::kTinyBase, std::vector<uint8_t>(0x80, 0x90));
  PtBytes t = start(1000);
  t.tsc(2000).tip_pge(0x401000).tnt("NT").fup(0x401005).tip_pgd().tsc(2100);
  stretch(t, 50000, 50100, 0x401000, 0x401010);
  h.pt(kCpu0, t);
  h.sideband(kCpu0,
             PerfBytes().switch_in(1500, 10, 10).switch_out(40000, 10, 10, 20, 20).switch_in(40001, 20, 20, 10, 10));
  const auto host = h.build();
  EXPECT_EQ(thread_lines(*host, Tid(20)),
            (Lines{"enabled 401000", "block 401000-40100f x16 none", "async_disabled 401010"}));
}

TEST(HostTrace, CodeAfterExecIsTheNewProgram) {
  TinyHost h;
  timing(h);
  const uint32_t a = h.image(test::tiny_program(), "/a"), b = h.image(std::vector<uint8_t>(0x80, 0x90), "/b");
  h.snapshot.info.images[a - 1].kind = h.snapshot.info.images[b - 1].kind = ImageKind::elf;
  PtBytes t = start(1000);
  t.tsc(2000).tip_pge(0x401020).tip_pgd().tsc(2100);  // execve
  stretch(t, 50000, 50100, 0x401000, 0x401010);
  h.pt(kCpu0, t);
  h.sideband(kCpu0, PerfBytes()
                        .at(100, 10, 10)
                        .mmap2(10, 10, test::kTinyBase, 0x80, 0, "/a")
                        .switch_in(1500, 10, 10)
                        .at(20000, 10, 10)
                        .comm(10, 10, "b", true)
                        .at(20001, 10, 10)
                        .mmap2(10, 10, test::kTinyBase, 0x80, 0, "/b"));
  const auto host = h.build();
  EXPECT_EQ(thread_lines(*host, Tid(10)),
            (Lines{"enabled 401020", "block 401020-401020 x1 far_transfer", "disabled", "enabled 401000",
                   "block 401000-40100f x16 none", "async_disabled 401010"}));
  EXPECT_EQ(host->find_thread(Tid(10))->comm, "b");
}

TEST(HostTrace, AuxFlagsAndUnreadableSidebandAreGaps) {
  TinyHost h;
  h.pt(kCpu0, start(1000));
  auto bytes =
      PerfBytes().at(5).aux(0, 4096, perf::kAuxTruncated | perf::kAuxOverwrite).aux(0, 10, perf::kAuxOverwrite);
  h.sideband(kCpu0, bytes.raw({1, 0, 0, 0, 0, 0, 0xff, 0xff}));
  const auto host = h.build();
  std::map<GapCause, int> causes;
  for (const HostGap& g : host->gaps()) ++causes[g.cause];
  EXPECT_EQ(causes[GapCause::aux_truncated], 1);
  EXPECT_EQ(causes[GapCause::cut], 1);
}

TEST(HostTrace, AHoleMayBeAnywhereSinceTheLastAuxRecordAndTruncationEndsAtItsOwn) {
  TinyHost h;
  h.pt(kCpu0, start(1000));
  h.sideband(kCpu0, PerfBytes()
                        .at(5)
                        .aux(0, 4096, perf::kAuxOverwrite)
                        .at(9)
                        .aux(0, 4096, perf::kAuxPartial | perf::kAuxOverwrite)
                        .at(12)
                        .aux(0, 300, perf::kAuxTruncated));
  const auto host = h.build();
  ASSERT_EQ(host->gaps().size(), 2u);
  EXPECT_EQ(host->gaps()[0].from, RecordTime(5));
  EXPECT_EQ(host->gaps()[0].to, RecordTime(9));
  EXPECT_EQ(host->gaps()[0].words, "the kernel marked the trace as partial");
  EXPECT_EQ(host->gaps()[1].from, RecordTime(12));
  EXPECT_EQ(host->gaps()[1].to, RecordTime(12));
  EXPECT_EQ(host->gaps()[1].words, "the kernel marked 300 bytes of trace as truncated");
}

TEST(HostTrace, WithoutPtThereIsNothingToOpen) {
  TinyHost h;
  h.sideband(kCpu0, PerfBytes().at(5).comm(1, 1, "x"));
  const auto r = HostTrace::build(h.snapshot.info, h.snapshot.source);
  ASSERT_FALSE(r.ok());
  EXPECT_EQ(r.error().code, Errc::unsupported);
}

TEST(HostTrace, UnknownThreadIsAnError) {
  TinyHost h;
  h.pt(kCpu0, start(1000));
  const auto r = h.build()->thread_flow(Tid(77));
  ASSERT_FALSE(r.ok());
  EXPECT_EQ(r.error().code, Errc::not_found);
}

TEST(HostTrace, InterruptsAndTransactionsAreWalkedAndCountedByTheFastEngine) {
  TinyHost h;
  h.code(kNoPid, test::kTinyBase, test::tiny_program());
  PtBytes pt = start(1000).tip_pge(0x401000).mode_tsx(1).fup(0x401010).tnt("N").mode_tsx(0).fup(0x401012).fup(0x401013);
  pt.tsc(2000).tip(0x401020).tip(0x401013).tnt("T").fup(0x401006).tip_pgd();
  const uint32_t id = h.pt(kCpu0, pt);
  const auto host = h.build();
  const auto compared = compare_engines(*host, id, Resync::earliest);
  ASSERT_TRUE(compared.ok());
  EXPECT_EQ(compared->different + compared->beside_gaps, 0u);
  EXPECT_EQ(host->engine_counts().fast, 1u);
  EXPECT_EQ(host->engine_counts().libipt, 0u);

  uint64_t instructions = 0;
  for (const FlowEvent& e : test::all_events(**host->stream_flow(id))) {
    if (e.event.kind == EventKind::block) instructions += e.event.count;
    if (e.event.kind == EventKind::tsx) {
      EXPECT_LT(e.event.time.latest, Tsc(3000));  // bounded by the second TSC packet, give or take how late it may be
    }
    if (e.event.kind == EventKind::async_branch) {  // the second TSC packet stands between its two
      EXPECT_LE(e.event.time.earliest, Tsc(2000));
      EXPECT_GE(e.event.time.latest, Tsc(2000));
    }
  }
  EXPECT_EQ(instructions, 7u);
  const auto totals = host->count(id);
  ASSERT_TRUE(totals.ok());
  EXPECT_EQ(totals->instructions, instructions);
  EXPECT_EQ(totals->skipped + totals->given_up, 0u);
}

/// What is told of a run, and how many instructions ran before.
using Told = std::vector<std::pair<std::string, uint64_t>>;

/// The tiny program, run for some instructions with interrupts and transactions anywhere. What the CPU would send of it.
PtBytes random_run(unsigned seed, Told& told) {
  std::mt19937 random(seed);
  PtBytes t = start(1000).tip_pge(0x401000);
  std::vector<uint64_t> calls, interrupted;
  uint64_t ip = 0x401000, ran = 0;
  const auto tell = [&](EventKind kind, uint64_t to, uint32_t count) {
    Event e;
    e.kind = kind;
    e.ip = ip;
    e.to = to;
    e.count = count;
    told.push_back({text_of(e), ran});
  };
  while (ran < 300) {
    if (random() % 8 == 0) {
      const uint64_t handler = random() % 2 ? 0x401020 : 0x401022;
      tell(EventKind::async_branch, handler, 0);
      t.fup(ip).mtc(1).tip(handler);
      interrupted.push_back(ip);
      ip = handler;
    }
    if (random() % 8 == 0) {
      const int state = random() % 2;
      tell(EventKind::tsx, 0, static_cast<uint32_t>(state));
      t.mode_tsx(state).cyc(3).fup(ip);
    }
    if (random() % 32 == 0) {
      t.psb().mode_exec().fup(ip).psbend();
      calls.clear();
    }
    ++ran;
    switch (ip) {
      case 0x401000:
        calls.push_back(0x401005);
        ip = 0x401010;
        break;
      case 0x401006:
        ip = 0x401000;
        break;
      case 0x401010:
        ip = random() % 2 ? 0x401014 : 0x401012;
        t.tnt(ip == 0x401014 ? "T" : "N");
        break;
      case 0x401014:
        ip = 0x401005;
        if (calls.empty()) {
          t.tip(ip);
        } else {
          calls.pop_back();
          t.tnt("T");
        }
        break;
      case 0x401020:
        ip = interrupted.back();
        interrupted.pop_back();
        t.tip(ip);
        break;
      case 0x401023:
        ip = 0x401020;
        break;
      default:
        ++ip;
    }
  }
  tell(EventKind::async_disabled, 0, 0);
  return t.fup(ip).tip_pgd();
}

TEST(HostTrace, InterruptsAndTransactionsAnywhereAreToldWhereTheyWere) {
  for (unsigned seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE(seed);
    Told expected;
    TinyHost h;
    h.code(kNoPid, test::kTinyBase, test::tiny_program());
    const uint32_t id = h.pt(kCpu0, random_run(seed, expected));
    const auto host = h.build();
    Told told;
    uint64_t ran = 0;
    for (const FlowEvent& e : test::all_events(**host->stream_flow(id))) {
      if (e.event.kind == EventKind::block)
        ran += e.event.count;
      else if (e.event.kind != EventKind::enabled)
        told.push_back({text_of(e.event), ran});
    }
    ASSERT_EQ(told, expected);
    const auto compared = compare_engines(*host, id, Resync::earliest);
    ASSERT_TRUE(compared.ok());
    EXPECT_EQ(compared->different + compared->beside_gaps, 0u);
    EXPECT_EQ(host->engine_counts().libipt, 0u);
    EXPECT_EQ(host->count(id).value().instructions, ran);
  }
}

TEST(HostTrace, AnOvfInsideOfACycIsSeenOnTheCpusThatHaveThem) {
  for (const uint8_t model : {0x5e, 0x55}) {
    test::TinyHost h;
    h.snapshot.info.cpu.family = 6;
    h.snapshot.info.cpu.model = model;
    h.code(Pid(10), test::kTinyBase, test::tiny_program());
    PtBytes pt = start(1000).tip_pge(0x401000).tnt("T").raw({0x0f, 0x02, 0xf3}).fup(0x401010).tnt("N").tip_pgd(0);
    const uint32_t id = h.pt(CpuId(0), pt.pad(16), Tid(10));
    const auto host = h.build();
    const auto lines = text_of(test::all_events(**host->stream_flow(id)));
    const bool overflow = std::find(lines.begin(), lines.end(), "overflow 401010") != lines.end();
    EXPECT_EQ(overflow, model == 0x5e);
    EXPECT_EQ(host->cpus()[0].overflows, model == 0x5e ? 1u : 0u);
    const auto compared = compare_engines(*host, id, Resync::earliest);
    ASSERT_TRUE(compared.ok());
    EXPECT_EQ(compared->different, 0u);
  }
}

}  // namespace
}  // namespace hindcast::decode
