// Stage 2 against programs that are made up and run by the test itself: it knows every block that ran.
#include <gtest/gtest.h>

#include <optional>

#include "decode/fast/walker.h"
#include "tests/support/code_at.h"
#include "tests/support/random_program.h"
#include "tests/support/tiny_program.h"

namespace hindcast::decode {
namespace {

constexpr uint64_t kBase = test::kTinyBase;

std::vector<uint64_t> walk(BlockGraph& graph, RunMemo& memo, const test::PtBytes& t, bool ret_compression,
                           size_t room) {
  TraceBytes trace(t.bytes());
  LaneLexer lexer(trace, 0, t.size(), kBase);
  Lanes lanes;
  Walk w;
  w.at = graph.at(kBase);
  ReturnStack stack;
  std::vector<uint64_t> blocks;
  std::vector<BlockId> out(room), targets;
  while (lexer.stop() == LaneLexer::Stop::full) {
    const uint32_t whole = w.bit / 8 * 8;
    lexer.more(lanes, w.bit, w.tip);
    w.bit -= whole;
    w.tip = 0;
    targets.clear();
    for (size_t i = 0; i < lanes.tips; ++i) targets.push_back(graph.at(lanes.tip[i]));
    targets.push_back(kNoBlock);
    WalkStop why;
    do {
      size_t n = 0;
      why = walk_blocks(graph, memo, lanes, targets, ret_compression, w, stack, out, n);
      for (size_t i = 0; i < n; ++i)
        for (uint32_t b = index_of(out[i]); b != 0; b = graph.block(b).onward) blocks.push_back(graph.block(b).ip);
    } while (why == WalkStop::out_full);
    EXPECT_TRUE(why == WalkStop::used_all || why == WalkStop::wants_tip) << static_cast<int>(why);
  }
  EXPECT_TRUE(w.used_all(lanes));
  return blocks;
}

class RandomProgram : public testing::TestWithParam<bool> {};

TEST_P(RandomProgram, EveryBlockInOrder) {
  const bool ret_compression = GetParam();
  std::optional<RunMemo> memo(std::in_place,
                              0);  // of several programs: what it knows of one must not be taken for another's
  size_t programs = 0;
  for (unsigned seed = 1; seed <= 300; ++seed) {
    if (seed % 8 == 0) memo.emplace(0);
    test::Random random(seed);
    const test::RandomProgram p(random, 2 + seed % 60, kBase, false);
    BlockGraph graph(test::code_at(kBase, p.code), 64);
    for (int run = 0; run < 3; ++run) {
      test::RandomCpu cpu(p, random, {.ret_compression = ret_compression, .deferred_returns = true});
      cpu.run(run == 2 ? 40000 : 700);
      cpu.stop();
      if (cpu.circles()) break;
      ++programs;
      std::vector<uint64_t> ran;
      for (size_t i = 0; i < cpu.parts()[0].shown; ++i) ran.push_back(cpu.parts()[0].ran[i].ip);
      for (const size_t room : {size_t{1}, size_t{9}, size_t{1000}})
        ASSERT_EQ(walk(graph, *memo, cpu.trace(), ret_compression, room), ran) << "seed " << seed << " run " << run;
    }
  }
  EXPECT_GT(programs, 300u);
}

INSTANTIATE_TEST_SUITE_P(, RandomProgram, testing::Bool(),
                         [](const auto& p) { return p.param ? "RetCompression" : "NoRetCompression"; });

}  // namespace
}  // namespace hindcast::decode
