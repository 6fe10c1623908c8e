#include "decode/fast/growing_array.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <vector>

namespace hindcast::decode {
namespace {

TEST(GrowingArray, KeepsWhatWasAddedAndTakesLittleMore) {
  GrowingArray<uint64_t> array;
  EXPECT_EQ(array.size(), 0u);
  EXPECT_EQ(array.memory(), 0u);
  for (uint64_t i = 0; i < 1000000; ++i) {
    array.push_back(i * 3);
    ASSERT_GE(array.memory(), array.size() * sizeof(uint64_t));
    ASSERT_LT(array.memory(), array.size() * sizeof(uint64_t) + 4096);
  }
  ASSERT_EQ(array.size(), 1000000u);
  for (uint64_t i = 0; i < 1000000; ++i) ASSERT_EQ(array[i], i * 3);
  // No more has become memory.
  const auto pages = [&](size_t bytes) {
    std::vector<unsigned char> there(bytes / 4096);
    EXPECT_EQ(::mincore(array.data(), bytes, there.data()), 0);
    return static_cast<size_t>(std::count(there.begin(), there.end(), 1));
  };
  EXPECT_EQ(pages(array.memory()), array.memory() / 4096);
  EXPECT_EQ(pages(size_t{8} << 20), array.memory() / 4096);
  array[7] = 1;
  EXPECT_EQ(array.data()[7], 1u);
}

TEST(GrowingArray, ZerosBecomeMemoryWhereTheyAreWritten) {
  GrowingArray<uint64_t> array;
  array.make_zeros(1 << 17);
  ASSERT_EQ(array.size(), size_t{1} << 17);
  array[70000] = 5;
  std::vector<unsigned char> there(256);
  ASSERT_EQ(::mincore(array.data(), size_t{1} << 20, there.data()), 0);
  EXPECT_EQ(std::count(there.begin(), there.end(), 1), 1);
  EXPECT_EQ(std::count_if(array.data(), array.data() + array.size(), [](uint64_t v) { return v != 0; }), 1);
}

}  // namespace
}  // namespace hindcast::decode
