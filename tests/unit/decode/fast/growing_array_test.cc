#include "decode/fast/growing_array.h"

#include <gtest/gtest.h>

#include <cstdint>

namespace hindcast::decode {
namespace {

TEST(GrowingArray, KeepsWhatWasAddedAndTakesLittleMore) {
  GrowingArray<uint64_t> array;
  EXPECT_EQ(array.size(), 0u);
  EXPECT_EQ(array.memory(), 0u);
  for (uint64_t i = 0; i < 1000000; ++i) {
    array.push_back(i * 3);
    ASSERT_GE(array.memory(), array.size() * sizeof(uint64_t));
    ASSERT_LE(array.memory(), array.size() * sizeof(uint64_t) * 17 / 16 + (16 << 10));
  }
  ASSERT_EQ(array.size(), 1000000u);
  for (uint64_t i = 0; i < 1000000; ++i) ASSERT_EQ(array[i], i * 3);
  array[7] = 1;
  EXPECT_EQ(array.data()[7], 1u);
}

}  // namespace
}  // namespace hindcast::decode
