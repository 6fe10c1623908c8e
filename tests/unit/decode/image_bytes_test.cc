#include "decode/image_bytes.h"

#include <gtest/gtest.h>

#include <numeric>
#include <thread>

#include "tests/support/losing_stream.h"

namespace hindcast::decode {
namespace {

using Bytes = std::vector<uint8_t>;
using test::LosingStream;

constexpr size_t kSize = 300000;  // some pieces, the last one not whole

Bytes some() {
  Bytes bytes(kSize);
  for (size_t i = 0; i < kSize; ++i) bytes[i] = static_cast<uint8_t>(i * 7 + i / 251);
  return bytes;
}

/// [from, to), as often as it takes; less where bytes are not there.
Bytes read(const ImageBytes& image, uint64_t from, uint64_t to) {
  Bytes out(to - from);
  size_t have = 0;
  while (have < out.size()) {
    const size_t n = image.read(from + have, std::span(out).subspan(have));
    if (n == 0) break;
    have += n;
  }
  out.resize(have);
  return out;
}
Bytes part(uint64_t from, uint64_t to) {
  const Bytes all = some();
  return {all.begin() + static_cast<ptrdiff_t>(from), all.begin() + static_cast<ptrdiff_t>(to)};
}

TEST(ImageBytes, AnyRangeHasItsBytes) {
  const auto stream = std::make_shared<LosingStream>(some());
  {
    const ImageBytes image(stream);
    EXPECT_EQ(image.size(), kSize);
    for (const auto& [from, to] : {std::pair<uint64_t, uint64_t>{0, 10}, {65530, 65545}, {299990, 300000}, {0, kSize}})
      EXPECT_EQ(read(image, from, to), part(from, to));
    EXPECT_EQ(read(image, 299990, 300010), part(299990, 300000));
    EXPECT_EQ(read(image, kSize, kSize + 1), Bytes());
    EXPECT_EQ(read(image, ~uint64_t{0} - 3, ~uint64_t{0}), Bytes());
    EXPECT_GT(stream->held(), 0);
  }
  EXPECT_EQ(stream->held(), 0);
}

TEST(ImageBytes, OnlyWhatIsReadIsHeld) {
  const auto stream = std::make_shared<LosingStream>(some());
  const ImageBytes image(stream);
  EXPECT_EQ(stream->held(), 0);
  EXPECT_EQ(read(image, 100, 110), part(100, 110));
  EXPECT_EQ(read(image, 200, 210), part(200, 210));
  EXPECT_EQ(stream->held(), 1);
}

TEST(ImageBytes, DamagedBytesAreNotThereAndOthersAre) {
  const auto stream = std::make_shared<LosingStream>(some());
  stream->lose({{1000, 2000}, {65000, 140000}});
  {
    const ImageBytes image(stream);
    EXPECT_EQ(read(image, 0, 3000), part(0, 1000));
    EXPECT_EQ(read(image, 1000, 3000), Bytes());
    EXPECT_EQ(read(image, 1999, 2000), Bytes());
    EXPECT_EQ(read(image, 2000, 70000), part(2000, 65000));
    EXPECT_EQ(read(image, 70000, 70001), Bytes());
    EXPECT_EQ(read(image, 140000, kSize), part(140000, kSize));
  }
  EXPECT_EQ(stream->held(), 0);
}

TEST(ImageBytes, OfAnotherImageThereAreNone) {
  const auto stream = std::make_shared<LosingStream>(some());
  int asked = 0;
  const ImageBytes image(stream, [&](ByteSpan first) {
    ++asked;
    EXPECT_LT(first.size(), kSize);
    return std::optional<bool>(false);
  });
  EXPECT_EQ(asked, 0);
  EXPECT_EQ(read(image, 0, 10), Bytes());
  EXPECT_EQ(read(image, 200000, 200010), Bytes());
  EXPECT_EQ(asked, 1);
  EXPECT_EQ(stream->held(), 0);
}

TEST(ImageBytes, ACheckThatCannotTellSeesAll) {
  for (const auto& [verdict, there] :
       {std::pair<std::optional<bool>, bool>{true, true}, {false, false}, {std::nullopt, true}}) {
    std::vector<size_t> asked;
    const ImageBytes image(std::make_shared<LosingStream>(some()),
                           [&, says = verdict](ByteSpan first) -> std::optional<bool> {
                             asked.push_back(first.size());
                             EXPECT_TRUE(std::equal(first.begin(), first.end(), some().begin()));
                             return first.size() == kSize ? says : std::nullopt;
                           });
    EXPECT_EQ(read(image, 5, 6).size(), there ? 1u : 0u);
    ASSERT_EQ(asked.size(), 2u);
    EXPECT_EQ(asked[1], kSize);
  }
}

TEST(ImageBytes, AnEmptyImageHasNone) {
  const ImageBytes image(std::make_shared<LosingStream>(Bytes()));
  EXPECT_EQ(image.size(), 0u);
  EXPECT_EQ(read(image, 0, 1), Bytes());
}

}  // namespace
}  // namespace hindcast::decode
