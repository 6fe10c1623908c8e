#include "transport/packed_file.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <random>

#include "tests/support/run_program.h"

namespace hindcast::transport {
namespace {

using Bytes = std::vector<uint8_t>;

/// Half of it can be packed.
Bytes some(size_t n) {
  std::mt19937 random(static_cast<unsigned>(n));
  Bytes bytes(n);
  for (size_t i = 0; i < n; ++i) bytes[i] = static_cast<uint8_t>(i & 64 ? random() : i >> 8);
  return bytes;
}

class PackedFile : public testing::Test {
 protected:
  static constexpr uint64_t kMost = uint64_t{64} << 20;

  Bytes file() const {
    std::ifstream in(path_, std::ios::binary);
    return Bytes(std::istreambuf_iterator<char>(in), {});
  }
  void put(const Bytes& bytes) const {
    std::ofstream out(path_, std::ios::binary | std::ios::trunc);
    out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  }

  test::TempFolder folder_;
  const std::string path_ = folder_ / "packed";
};

TEST_F(PackedFile, WhatIsWrittenIsRead) {
  constexpr size_t kPiece = size_t{1} << 20;
  for (const size_t n : {size_t{1}, size_t{100}, kPiece - 1, kPiece, kPiece + 1, 7 * kPiece + 5}) {
    ASSERT_TRUE(write_packed(path_, some(n)).ok());
    const auto read = read_packed(path_, kMost);
    ASSERT_TRUE(read.ok()) << read.error().text();
    EXPECT_TRUE(*read == some(n)) << n;
  }
  EXPECT_LT(file().size(), 5 * kPiece);
}

TEST_F(PackedFile, ItsBytesAreThoseOrAnError) {
  const Bytes bytes = some(700);
  ASSERT_TRUE(write_packed(path_, bytes).ok());
  const Bytes whole = file();
  for (size_t i = 0; i < whole.size(); ++i) {
    Bytes changed = whole;
    changed[i] ^= static_cast<uint8_t>(1 + i % 255);
    put(changed);
    const auto read = read_packed(path_, kMost);
    EXPECT_TRUE(!read.ok() || *read == bytes) << "byte " << i;
  }
}

TEST_F(PackedFile, CutAnywhereItIsAnError) {
  const Bytes bytes = some((size_t{2} << 20) + 9);
  ASSERT_TRUE(write_packed(path_, bytes).ok());
  const Bytes whole = file();
  for (size_t n = 0; n < whole.size(); n += n < 200 ? 1 : 997) {
    put({whole.begin(), whole.begin() + static_cast<ptrdiff_t>(n)});
    EXPECT_FALSE(read_packed(path_, kMost).ok()) << n;
  }
  // Between two pieces.
  ASSERT_TRUE(write_packed(path_, ByteSpan(bytes).first(size_t{1} << 20)).ok());
  const size_t first = file().size();
  put({whole.begin(), whole.begin() + static_cast<ptrdiff_t>(first)});
  EXPECT_EQ(read_packed(path_, kMost).error().code, Errc::corrupt);
}

TEST_F(PackedFile, MoreThanItMayHaveIsNotRead) {
  ASSERT_TRUE(write_packed(path_, some(1000)).ok());
  EXPECT_TRUE(read_packed(path_, 1000).ok());
  EXPECT_EQ(read_packed(path_, 999).error().code, Errc::too_large);
}

TEST_F(PackedFile, WhatIsNotThereIsNotFound) { EXPECT_EQ(read_packed(path_, kMost).error().code, Errc::not_found); }

}  // namespace
}  // namespace hindcast::transport
