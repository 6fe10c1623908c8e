// Placing ELF files: biases, and files whose segments lie.
#include <gtest/gtest.h>

#include "server/import/elf_placement.h"
#include "tests/unit/server/import_support.h"

namespace hindcast::server {
namespace {

TEST(ImportElf, AnExecFileLiesWhereItWasLinked) {
  const auto layout = read_elf_layout(SmallElf().bytes());
  ASSERT_TRUE(layout.ok()) << layout.error().text();
  EXPECT_FALSE(layout->position_independent);
  const auto placed = place_elf(*layout, std::nullopt);
  ASSERT_TRUE(placed.ok());
  ASSERT_EQ(placed->size(), 1u);
  EXPECT_EQ((*placed)[0].address, 0x400000u);
  EXPECT_EQ((*placed)[0].length, 0x300u);
}

TEST(ImportElf, TheLoadAddressIsThatOfTheLowestPage) {
  SmallElf elf;
  elf.type = ET_DYN;
  elf.loads = {{0x5010, 0x10, 0x20, 0x20}, {0x2345, 0x345, 0x10, 0x10}};
  const auto layout = read_elf_layout(elf.bytes());
  ASSERT_TRUE(layout.ok());
  EXPECT_TRUE(layout->position_independent);
  EXPECT_EQ(layout->lowest_page, 0x2000u);
  const auto placed = place_elf(*layout, 0x7ffff7dd0000);
  ASSERT_TRUE(placed.ok());
  EXPECT_EQ((*placed)[0].address, 0x7ffff7dd3010u);
  EXPECT_EQ((*placed)[1].address, 0x7ffff7dd0345u);
  EXPECT_EQ((*placed)[1].image_offset, 0x345u);
}

TEST(ImportElf, LoadingBelowTheLinkAddressIsANegativeBias) {
  SmallElf elf;
  elf.loads = {{0xffffffff81000000, 0, 0x100, 0x100}};
  const auto placed = place_elf(*read_elf_layout(elf.bytes()), 0x1000);
  ASSERT_TRUE(placed.ok());
  EXPECT_EQ((*placed)[0].address, 0x1000u);
}

TEST(ImportElf, ZerosOfBssAreNotPlaced) {
  SmallElf elf;
  elf.loads = {{0x1000, 0, 0x100, 0x5000}, {0x9000, 0x100, 0, 0x100}, {0xa000, 0x100, 0x50, 0x20}};
  const auto placed = place_elf(*read_elf_layout(elf.bytes()), std::nullopt);
  ASSERT_TRUE(placed.ok());
  ASSERT_EQ(placed->size(), 2u);
  EXPECT_EQ((*placed)[0].length, 0x100u);
  EXPECT_EQ((*placed)[1].length, 0x20u) << "bytes beyond the memory size are not mapped";
}

TEST(ImportElf, ALoadAddressInsideAPageIsRefused) {
  EXPECT_EQ(place_elf(*read_elf_layout(SmallElf().bytes()), 0x400001).error().code, Errc::bad_input);
}

TEST(Malicious_ImportElf, SegmentsBeyondTheFileOrTheAddressSpace) {
  for (const SmallElf::Load& load : {SmallElf::Load{0x1000, 0x1000, 1, 1},
                                     {0x1000, UINT64_MAX, 2, 2},
                                     {0x1000, 0, UINT64_MAX, UINT64_MAX},
                                     {0x1000, 0xfff, 2, 2}}) {
    SmallElf elf;
    elf.loads = {load};
    EXPECT_EQ(read_elf_layout(elf.bytes()).error().code, Errc::bad_input);
  }
  SmallElf high;
  high.loads = {{UINT64_MAX - 0x10, 0, 0x100, 0x100}};
  const auto layout = read_elf_layout(high.bytes());
  ASSERT_TRUE(layout.ok());
  EXPECT_EQ(place_elf(*layout, std::nullopt).error().code, Errc::bad_input);
}

TEST(Malicious_ImportElf, EveryCutOfAFileIsRefusedOrKeepsItsSegmentsInside) {
  SmallElf elf;
  elf.loads = {{0x1000, 0, 0x100, 0x100}, {0x3000, 0x100, 0x80, 0x80}};
  const auto whole = elf.bytes();
  for (size_t n = 0; n < whole.size(); ++n) {
    const auto layout = read_elf_layout(ByteSpan(whole).first(n));
    EXPECT_EQ(layout.ok(), n >= 0x180) << n;
  }
}

TEST(Malicious_ImportElf, OtherKindsOfFilesAreNotGuessedAt) {
  SmallElf arm;
  arm.machine = EM_AARCH64;
  EXPECT_EQ(read_elf_layout(arm.bytes()).error().code, Errc::unsupported);
  SmallElf object;
  object.type = ET_REL;
  EXPECT_EQ(read_elf_layout(object.bytes()).error().code, Errc::unsupported);
  SmallElf empty;
  empty.loads = {};
  EXPECT_EQ(read_elf_layout(empty.bytes()).error().code, Errc::bad_input);
  EXPECT_FALSE(read_elf_layout({}).ok());
}

}  // namespace
}  // namespace hindcast::server
