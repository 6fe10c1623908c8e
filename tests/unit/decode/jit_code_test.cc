// Jitdumps and perf maps in a snapshot: what both engines decode of code that was made at run time, and what it is called.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ctime>

#include "hindcast/clock_sample.h"
#include "tests/support/jitdump_bytes.h"
#include "tests/support/tiny_host.h"

namespace hindcast::decode {
namespace {

using test::JitDumpBytes;
using test::PerfBytes;
using test::PtBytes;
using test::TinyHost;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr Pid kPid{7};
constexpr uint64_t kAt = 0x1000;

/// The TSC is 2 * CLOCK_MONOTONIC + 1000 throughout.
void add_clock(TinyHost& h) {
  std::vector<uint8_t> bytes;
  for (uint64_t ns = 0; ns <= 10000; ns += 100)
    append_clock_sample(bytes, CLOCK_MONOTONIC, {2 * ns + 1000, ns, 2 * ns + 1000});
  StreamInfo s;
  s.id = 90;
  s.kind = StreamKind::clocks;
  s.bytes = bytes.size();
  h.snapshot.info.streams.push_back(s);
  h.snapshot.source.streams[s.id] = bytes;
}

uint32_t add_image(TinyHost& h, ImageKind kind, std::vector<uint8_t> bytes) {
  const uint32_t id = h.image(std::move(bytes), kind == ImageKind::jitdump ? "/tmp/jit-7.dump" : "/tmp/perf-7.map");
  h.snapshot.info.images.back().kind = kind;
  h.snapshot.info.images.back().pid = kPid;
  return id;
}

/// JZ over a byte, then RET; or NOP, NOP, NOP, RET: the second has no branch but its return.
const std::vector<uint8_t> kJumping{0x74, 0x00, 0x90, 0xc3}, kPlain{0x90, 0x90, 0x90, 0xc3};

/// A stretch that enters the code at `tsc`, once, and leaves by its RET.
void run_at(PtBytes& pt, uint64_t tsc, bool jumping) {
  pt.psb().tsc(tsc).psbend();
  pt.mode_exec().tip_pge(kAt);
  if (jumping) pt.tnt("N");
  pt.tip_pgd(0).tsc(tsc + 10);
}

std::vector<std::string> flow(const HostTrace& host, Engine engine) {
  FlowOptions options;
  options.engine = engine;
  auto cursor = host.thread_flow(Tid(7), options);
  if (!cursor.ok()) return {cursor.error().text()};
  std::vector<std::string> lines;
  for (const std::string& line : test::text_of(test::all_events(**cursor)))
    if (line.starts_with("block") || line.starts_with("gap")) lines.push_back(line);
  return lines;
}

TEST(JitCode, EachVersionIsDecodedInItsTime) {
  TinyHost h;
  add_clock(h);
  JitDumpBytes dump(4);  // as the process counts in its own namespace
  dump.load(1000, kAt, kJumping, "first").load(3000, kAt, kPlain, "second");
  add_image(h, ImageKind::jitdump, dump.bytes());
  PtBytes pt;
  run_at(pt, 4000, true);   // ns 1500
  run_at(pt, 9000, false);  // ns 4000
  h.pt(CpuId(0), pt, Tid(7));
  h.snapshot.info.root_pids = {kPid};
  const auto host = h.build();
  for (const Engine engine : {Engine::fast, Engine::libipt})
    EXPECT_THAT(flow(*host, engine), ElementsAre("block 1000-1000 x1 cond_branch", "block 1002-1003 x2 near_ret",
                                                 "block 1000-1003 x4 near_ret"));
}

TEST(JitCode, WithoutAClockItsVersionIsUnknownInBothEngines) {
  TinyHost h;
  JitDumpBytes dump(7);
  dump.load(1000, kAt, kJumping, "first");
  add_image(h, ImageKind::jitdump, dump.bytes());
  PtBytes pt;
  run_at(pt, 4000, true);
  h.pt(CpuId(0), pt, Tid(7));
  h.snapshot.info.root_pids = {kPid};
  const auto host = h.build();
  for (const Engine engine : {Engine::fast, Engine::libipt})
    EXPECT_THAT(flow(*host, engine), ElementsAre("gap code_version_unknown 1000"));
}

TEST(JitCode, UnknownCodeOfTheSnapshotIsAGapInBothEngines) {
  TinyHost h;
  h.code(kPid, kAt, kJumping);
  h.snapshot.info.placements.back().to = RecordTime(5000);
  h.snapshot.info.unknown_code.push_back({kPid, kAt + 3, 1, RecordTime(5000), RecordTime::max()});
  PtBytes pt;
  run_at(pt, 4000, true);
  run_at(pt, 9000, true);
  h.pt(CpuId(0), pt, Tid(7));
  h.snapshot.info.root_pids = {kPid};
  h.snapshot.info.placements.push_back(h.snapshot.info.placements.back());
  h.snapshot.info.placements.back().from = RecordTime(5000);
  h.snapshot.info.placements.back().to = RecordTime::max();
  h.snapshot.info.placements.back().length = 3;
  const auto host = h.build();
  for (const Engine engine : {Engine::fast, Engine::libipt})
    EXPECT_THAT(flow(*host, engine), ElementsAre("block 1000-1000 x1 cond_branch", "block 1002-1003 x2 near_ret",
                                                 "block 1000-1000 x1 cond_branch", "block 1002-1002 x1 none",
                                                 "gap code_version_unknown 1003"));
}

TEST(JitCode, UnknownCodeInFrontOfAPsbIsAGapOfThatCause) {
  TinyHost h;
  h.code(kPid, kAt, kPlain);
  h.snapshot.info.unknown_code.push_back({kPid, kAt + 1, 1, RecordTime(0), RecordTime::max()});
  PtBytes pt;
  pt.psb().tsc(4000).psbend().mode_exec().tip_pge(kAt);
  pt.psb().tsc(4010).mode_exec().fup(kAt + 2).psbend().tip_pgd(0).tsc(4020);
  h.pt(CpuId(0), pt, Tid(7));
  h.snapshot.info.root_pids = {kPid};
  const auto host = h.build();
  for (const Engine engine : {Engine::fast, Engine::libipt}) {
    const auto lines = flow(*host, engine);
    EXPECT_THAT(lines, Contains(HasSubstr("gap code_version_unknown")));
    EXPECT_THAT(lines, ::testing::Not(Contains(HasSubstr("desync"))));
  }
}

TEST(JitCode, FunctionsAreCalledAsTheProcessSays) {
  TinyHost h;
  add_clock(h);
  JitDumpBytes dump(7);
  dump.debug_info(kAt, {{kAt, 11, "a.js"}, {kAt + 2, 12, "\xff"}}).load(1000, kAt, kPlain, "f", 1);
  dump.move(2000, kAt, 0x5000, 4, 1);
  const uint32_t id = add_image(h, ImageKind::jitdump, dump.bytes());
  const std::string map = "9000 10 from_map\n1000 10 not_this\n";
  add_image(h, ImageKind::perf_map, {map.begin(), map.end()});
  h.pt(CpuId(0), PtBytes().psb().tsc(4000).psbend(), Tid(7));
  h.snapshot.info.root_pids = {kPid};
  const auto host = h.build();
  const auto called = [&](uint64_t ns, uint64_t ip) {
    const Interval<RecordTime> time{RecordTime(2 * ns + 1000), RecordTime(2 * ns + 1000)};
    const auto where = host->locate(kPid, time, Ip(ip));
    const auto f = host->made_function(kPid, where, Ip(ip));
    return f ? f->name + "+" + std::to_string(f->offset) + " " + f->file + ":" + std::to_string(f->line) : "-";
  };
  EXPECT_EQ(called(1500, kAt + 3), "f+3 a.js:12");
  EXPECT_EQ(called(1500, kAt), "f+0 a.js:11");
  EXPECT_EQ(called(2500, 0x5003), "f+3 a.js:12");
  EXPECT_EQ(called(2500, 0x9004), "from_map+4 :0");
  EXPECT_EQ(called(2500, 0x9010), "-");
  EXPECT_EQ(host->locate(kPid, {RecordTime(4000), RecordTime(4000)}, Ip(kAt))->image, id);
}

TEST(JitCode, WhatCannotBeReadIsSaid) {
  TinyHost h;
  add_clock(h);
  JitDumpBytes dump(7);
  dump.load(1000, kAt, kJumping, "first").record(0, 3000, {1, 2, 3});
  add_image(h, ImageKind::jitdump, dump.bytes());
  add_image(h, ImageKind::jitdump, {1, 2, 3});
  PtBytes pt;
  run_at(pt, 2999, true);  // before the time of the last record that could be read
  run_at(pt, 9000, true);
  h.pt(CpuId(0), pt, Tid(7));
  h.snapshot.info.root_pids = {kPid};
  const auto host = h.build();
  std::vector<std::string> words;
  for (const HostGap& g : host->gaps()) words.push_back(g.words);
  EXPECT_THAT(words, Contains(HasSubstr("without its fields")));
  EXPECT_THAT(words, Contains(HasSubstr("3 bytes")));
  EXPECT_THAT(flow(*host, Engine::fast), Contains("gap code_version_unknown 1000"))
      << "the rest of the file may have told of other code there";
}

}  // namespace
}  // namespace hindcast::decode
