// Traces of user and kernel code: whose each instruction is, through context switches, code that is mapped anew, and a kernel
// that changes itself. What ran is known (tests/support/tiny_os.h): nothing else may be said, and little be left open.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "decode/host_trace.h"
#include "tests/support/long_run.h"
#include "tests/support/tiny_os.h"

namespace hindcast::decode {
namespace {

using test::all_events;
using test::TinyOs;

/// Of what was said, in instructions.
struct Said {
  uint64_t known = 0;    // thread and all
  uint64_t nobodys = 0;  // ran, but by whom is not known
  uint64_t lost = 0;
  uint64_t gaps = 0;
};

/// Every instruction that a stream's flow tells is the truth's, one behind the other; between them only gaps leave some out.
Said check(const TinyOs& os, const HostTrace& host, Engine engine = Engine::fast) {
  Said said;
  const auto& ran = os.ran();
  size_t at = 0;
  bool lost = true;  // at first: what was there before the first packet
  auto flow = host.stream_flow(1, {.engine = engine});
  EXPECT_TRUE(flow.ok());
  const auto events = all_events(**flow, 10'000'000);
  for (const FlowEvent& e : events) {
    if (e.event.kind == EventKind::gap) {
      ++said.gaps;
      lost = true;
    }
    if (e.event.kind != EventKind::block) continue;
    // Behind a gap the first place where the block can be by its time; there it has to fit.
    const auto fits = [&](size_t from) {
      uint64_t ip = e.event.ip;
      for (uint32_t i = 0; i < e.event.count; ++i) {
        if (from + i >= ran.size() || (i == 0 && ran[from].ip != ip)) return false;
        ip = ran[from + i].ip;
      }
      return ip == e.event.last_ip && (e.tid == kNoTid || ran[from].tid == e.tid) &&
             e.event.time.earliest.value() <= ran[from].time && ran[from].time <= e.event.time.latest.value();
    };
    size_t found = at;
    while (lost && found < ran.size() && !fits(found)) ++found;
    if (found >= ran.size() || !fits(found)) {
      ADD_FAILURE() << test::text_of(e.event) << " of " << e.tid.value() << " at " << e.event.offset << " in ["
                    << e.event.time.earliest.value() << ", " << e.event.time.latest.value()
                    << "] is not what ran; next was " << std::hex << (at < ran.size() ? ran[at].ip : 0) << std::dec
                    << " of " << (at < ran.size() ? ran[at].tid.value() : 0) << " at "
                    << (at < ran.size() ? ran[at].time : 0);
      return said;
    }
    said.lost += found - at;
    (e.tid == kNoTid ? said.nobodys : said.known) += e.event.count;
    if (e.tid == kNoTid && !os.loses()) {
      // Only near a switch.
      const auto next = std::lower_bound(os.unsure().begin(), os.unsure().end(), ran[found].time);
      const bool near = (next != os.unsure().end() && *next - ran[found].time < 2000) ||
                        (next != os.unsure().begin() && ran[found].time - next[-1] < 2000);
      EXPECT_TRUE(near) << ran[found].time;
    }
    at = found + e.event.count;
    lost = false;
  }
  return said;
}

/// A thread's flow is what the stream's says of it.
void check_threads(const TinyOs& os, const HostTrace& host) {
  auto stream = host.stream_flow(1);
  const auto all = all_events(**stream, 10'000'000);
  for (const Tid tid : os.tids()) {
    std::vector<std::string> wanted, got;
    for (const FlowEvent& e : all)
      if (e.tid == tid && e.event.kind == EventKind::block) wanted.push_back(test::text_of(e.event));
    if (!host.find_thread(tid)) {  // it never ran
      EXPECT_TRUE(wanted.empty());
      continue;
    }
    auto flow = host.thread_flow(tid);
    ASSERT_TRUE(flow.ok()) << flow.error().text();
    uint64_t unattributed = 0;
    for (const FlowEvent& e : all_events(**flow, 10'000'000)) {
      if (e.event.kind == EventKind::block) got.push_back(test::text_of(e.event));
      unattributed += e.event.kind == EventKind::gap && e.event.cause == GapCause::unattributed;
    }
    EXPECT_EQ(got, wanted) << tid.value();
    if (!os.loses()) {
      EXPECT_TRUE(unattributed != 0 || wanted.empty()) << tid.value();
    }
  }
}

uint64_t most_seeds(uint64_t usual) { return test::long_run() ? 20 * usual : usual; }

class KernelTrace : public testing::TestWithParam<bool> {};  // with return compression

TEST_P(KernelTrace, EveryInstructionIsItsThreads) {
  for (const bool separate_tables : {false, true}) {
    for (uint64_t seed = 1; seed <= most_seeds(3); ++seed) {
      TinyOs os(seed, {.ret_compression = GetParam(), .separate_tables = separate_tables});
      os.run(40000);
      test::TinyHost h = os.host();
      const auto host = h.build();
      const Said said = check(os, *host);
      EXPECT_EQ(said.gaps, 1u) << seed;  // where the trace ends
      EXPECT_EQ(said.lost, 0u);
      EXPECT_GT(said.known, 8 * said.nobodys);
      EXPECT_GT(said.nobodys, 0u);
      EXPECT_GT(said.known + said.nobodys + 100, os.ran().size());
      check_threads(os, *host);
      if (HasFailure()) return;
    }
  }
}

/// Little is left open where code changes now and then.
void check_changes(TinyOs::Options options) {
  options.slice = 12000;
  options.psb_every = 1024;
  for (uint64_t seed = 1; seed <= most_seeds(3); ++seed) {
    TinyOs os(seed, options);
    os.run(100000);
    test::TinyHost h = os.host();
    const auto host = h.build();
    const Said said = check(os, *host);
    EXPECT_GT(said.known, 20 * said.nobodys) << seed;
    EXPECT_LT(said.lost, os.ran().size() / 4);
    check_threads(os, *host);
    if (testing::Test::HasFailure()) return;
  }
}

TEST_P(KernelTrace, CodeThatIsMappedAnewIsItsTimes) { check_changes({.ret_compression = GetParam(), .maps = true}); }

TEST_P(KernelTrace, AKernelThatChangesItselfIsReadAsItWas) {
  check_changes({.ret_compression = GetParam(), .pokes = true});
}

TEST_P(KernelTrace, WithoutItsCodeTheKernelIsMissingAndNothingElse) {
  for (const bool separate_tables : {false, true}) {
    TinyOs os(7, {.ret_compression = GetParam(),
                  .separate_tables = separate_tables,
                  .kernel_code_known = false,
                  .psb_every = separate_tables ? 4096u : 256u});
    os.run(100000);
    test::TinyHost h = os.host();
    const auto host = h.build();
    const Said said = check(os, *host);
    EXPECT_GT(said.known, 100u);
    if (separate_tables) {
      // Where the page tables change, the way back is seen.
      const auto user = std::count_if(os.ran().begin(), os.ran().end(), [](const auto& r) { return r.ip >> 63 == 0; });
      EXPECT_GT(said.known + said.nobodys, static_cast<uint64_t>(user) * 9 / 10);
    }
    check_threads(os, *host);
    if (HasFailure()) return;
  }
}

TEST_P(KernelTrace, LibiptSaysTheSame) {
  for (uint64_t seed = 1; seed <= most_seeds(3); ++seed) {
    TinyOs os(seed, {.ret_compression = GetParam(), .separate_tables = seed % 2 == 0});
    os.run(40000);
    test::TinyHost h = os.host();
    const auto host = h.build();
    const Said said = check(os, *host, Engine::libipt);
    EXPECT_EQ(said.lost, 0u);
    EXPECT_GT(said.known, 8 * said.nobodys);
    if (HasFailure()) return;
  }
}

TEST_P(KernelTrace, IsReadFromAnyPlaceOn) {
  TinyOs os(11,
            {.ret_compression = GetParam(), .separate_tables = true, .maps = true, .pokes = true, .psb_every = 512});
  os.run(30000);
  test::TinyHost h = os.host();
  const auto host = h.build();
  ASSERT_TRUE(host->number_instructions(3, {}).ok());
  for (const Tid tid : os.tids()) {
    if (!host->find_thread(tid)) continue;
    auto flow = host->thread_flow(tid);
    ASSERT_TRUE(flow.ok());
    const std::vector<FlowEvent> all = all_events(**flow);
    SCOPED_TRACE(tid.value());
    ASSERT_TRUE((*flow)->instructions().has_value());
    uint64_t instructions = 0;
    for (const FlowEvent& e : all) {
      EXPECT_EQ(e.number, instructions);
      instructions += e.event.kind == EventKind::block ? e.event.count : 0;
    }
    EXPECT_EQ(*(*flow)->instructions(), instructions);
    std::vector<FlowEvent> back;
    (*flow)->seek_end();
    FlowEvent e;
    while ((*flow)->previous({&e, 1}) != 0) back.push_back(e);
    std::reverse(back.begin(), back.end());
    EXPECT_EQ(test::text_of(back), test::text_of(all));
    for (size_t i = 0; i < all.size(); i += 1 + all.size() / 50) {
      if (all[i].event.kind != EventKind::block) continue;
      ASSERT_TRUE((*flow)->seek_instruction(all[i].number + all[i].event.count - 1));
      ASSERT_EQ((*flow)->next({&e, 1}), 1u);
      EXPECT_EQ(test::text_of(e.event), test::text_of(all[i].event)) << i;
      EXPECT_EQ(e.number, all[i].number);
    }
    if (HasFailure()) return;
  }
}

TEST_P(KernelTrace, CountsWhatItTells) {
  TinyOs os(12, {.ret_compression = GetParam(), .separate_tables = true});
  os.run(30000);
  test::TinyHost h = os.host();
  const auto host = h.build();
  const auto totals = host->count(1), timed = host->count_timed(1);
  ASSERT_TRUE(totals.ok() && timed.ok());
  const Said said = check(os, *host);
  EXPECT_EQ(timed->instructions, said.known + said.nobodys);
  EXPECT_EQ(totals->instructions, said.known + said.nobodys);
  EXPECT_EQ(totals->skipped + totals->given_up, 0u);
}

TEST_P(KernelTrace, WhatIsLostIsAGap) {
  for (uint64_t seed = 1; seed <= most_seeds(6); ++seed) {
    TinyOs os(seed, {.ret_compression = GetParam(), .separate_tables = seed % 2 == 0, .overflows = true});
    os.run(40000);
    test::TinyHost h = os.host();
    const auto host = h.build();
    for (const Engine engine : {Engine::fast, Engine::libipt}) {
      const Said said = check(os, *host, engine);
      EXPECT_GE(said.gaps, 2u);
      EXPECT_GT(said.known, os.ran().size() / 3);
    }
    check_threads(os, *host);
    if (HasFailure()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(RetCompression, KernelTrace, testing::Bool());

}  // namespace
}  // namespace hindcast::decode
