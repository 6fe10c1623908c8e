// When superblocks ran, against the rule taken one by one: between the packet that was used before and the one that is used
// next, whatever lies there.
#include <gtest/gtest.h>

#include "decode/fast/walked_times.h"
#include "tests/support/code_at.h"
#include "tests/support/packet_mutation.h"
#include "tests/support/random_program.h"
#include "tests/support/tiny_program.h"

namespace hindcast::decode {
namespace {

constexpr uint64_t kBase = test::kTinyBase;

/// One stretch's walk, each batch of which is asked for its times.
class Check {
 public:
  Check(const PtTrace& trace, bool ret_compression, BlockGraph& graph, RunMemo& memo)
      : trace_(trace), graph_(graph), walk_(trace, ret_compression, memo), times_(trace.times) {}

  void stretch(const Stretch& st, size_t room) {
    if (!st.plain || st.begin_ip == 0 || st.bits != 64) return;
    walk_.stack().clear();
    if (!walk_.begin(st, graph_)) return;
    uint64_t previous = st.begin;
    std::vector<BlockId> ids(room);
    for (;;) {
      size_t n = 0;
      const auto found = walk_.next(ids, n);
      if (n != 0) batch(st, std::span(ids).first(n), previous);
      std::vector<uint32_t> tail;
      std::optional<BlockPart> part;
      PacketEvent event;
      if (found == StretchWalk::Found::blocks) continue;
      if (found == StretchWalk::Found::psb && walk_.cross_psb(tail, part)) {
        previous = walk_.last_psb();
        continue;
      }
      if (found != StretchWalk::Found::event || !walk_.cross_event(event, tail, part)) return;
      previous = event.last;
    }
  }

  // Of all superblocks:
  size_t superblocks = 0, intervals = 0, cuts = 0, batches = 0, in_order = 0;

 private:
  void batch(const Stretch& st, std::span<const BlockId> ids, uint64_t& previous) {
    WalkedTimes found;
    found.find(walk_, ids, previous, st, times_);
    found.find_offsets(walk_);
    ASSERT_FALSE(found.times().empty());
    EXPECT_EQ(found.times()[0].first, 0u);
    size_t at = 0;
    StretchWalk::Replay replay = walk_.replay();
    for (size_t i = 0; i < ids.size(); ++i) {
      const uint64_t next = replay.next_offset(walk_);
      const uint64_t behind = std::max(previous, next);
      TscInterval time = trace_.times.window(std::min(previous, next), behind);
      time.earliest = std::max(time.earliest, st.begin_time.earliest);
      time.latest = std::max(time.earliest, std::min(time.latest, st.end_time.latest));
      told_ = {std::max(told_.earliest, time.earliest), std::max(told_.latest, time.latest)};
      if (at + 1 < found.times().size() && found.times()[at + 1].first == i) ++at;
      ASSERT_EQ(found.times()[at].time, told_) << "superblock " << i << " of " << ids.size();
      ASSERT_EQ(found.base() + found.offsets()[i], std::clamp(behind, st.begin + 1, st.end)) << i;
      if (const auto used = replay.pass(walk_, ids[i])) previous = *used;
    }
    EXPECT_EQ(at + 1, found.times().size());
    EXPECT_EQ(found.last_used(), previous);
    superblocks += ids.size();
    intervals += found.times().size();
    cuts += walk_.cuts().size();
    ++batches;
    in_order += walk_.in_order();
  }

  const PtTrace& trace_;
  BlockGraph& graph_;
  StretchWalk walk_;
  EventTimes times_;
  TscInterval told_{Tsc::min(), Tsc::min()};
};

class WalkedTimesTest : public testing::TestWithParam<bool> {};

TEST_P(WalkedTimesTest, EveryOneAsTheRuleSays) {
  const bool ret_compression = GetParam();
  size_t superblocks = 0, intervals = 0, cuts = 0, batches = 0, in_order = 0;
  for (unsigned seed = 1; seed <= 400; ++seed) {
    test::Random random(seed);
    const test::RandomProgram p(random, 2 + seed % 60, kBase, false);
    BlockGraph graph(test::code_at(kBase, p.code), 64);
    RunMemo memo(0);
    std::vector<uint64_t> ips;
    for (const auto& unit : p.units) ips.push_back(unit.ip);
    for (int run = 0; run < 6; ++run) {
      PtTimeConfig config;
      config.tsc_ctc_num = config.tsc_ctc_den = 1;
      config.mtc_period = static_cast<uint8_t>(3 + random() % 6);
      test::RandomCpu cpu(p, random,
                          {.ret_compression = ret_compression,
                           .deferred_returns = run % 3 == 0,
                           .long_tnt = run % 2 == 1,
                           .overflows = run == 5,
                           .timing = true,
                           .events_per_1000 = run % 3 == 2 ? 2u : 0u,
                           .mtc_period = config.mtc_period});
      cpu.begin();
      cpu.run(seed % 16 == 0 ? 30000 : 900);
      cpu.end();
      std::vector<uint8_t> bytes = cpu.trace().bytes();
      if (run == 4) {
        test::Packets packets = test::packets_of(bytes);
        test::mutate(packets, random, ips);
        bytes = test::joined(packets);
      }
      const PtTrace trace = PtTrace::scan(bytes, config);
      Check check(trace, ret_compression, graph, memo);
      const size_t room = std::array<size_t, 3>{7, 256, 1024}[random() % 3];
      for (const Stretch& st : trace.map.stretches) check.stretch(st, room);
      if (HasFatalFailure()) FAIL() << "seed " << seed << ", run " << run;
      superblocks += check.superblocks;
      intervals += check.intervals;
      cuts += check.cuts;
      batches += check.batches;
      in_order += check.in_order;
    }
  }
  // All that is to be distinguished was there.
  EXPECT_GT(intervals, 2 * batches);
  EXPECT_GT(superblocks, 2 * intervals);
  EXPECT_GT(cuts, 1000u);
  EXPECT_GT(in_order, batches / 10);
  EXPECT_GT(batches - in_order, 500u);
}

INSTANTIATE_TEST_SUITE_P(RetCompression, WalkedTimesTest, testing::Bool());

}  // namespace
}  // namespace hindcast::decode
