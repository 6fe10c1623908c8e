// Blocks of code: where they end, what follows, and that what is asked twice is built once.
#include "decode/fast/block_graph.h"

#include <gtest/gtest.h>

#include "decode/code_image.h"
#include "tests/support/tiny_program.h"

namespace hindcast::decode {
namespace {

std::shared_ptr<const CodeImage> image(const std::vector<uint8_t>& code, uint64_t at = test::kTinyBase) {
  const auto bytes = std::make_shared<std::vector<uint8_t>>(code);
  return std::make_shared<SectionImage>(std::vector<CodeSection>{{Ip(at), {bytes, *bytes}, 1, 0}});
}

TEST(BlockGraph, KindsAndSuccessorsOfTheTinyProgram) {
  BlockGraph g(image(test::tiny_program()), 64);
  const BlockId call = g.at(0x401000);
  EXPECT_EQ(kind_of(call), BlockKind::call);
  EXPECT_EQ(g.block(call).count, 1u);
  const BlockId branch = g.next(call, true);
  EXPECT_EQ(kind_of(branch), BlockKind::branch);
  EXPECT_EQ(g.block(branch).ip, 0x401010u);
  EXPECT_EQ(g.block(g.next(branch, true)).ip, 0x401014u);
  const BlockId nops = g.next(branch, false);
  EXPECT_EQ(kind_of(nops), BlockKind::ret);
  EXPECT_EQ(g.block(nops).count, 3u);
  EXPECT_EQ(g.block(nops).last_ip(), 0x401014u);
  EXPECT_EQ(g.block(g.return_of(call)).ip, 0x401005u);
  EXPECT_EQ(kind_of(g.return_of(call)), BlockKind::jump);
  EXPECT_EQ(g.next(g.return_of(call), true), call);
  EXPECT_EQ(kind_of(g.at(0x401020)), BlockKind::far);
  EXPECT_EQ(kind_of(g.at(0x401040)), BlockKind::indirect_call);
  EXPECT_EQ(g.block(g.return_of(g.at(0x401040))).ip, 0x401042u);
  const BlockId jump = g.at(0x401043);
  EXPECT_EQ(kind_of(jump), BlockKind::indirect);
  EXPECT_EQ(g.target(jump, 0x401000), call);
  EXPECT_EQ(g.target(jump, 0x401010), branch);
  EXPECT_EQ(g.target(jump, 0x401000), call);
  const size_t known = g.size();
  EXPECT_EQ(g.at(0x401000), call);
  EXPECT_EQ(g.size(), known);
}

TEST(BlockGraph, ACallToWhatFollowsItIsNoCallToReturnFrom) {
  BlockGraph g(image({0xe8, 0, 0, 0, 0, 0x58, 0xc3}), 64);
  const BlockId id = g.at(test::kTinyBase);
  EXPECT_EQ(kind_of(id), BlockKind::jump);
  EXPECT_EQ(g.block(id).end, BlockEnd::direct_call);
  EXPECT_EQ(g.block(g.next(id, true)).ip, test::kTinyBase + 5);
}

TEST(BlockGraph, WhereCodeEndsABlockStops) {
  BlockGraph g(image({0x90, 0x90, 0xe8}), 64);
  const BlockId id = g.at(test::kTinyBase);
  EXPECT_EQ(kind_of(id), BlockKind::stop);
  EXPECT_EQ(g.block(id).count, 2u);
  EXPECT_EQ(g.block(id).behind(), test::kTinyBase + 2);
  EXPECT_FALSE(g.block(id).bad);
  const BlockId none = g.at(0x5000);
  EXPECT_EQ(kind_of(none), BlockKind::stop);
  EXPECT_EQ(g.block(none).count, 0u);
  std::vector<uint8_t> bad(40, 0x90);
  bad[1] = 0x06;  // no instruction in 64-bit mode
  BlockGraph h(image(bad), 64);
  EXPECT_TRUE(h.block(h.at(test::kTinyBase)).bad);
  EXPECT_EQ(h.block(h.at(test::kTinyBase)).count, 1u);
}

TEST(BlockGraph, VeryLongRunsAreCut) {
  std::vector<uint8_t> nops(BlockGraph::kMostInstructions + 10, 0x90);
  nops.push_back(0xc3);
  BlockGraph g(image(nops), 64);
  const BlockId id = g.at(test::kTinyBase);
  EXPECT_EQ(kind_of(id), BlockKind::jump);
  EXPECT_EQ(g.block(id).end, BlockEnd::none);
  EXPECT_EQ(g.block(id).count, BlockGraph::kMostInstructions);
  const BlockId rest = g.next(id, true);
  EXPECT_EQ(kind_of(rest), BlockKind::ret);
  EXPECT_EQ(g.block(rest).count, 11u);
}

TEST(BlockGraph, InstructionsBeforeAnAddress) {
  BlockGraph g(image(test::tiny_program()), 64);
  uint64_t last = 0;
  const BlockId nops = g.at(0x401012);
  EXPECT_EQ(g.instructions_before(nops, 0x401012, &last), 0u);
  EXPECT_EQ(g.instructions_before(nops, 0x401014, &last), 2u);
  EXPECT_EQ(last, 0x401013u);
  EXPECT_EQ(g.instructions_before(nops, 0x401015, &last), std::nullopt);
  EXPECT_EQ(g.instructions_before(g.at(0x401000), 0x401002, &last), std::nullopt);  // inside an instruction
  EXPECT_EQ(g.instructions_before(nops, 0x401011, &last), std::nullopt);
}

TEST(BlockGraph, GrowsToManyBlocks) {
  std::vector<uint8_t> code;
  for (int i = 0; i < 20000; ++i) code.insert(code.end(), {0x75, 0x00});  // jne to the next one
  code.push_back(0xc3);
  BlockGraph g(image(code), 64);
  BlockId at = g.at(test::kTinyBase);
  for (int i = 0; i < 20000; ++i) {
    ASSERT_EQ(kind_of(at), BlockKind::branch) << i;
    ASSERT_EQ(g.next(at, true), g.next(at, false));
    at = g.next(at, i & 1);
  }
  EXPECT_EQ(kind_of(at), BlockKind::ret);
  EXPECT_EQ(g.size(), 20002u);  // one of them is none
}

}  // namespace
}  // namespace hindcast::decode
