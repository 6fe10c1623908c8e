// Stage 2: lanes through a block graph; deferred TIPs, the return stack's depth, and every way to stop.
#include "decode/fast/walker.h"

#include <gtest/gtest.h>

#include "tests/support/code_at.h"
#include "tests/support/pt_bytes.h"
#include "tests/support/tiny_program.h"

namespace hindcast::decode {
namespace {

using test::PtBytes;
using Ips = std::vector<uint64_t>;

struct Walked {
  Ips blocks;
  WalkStop why = WalkStop::out_full;
  uint64_t at = 0;
};

Walked walk(const std::vector<uint8_t>& code, uint64_t from, const PtBytes& t, bool ret_compression = true,
            size_t room = 20) {
  BlockGraph graph(test::code_at(test::kTinyBase, code), 64);
  TraceBytes trace(t.bytes());
  LaneLexer lexer(trace, 0, t.size(), from);
  Lanes lanes;
  lexer.more(lanes, 0, 0);
  Walk w;
  w.at = graph.at(from);
  std::vector<BlockId> targets;
  for (size_t i = 0; i < lanes.tips; ++i) targets.push_back(graph.at(lanes.tip[i]));
  targets.push_back(kNoBlock);
  ReturnStack stack;
  RunMemo memo(0);
  Walked result;
  std::vector<BlockId> out(room);
  while (result.why == WalkStop::out_full) {
    size_t n = 0;
    result.why = walk_blocks(graph, memo, lanes, targets, ret_compression, w, stack, out, n);
    for (size_t i = 0; i < n; ++i)
      for (uint32_t b = index_of(out[i]); b != 0; b = graph.block(b).onward) result.blocks.push_back(graph.block(b).ip);
    if (result.blocks.size() > 100000) break;
  }
  result.at = graph.block(index_of(w.at)).ip;
  return result;
}

TEST(Walker, StopsRightBehindTheLastBit) {
  const Walked w = walk(test::tiny_program(), 0x401000, PtBytes().tnt("NTTT"));
  // call, jne (not taken), ret (compressed), jmp, call, jne (taken), ret; and no block of what comes then
  EXPECT_EQ(w.blocks, (Ips{0x401000, 0x401010, 0x401012, 0x401005, 0x401000, 0x401010, 0x401014}));
  EXPECT_EQ(w.why, WalkStop::used_all);
  EXPECT_EQ(w.at, 0x401005u);
}

TEST(Walker, AnIndirectBranchTakesItsTipEvenThoughLaterBitsWereSentBefore) {
  // call *%rax (TIP), jne taken (bit), ret (compressed): the TNT was sent first.
  const Walked w = walk(test::tiny_program(), 0x401040, PtBytes().tnt("TT").tip(0x401010));
  EXPECT_EQ(w.blocks, (Ips{0x401040, 0x401010, 0x401014}));
  EXPECT_EQ(w.why, WalkStop::used_all);
  EXPECT_EQ(w.at, 0x401042u);
}

TEST(Walker, WithoutRetCompressionAReturnTakesATipThoughBitsAreLeft) {
  const Walked w = walk(test::tiny_program(), 0x401010, PtBytes().tnt("TN").tip(0x401010), false);
  EXPECT_EQ(w.blocks, (Ips{0x401010, 0x401014, 0x401010}));
  EXPECT_EQ(w.at, 0x401012u);
}

TEST(Walker, BitsBehindATipAreForWhatFollowsIt) {
  EXPECT_EQ(walk(test::tiny_program(), 0x401010, PtBytes().tip(0x401000).tnt("T")).why, WalkStop::wants_bit);
  // The RET comes before the bit, so it is not compressed.
  const Walked w = walk(test::tiny_program(), 0x401014, PtBytes().tip(0x401010).tnt("T"));
  EXPECT_EQ(w.blocks, (Ips{0x401014, 0x401010}));
}

TEST(Walker, SaysWhatItCannotFollow) {
  EXPECT_EQ(walk(test::tiny_program(), 0x401014, PtBytes().tnt("T")).why, WalkStop::unseen_call);
  EXPECT_EQ(walk(test::tiny_program(), 0x401000, PtBytes().tnt("NN")).why, WalkStop::bad_return);
  EXPECT_EQ(walk(test::tiny_program(), 0x401020, PtBytes().tnt("N")).why, WalkStop::wants_tip);
  EXPECT_EQ(walk(test::tiny_program(), 0x401030, PtBytes().tnt("N")).why, WalkStop::circle);
  EXPECT_EQ(walk(test::tiny_program(), 0x500000, PtBytes().tnt("N")).why, WalkStop::no_code);
}

TEST(Walker, ACircleOfManyCutsIsFoundToo) {
  std::vector<uint8_t> code;
  for (unsigned i = 0; i < 3 * BlockGraph::kMostAtOnce; ++i) code.insert(code.end(), {0xeb, 0x00});  // jmp to the next
  const auto back = static_cast<uint32_t>(-static_cast<int32_t>(code.size() + 5));
  code.push_back(0xe9);
  for (int b = 0; b < 4; ++b) code.push_back(static_cast<uint8_t>(back >> 8 * b));
  EXPECT_EQ(walk(code, test::kTinyBase, PtBytes().tnt("N")).why, WalkStop::circle);
}

TEST(Walker, ALoopThatUsesTraceIsNoCircle) {
  PtBytes t;
  for (int i = 0; i < 1000; ++i) t.tnt("NT");
  const Walked w = walk(test::tiny_program(), 0x401000, t);
  EXPECT_EQ(w.why, WalkStop::used_all);
  EXPECT_EQ(w.blocks.size(), 4000u - 1);
}

TEST(Walker, TheReturnStackHolds64CallsAndForgetsTheOldest) {
  // n calls in a row, each to the next; then as many returns.
  for (const size_t calls : {size_t{64}, size_t{65}}) {
    std::vector<uint8_t> code;
    for (size_t i = 0; i < calls; ++i)
      code.insert(code.end(), {0xe8, 1, 0, 0, 0, 0xc3});  // call over the ret behind it
    code.push_back(0xc3);
    PtBytes t;
    for (size_t i = 0; i < calls; ++i) t.tnt("T");
    const Walked w = walk(code, test::kTinyBase, t);
    EXPECT_EQ(w.why, calls == 64 ? WalkStop::used_all : WalkStop::unseen_call);
    EXPECT_EQ(w.blocks.size(), calls + 64);
  }
}

TEST(Walker, TheReturnStackOutlivesThousandsOfCalls) {
  // A function that calls itself while the bit says so (jne over the call), far deeper than the stack is.
  //   401000 jne 401007   401002 call 401000   401007 ret
  const std::vector<uint8_t> code{0x75, 0x05, 0xe8, 0xf9, 0xff, 0xff, 0xff, 0xc3};
  PtBytes t;
  for (int i = 0; i < 3000; ++i) t.tnt("N");
  t.tnt("T");
  for (int i = 0; i < 64; ++i) t.tnt("T");
  const Walked w = walk(code, test::kTinyBase, t);
  EXPECT_EQ(w.why, WalkStop::used_all);
  EXPECT_EQ(w.blocks.size(), 3000u * 2 + 1 + 64);
  EXPECT_EQ(walk(code, test::kTinyBase, PtBytes(t).tnt("T")).why, WalkStop::unseen_call);
}

TEST(ReturnStack, EntriesOfAnotherGraphAreAddresses) {
  const auto image = test::code_at(test::kTinyBase, test::tiny_program());
  BlockGraph one(image, 64), two(image, 64), three(image, 64);
  ReturnStack stack;
  stack.push(make_id(index_of(one.at(0x401000)), 0, SuperKind::pending));
  stack.push(one.at(0x401012));
  two.at(0x401020);  // so that ids differ
  stack.leave(one);
  stack.push(two.at(0x401014));
  stack.leave(two);
  for (const uint64_t ip : {0x401014, 0x401012, 0x401005}) {
    const BlockId entry = stack.entries()[stack.top()];
    ASSERT_EQ(kind_of(entry), SuperKind::foreign);
    EXPECT_EQ(three.block(index_of(stack.find(three, entry))).ip, ip);
    stack.set_top(stack.top() - 1);
  }
  EXPECT_EQ(stack.entries()[stack.top()], kNoBlock);
}

}  // namespace
}  // namespace hindcast::decode
