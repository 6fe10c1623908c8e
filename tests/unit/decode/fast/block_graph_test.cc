// Superblocks: where they end, what they call, what follows; and that what is asked twice is built once.
#include "decode/fast/block_graph.h"

#include <gtest/gtest.h>

#include "tests/support/code_at.h"
#include "tests/support/tiny_program.h"

namespace hindcast::decode {
namespace {

std::shared_ptr<const CodeImage> image(const std::vector<uint8_t>& code, uint64_t at = test::kTinyBase) {
  return test::code_at(at, code);
}

/// Addresses of the blocks in a superblock.
std::vector<uint64_t> blocks(const BlockGraph& g, BlockId id) {
  std::vector<uint64_t> ips;
  for (uint32_t i = index_of(id); i != 0; i = g.block(i).onward) ips.push_back(g.block(i).ip);
  return ips;
}
uint64_t ip(const BlockGraph& g, BlockId id) { return g.block(index_of(id)).ip; }

using Ips = std::vector<uint64_t>;

TEST(BlockGraph, SuperblocksOfTheTinyProgram) {
  BlockGraph g(image(test::tiny_program()), 64);
  const BlockId call = g.at(0x401000);
  EXPECT_EQ(kind_of(call), SuperKind::branch);
  EXPECT_EQ(calls_of(call), 1u);
  EXPECT_EQ(blocks(g, call), (Ips{0x401000, 0x401010}));
  EXPECT_EQ(g.block(index_of(call)).count, 1u);
  EXPECT_EQ(g.block(index_of(call)).through, 2u);
  EXPECT_EQ(&g.last_block(call), &g.block(index_of(g.at(0x401010))));

  const BlockId back = g.push()[index_of(call)][0];
  EXPECT_EQ(ip(g, back), 0x401005u);
  EXPECT_EQ(blocks(g, back), (Ips{0x401005, 0x401000, 0x401010}));
  EXPECT_EQ(kind_of(back), SuperKind::branch);

  EXPECT_EQ(g.next()[index_of(call)][1], kNoBlock);  // until it is looked up
  const BlockId ret = g.find_next(call, true);
  EXPECT_EQ(ip(g, ret), 0x401014u);
  EXPECT_EQ(g.next()[index_of(call)][1], ret);
  const BlockId nops = g.find_next(call, false);
  EXPECT_EQ(kind_of(nops), SuperKind::ret);
  EXPECT_EQ(calls_of(nops), 0u);
  EXPECT_EQ(g.block(index_of(nops)).count, 3u);
  EXPECT_EQ(g.block(index_of(nops)).last_ip(), 0x401014u);

  EXPECT_EQ(kind_of(g.at(0x401020)), SuperKind::tip);  // SYSCALL
  const BlockId indirect = g.at(0x401040);
  EXPECT_EQ(kind_of(indirect), SuperKind::tip);
  EXPECT_EQ(ip(g, g.push()[index_of(indirect)][0]), 0x401042u);
  EXPECT_EQ(calls_of(g.at(0x401043)), 0u);
  const size_t known = g.size();
  EXPECT_EQ(g.at(0x401000), call);
  EXPECT_EQ(g.size(), known);
}

TEST(BlockGraph, ACallToWhatFollowsItIsNoCallToReturnFrom) {
  BlockGraph g(image({0xe8, 0, 0, 0, 0, 0x58, 0xc3}), 64);
  const BlockId id = g.at(test::kTinyBase);
  EXPECT_EQ(calls_of(id), 0u);
  EXPECT_EQ(kind_of(id), SuperKind::ret);
  EXPECT_EQ(g.block(index_of(id)).end, BlockEnd::direct_call);
  EXPECT_EQ(blocks(g, id), (Ips{test::kTinyBase, test::kTinyBase + 5}));
}

TEST(BlockGraph, MoreThanTwoCallsAreCut) {
  std::vector<uint8_t> code;
  for (int i = 0; i < 5; ++i) code.insert(code.end(), {0xe8, 1, 0, 0, 0, 0x90});  // call over the nop behind it
  code.push_back(0xc3);
  BlockGraph g(image(code), 64);
  BlockId id = g.at(test::kTinyBase);
  EXPECT_EQ(kind_of(id), SuperKind::cut);
  EXPECT_EQ(calls_of(id), 1u);
  EXPECT_EQ(blocks(g, id), (Ips{test::kTinyBase}));
  EXPECT_EQ(ip(g, g.push()[index_of(id)][0]), test::kTinyBase + 5);
  id = g.find_next(id, true);
  EXPECT_EQ(kind_of(id), SuperKind::cut);
  EXPECT_EQ(calls_of(id), 2u);
  EXPECT_EQ(blocks(g, id), (Ips{test::kTinyBase + 6, test::kTinyBase + 12}));
  id = g.find_next(id, true);
  EXPECT_EQ(kind_of(id), SuperKind::ret);
  EXPECT_EQ(calls_of(id), 2u);
  EXPECT_EQ(blocks(g, id), (Ips{test::kTinyBase + 18, test::kTinyBase + 24, test::kTinyBase + 30}));
  EXPECT_EQ(ip(g, g.push()[index_of(id)][0]), test::kTinyBase + 23);
  EXPECT_EQ(ip(g, g.push()[index_of(id)][1]), test::kTinyBase + 29);
}

TEST(BlockGraph, CirclesWithoutTraceAreDead) {
  // 401000: jmp 401004   401002: jmp 401000   401004: call 401002
  BlockGraph g(image({0xeb, 0x02, 0xeb, 0xfc, 0xe8, 0xf9, 0xff, 0xff, 0xff, 0x90}), 64);
  for (const uint64_t at : {0x401000, 0x401002, 0x401004}) {
    const BlockId id = g.at(at);
    EXPECT_EQ(kind_of(id), SuperKind::dead);
    EXPECT_FALSE(g.last_block(id).stops);
    EXPECT_EQ(g.block(g.after(index_of(id))).ip, at == 0x401000 ? 0x401004u : at == 0x401002 ? 0x401000u : 0x401002u);
  }
}

TEST(BlockGraph, WhereCodeEndsASuperblockIsDead) {
  BlockGraph g(image({0x90, 0x90, 0xe8}), 64);
  const BlockId id = g.at(test::kTinyBase);
  EXPECT_EQ(kind_of(id), SuperKind::dead);
  EXPECT_TRUE(g.last_block(id).stops);
  EXPECT_EQ(g.last_block(id).count, 2u);
  EXPECT_EQ(g.last_block(id).behind(), test::kTinyBase + 2);
  EXPECT_FALSE(g.last_block(id).bad);
  const BlockId none = g.at(0x5000);
  EXPECT_EQ(kind_of(none), SuperKind::dead);
  EXPECT_EQ(g.last_block(none).count, 0u);
  std::vector<uint8_t> bad(40, 0x90);
  bad[1] = 0x06;  // no instruction in 64-bit mode
  BlockGraph h(image(bad), 64);
  EXPECT_TRUE(h.last_block(h.at(test::kTinyBase)).bad);
  EXPECT_EQ(h.last_block(h.at(test::kTinyBase)).count, 1u);
}

TEST(BlockGraph, LongRunsAreSeveralBlocksOfOneSuperblock) {
  std::vector<uint8_t> nops(BlockGraph::kMostInstructions + 10, 0x90);
  nops.push_back(0xc3);
  BlockGraph g(image(nops), 64);
  const BlockId id = g.at(test::kTinyBase);
  EXPECT_EQ(kind_of(id), SuperKind::ret);
  EXPECT_EQ(blocks(g, id), (Ips{test::kTinyBase, test::kTinyBase + BlockGraph::kMostInstructions}));
  EXPECT_EQ(g.block(index_of(id)).end, BlockEnd::none);
  EXPECT_EQ(g.block(index_of(id)).count, BlockGraph::kMostInstructions);
  EXPECT_EQ(g.block(index_of(id)).through, BlockGraph::kMostInstructions + 11);
}

TEST(BlockGraph, AVeryLongWayWithoutTraceIsCut) {
  // Jumps, each to the next.
  std::vector<uint8_t> code;
  for (unsigned i = 0; i < 2 * BlockGraph::kMostAtOnce; ++i) code.insert(code.end(), {0xeb, 0x00});
  code.push_back(0xc3);
  BlockGraph g(image(code), 64);
  const BlockId id = g.at(test::kTinyBase);
  EXPECT_EQ(kind_of(id), SuperKind::cut);
  EXPECT_EQ(blocks(g, id).size(), BlockGraph::kMostAtOnce);
  const BlockId rest = g.find_next(id, true);
  EXPECT_EQ(blocks(g, rest).size(), BlockGraph::kMostAtOnce);
  EXPECT_EQ(blocks(g, g.find_next(rest, true)).size(), 1u);
}

TEST(BlockGraph, WhereManyCallsReturnToIsFoundAFewAtATime) {
  // Calls in a row, each of a RET: each return is a superblock with the next call in it.
  std::vector<uint8_t> code{0xc3};
  const size_t calls = 2 * BlockGraph::kMostAtOnce;
  for (size_t i = 0; i < calls; ++i) {
    const auto back = static_cast<uint32_t>(-static_cast<int32_t>(code.size() + 5));
    code.push_back(0xe8);
    for (int b = 0; b < 4; ++b) code.push_back(static_cast<uint8_t>(back >> 8 * b));
  }
  code.push_back(0xc3);
  BlockGraph g(image(code), 64);
  BlockId at = g.at(test::kTinyBase + 1);
  EXPECT_LE(g.size(), BlockGraph::kMostAtOnce + 3);
  for (size_t i = 0; i < calls; ++i) {
    ASSERT_EQ(kind_of(at), SuperKind::ret) << i;
    const BlockId back = g.push()[index_of(at)][0];
    const bool pending = kind_of(back) == SuperKind::pending;
    const BlockId expected = pending ? make_id(index_of(at), 0, SuperKind::pending) : g.at(ip(g, back));
    ASSERT_EQ(back, expected);
    at = g.at(g.block(index_of(at)).behind());
    ASSERT_TRUE(pending || back == at);
  }
  EXPECT_EQ(g.block(index_of(at)).length, 1u);
}

TEST(BlockGraph, InstructionsBeforeAnAddress) {
  BlockGraph g(image(test::tiny_program()), 64);
  uint64_t last = 0;
  const uint32_t nops = index_of(g.at(0x401012));
  EXPECT_EQ(g.instructions_before(nops, 0x401012, &last), 0u);
  EXPECT_EQ(g.instructions_before(nops, 0x401014, &last), 2u);
  EXPECT_EQ(last, 0x401013u);
  EXPECT_EQ(g.instructions_before(nops, 0x401015, &last), std::nullopt);
  EXPECT_EQ(g.instructions_before(index_of(g.at(0x401000)), 0x401002, &last), std::nullopt);  // inside an instruction
  EXPECT_EQ(g.instructions_before(nops, 0x401011, &last), std::nullopt);
}

TEST(BlockGraph, GrowsToManyBlocks) {
  std::vector<uint8_t> code;
  for (int i = 0; i < 20000; ++i) code.insert(code.end(), {0x75, 0x00});  // jne to the next one
  code.push_back(0xc3);
  BlockGraph g(image(code), 64);
  BlockId at = g.at(test::kTinyBase);
  for (int i = 0; i < 20000; ++i) {
    ASSERT_EQ(kind_of(at), SuperKind::branch) << i;
    const BlockId taken = g.find_next(at, true), not_taken = g.find_next(at, false);
    ASSERT_EQ(taken, not_taken);
    at = taken;
  }
  EXPECT_EQ(kind_of(at), SuperKind::ret);
  EXPECT_EQ(g.size(), 20002u);  // one of them is none
}

}  // namespace
}  // namespace hindcast::decode
