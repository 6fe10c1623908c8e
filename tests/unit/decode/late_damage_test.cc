// Bytes that were there when a stream was scanned and cannot be read any more when it is decoded: each engine tells a gap, and
// nothing that the lost bytes decided.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "tests/support/losing_stream.h"
#include "tests/support/tiny_host.h"

namespace hindcast::decode {
namespace {

using test::LosingStream;
using test::Lost;
using test::PtBytes;

constexpr uint64_t kCode = 0x401000;

class LosingSource final : public ByteSource {
 public:
  explicit LosingSource(ByteSource& whole) : whole_(whole) {}
  Result<SharedBytes> stream(uint32_t id) override { return whole_.stream(id); }
  Result<SharedBytes> image(uint32_t id) override { return whole_.image(id); }
  Result<std::shared_ptr<StreamBytes>> stream_in_parts(uint32_t id) override {
    HC_TRY(const SharedBytes bytes, whole_.stream(id));
    opened = std::make_shared<LosingStream>(std::vector<uint8_t>(bytes.bytes.begin(), bytes.bytes.end()));
    return std::shared_ptr<StreamBytes>(opened);
  }
  std::shared_ptr<LosingStream> opened;

 private:
  ByteSource& whole_;
};

/// A loop that takes a branch and an indirect jump, with a PSB now and then and tracing off between some of them.
PtBytes loop_trace(std::mt19937_64& random, std::vector<uint64_t>& psbs) {
  PtBytes t;
  for (int i = 0; i < 12; ++i) {
    psbs.push_back(t.size());
    t.psb().tsc(1000 + static_cast<uint64_t>(i) * 100).mode_exec().fup(kCode).psbend();
    for (uint64_t n = 3 + random() % 8; n != 0; --n) {
      if (random() & 1) t.cyc(random() % 300);
      t.tnt("N").tip(kCode);
    }
    if (i % 4 != 3) continue;
    t.fup(kCode).tip_pgd(0, 0).mtc(7).mtc(8);
    psbs.push_back(t.size());
    t.psb().tsc(1050 + static_cast<uint64_t>(i) * 100).psbend().mode_exec().tip_pge(kCode);
    t.tnt("N").tip(kCode);
  }
  t.fup(kCode).tip_pgd(0, 0);
  return t;
}

struct Host {
  explicit Host(const PtBytes& pt) : source(tiny.snapshot.source) {
    tiny.code(Pid(7), kCode, {0x90, 0x75, 0x01, 0x90, 0xff, 0xe0});  // NOP, JNZ +1, NOP, JMP *RAX
    tiny.snapshot.info.root_pids = {Pid(7)};
    stream = tiny.pt(CpuId(0), pt, Tid(7));
    trace = HostTrace::build(tiny.snapshot.info, source).value();
  }
  std::vector<Event> events(Engine engine) const {
    FlowOptions options;
    options.engine = engine;
    std::vector<Event> all;
    for (const FlowEvent& e : test::all_events(*trace->stream_flow(stream, options).value())) all.push_back(e.event);
    return all;
  }

  test::TinyHost tiny;
  LosingSource source;
  uint32_t stream = 0;
  std::unique_ptr<HostTrace> trace;
};

bool same(const Event& a, const Event& b) {
  return a.kind == b.kind && a.ip == b.ip && a.last_ip == b.last_ip && a.count == b.count && a.end == b.end &&
         a.offset == b.offset;
}

/// Empty when it is right.
std::string wrong(const std::vector<Event>& whole, const std::vector<Event>& damaged, const std::vector<Lost>& lost,
                  const std::vector<uint64_t>& psbs) {
  const auto is_gap = [](const Event& e) { return e.kind == EventKind::gap; };
  const auto first_gap = std::find_if(damaged.begin(), damaged.end(), is_gap);
  if (first_gap == damaged.end()) {
    // Nobody had to read it.
    const bool all_same =
        whole.size() == damaged.size() && std::equal(whole.begin(), whole.end(), damaged.begin(), same);
    return all_same ? "" : "another flow, and no gap";
  }
  const size_t before = static_cast<size_t>(first_gap - damaged.begin());
  if (before > whole.size()) return "more before it";
  if (before != 0) {
    // The last block may be told to its end before a packet shows where its branch went: libipt does so.
    if (!std::equal(damaged.begin(), first_gap - 1, whole.begin(), same)) return "wrong before it";
    Event last = damaged[before - 1];
    if (last.kind == EventKind::block && last.offset < whole[before - 1].offset) last.offset = whole[before - 1].offset;
    if (!same(last, whole[before - 1])) return "wrong before it";
  }
  const auto decided =
      std::count_if(whole.begin(), whole.end(), [&](const Event& e) { return e.offset + 16 < lost[0].from; });
  if (static_cast<size_t>(decided) > before + 1) return "too little before it";
  if (std::none_of(first_gap, damaged.end(), [](const Event& e) { return e.cause == GapCause::cut; }))
    return "no gap of cause cut";
  for (const Event& e : damaged)
    for (const Lost& l : lost)
      if (!is_gap(e) && e.offset > l.from && e.offset < l.to) return "an event inside of it";
  // Behind the first PSB that is whole.
  const auto is_whole = [&](uint64_t psb) { return psb >= lost.back().to; };
  const auto psb = std::find_if(psbs.begin(), psbs.end(), is_whole);
  if (psb == psbs.end()) return "";
  const auto behind = [&](const std::vector<Event>& all) {
    return std::find_if(all.begin(), all.end(), [&](const Event& e) { return e.offset > *psb + 40; });
  };
  const auto a = behind(whole), b = behind(damaged);
  if (whole.end() - a != damaged.end() - b || !std::equal(a, whole.end(), b, same)) return "wrong behind it";
  return "";
}

class LateDamage : public testing::TestWithParam<Engine> {};

TEST_P(LateDamage, IsAGapWhereverItIs) {
  std::mt19937_64 random(11);
  std::vector<uint64_t> psbs;
  const PtBytes pt = loop_trace(random, psbs);
  const std::vector<Event> whole = Host(pt).events(GetParam());
  ASSERT_GT(whole.size(), 100u);
  ASSERT_TRUE(std::none_of(whole.begin(), whole.end(), [](const Event& e) { return e.kind == EventKind::gap; }));
  size_t gaps = 0, checks = 0;
  for (const uint64_t length : {1, 16, 150})
    for (uint64_t from = 0; from + length <= pt.size(); from += length == 1 ? 1 : 5) {
      const std::vector<Lost> lost{{from, from + length}};
      const Host host(pt);
      host.source.opened->lose(lost);
      const std::vector<Event> damaged = host.events(GetParam());
      ASSERT_EQ(wrong(whole, damaged, lost, psbs), "") << from << " to " << from + length;
      ASSERT_EQ(host.source.opened->held(), 0);
      gaps += std::any_of(damaged.begin(), damaged.end(), [](const Event& e) { return e.kind == EventKind::gap; });
      ++checks;
    }
  EXPECT_GT(gaps, checks * 8 / 10);
}

TEST_P(LateDamage, InSeveralPlacesTheRestIsRight) {
  std::mt19937_64 random(12);
  for (int run = 0; run < 60; ++run) {
    std::vector<uint64_t> psbs;
    const PtBytes pt = loop_trace(random, psbs);
    std::vector<Lost> lost;
    for (uint64_t at = random() % 100; at + 60 < pt.size(); at += 60 + random() % 200)
      lost.push_back({at, at + 1 + random() % 59});
    const std::vector<Event> whole = Host(pt).events(GetParam());
    const Host host(pt);
    host.source.opened->lose(lost);
    ASSERT_EQ(wrong(whole, host.events(GetParam()), lost, psbs), "") << "run " << run;
    ASSERT_TRUE(host.trace->number_instructions(1, {}).ok());
    const Host other(pt);
    other.source.opened->lose(lost);
    ASSERT_TRUE(other.trace->number_instructions(2, {}).ok());
    EXPECT_EQ(host.trace->stream_flow(host.stream).value()->instructions(),
              other.trace->stream_flow(other.stream).value()->instructions());
  }
}

TEST_P(LateDamage, OverSeveralPsbsIsOneGap) {
  std::mt19937_64 random(14);
  std::vector<uint64_t> psbs;
  const PtBytes pt = loop_trace(random, psbs);
  const Host host(pt);
  host.source.opened->lose({{psbs[1] + 20, psbs[3] + 1}});  // all in one stretch
  const std::vector<Event> events = host.events(GetParam());
  EXPECT_EQ(std::count_if(events.begin(), events.end(), [](const Event& e) { return e.kind == EventKind::gap; }), 1);
}

TEST_P(LateDamage, OfAllIsAGap) {
  std::mt19937_64 random(13);
  std::vector<uint64_t> psbs;
  const PtBytes pt = loop_trace(random, psbs);
  const Host host(pt);
  host.source.opened->lose({{0, pt.size()}});
  const std::vector<Event> events = host.events(GetParam());
  EXPECT_TRUE(std::any_of(events.begin(), events.end(), [](const Event& e) { return e.kind == EventKind::gap; }));
  EXPECT_TRUE(std::none_of(events.begin(), events.end(), [](const Event& e) { return e.kind == EventKind::block; }));
}

INSTANTIATE_TEST_SUITE_P(Engines, LateDamage, testing::Values(Engine::fast, Engine::libipt),
                         [](const auto& info) { return info.param == Engine::fast ? "fast" : "libipt"; });

}  // namespace
}  // namespace hindcast::decode
