#include "transport/stream_parts.h"

#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <set>
#include <thread>

namespace hindcast::transport {
namespace {

using Bytes = std::vector<uint8_t>;

Bytes some(size_t n) {
  std::mt19937 random(5);
  Bytes bytes(n);
  for (uint8_t& b : bytes) b = static_cast<uint8_t>(random());
  return bytes;
}

/// Chunks of given sizes, of which some cannot be read, and how often each was.
struct Source {
  explicit Source(const std::vector<uint32_t>& sizes) {
    uint64_t at = 0;
    for (const uint32_t n : sizes) {
      chunks.push_back({at, n, static_cast<uint32_t>(chunks.size())});
      at += n;
    }
    bytes = some(at);
    reads = std::vector<std::atomic<int>>(sizes.size());
  }
  std::shared_ptr<StreamParts> open(std::shared_ptr<IdleParts> idle) {
    auto opened = StreamParts::open(
        chunks,
        [this](uint32_t number, ChunkDecoder&, std::span<uint8_t> raw) -> Result<void> {
          ++reads[number];
          if (broken.contains(number)) return Error{Errc::corrupt, "it is broken", {}, {}};
          std::copy_n(bytes.begin() + static_cast<ptrdiff_t>(chunks[number].offset), raw.size(), raw.begin());
          return {};
        },
        std::move(idle));
    return std::move(opened).value();
  }
  bool same(const StreamParts& parts, uint64_t from, uint64_t to) const {
    const ByteSpan all = parts.bytes();
    return std::equal(bytes.begin() + static_cast<ptrdiff_t>(from), bytes.begin() + static_cast<ptrdiff_t>(to),
                      all.begin() + static_cast<ptrdiff_t>(from));
  }

  std::vector<StreamParts::Chunk> chunks;
  Bytes bytes;
  std::set<uint32_t> broken;
  std::vector<std::atomic<int>> reads;
};

std::shared_ptr<IdleParts> at_most(uint64_t bytes) { return std::make_shared<IdleParts>(bytes); }

TEST(StreamParts, AnyRangeHasItsBytes) {
  std::mt19937_64 random(1);
  // Whole pages, and chunks that share one.
  for (const auto& sizes :
       {std::vector<uint32_t>(40, 4096), std::vector<uint32_t>{1, 5000, 3191, 8192, 100, 3996, 77}}) {
    Source source(sizes);
    const auto parts = source.open(at_most(12000));
    ASSERT_EQ(parts->bytes().size(), source.bytes.size());
    for (int i = 0; i < 2000; ++i) {
      const uint64_t from = random() % source.bytes.size(), to = from + random() % (source.bytes.size() - from + 1);
      ASSERT_EQ(parts->hold(from, to), to);
      ASSERT_TRUE(source.same(*parts, from, to)) << from << " to " << to;
      parts->release(from, to);
    }
  }
}

TEST(StreamParts, OneWithoutBytesCanBeOpened) {
  Source source({});
  const auto parts = source.open(at_most(0));
  EXPECT_EQ(parts->bytes().size(), 0u);
  EXPECT_EQ(parts->hold(0, 0), 0u);
  parts->release(0, 0);
}

TEST(StreamParts, WhatIsIdleStaysAsFarAsItMay) {
  Source source(std::vector<uint32_t>(8, 4096));
  const auto parts = source.open(at_most(3 * 4096));
  for (uint64_t i = 0; i < 4; ++i) {
    parts->hold(i * 4096, i * 4096 + 1);
    parts->release(i * 4096, i * 4096 + 1);
  }
  // The oldest had to go.
  for (const uint64_t i : {3, 2, 1, 0}) {
    parts->hold(i * 4096, i * 4096 + 1);
    parts->release(i * 4096, i * 4096 + 1);
  }
  EXPECT_EQ(source.reads[0], 2);
  for (size_t i = 1; i < 4; ++i) EXPECT_EQ(source.reads[i], 1) << i;
  for (size_t i = 4; i < 8; ++i) EXPECT_EQ(source.reads[i], 0) << i;
}

TEST(StreamParts, WhatIsHeldStaysHoweverLittleMayBeIdle) {
  Source source(std::vector<uint32_t>(8, 4096));
  const auto parts = source.open(at_most(0));
  parts->hold(100, 9000);
  parts->hold(200, 300);
  for (uint64_t i = 3; i < 8; ++i) {
    parts->hold(i * 4096, i * 4096 + 4096);
    parts->release(i * 4096, i * 4096 + 4096);
  }
  parts->release(200, 300);
  EXPECT_TRUE(source.same(*parts, 100, 9000));
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(source.reads[i], 1) << i;
  parts->release(100, 9000);
  parts->hold(0, 1);
  EXPECT_EQ(source.reads[0], 2);
  parts->release(0, 1);
}

TEST(StreamParts, HoldSaysHowFarBytesAreWhatWasWritten) {
  Source source(std::vector<uint32_t>(8, 4096));
  source.broken = {2, 5};
  const auto parts = source.open(at_most(1 << 20));
  EXPECT_EQ(parts->hold(0, 8192), 8192u);
  EXPECT_EQ(parts->losses().size(), 0u);
  EXPECT_EQ(parts->hold(4096, 30000), 8192u);
  EXPECT_TRUE(source.same(*parts, 0, 8192));
  EXPECT_TRUE(source.same(*parts, 3 * 4096, 5 * 4096));
  for (uint64_t i = 8192; i < 12288; ++i) ASSERT_EQ(parts->bytes()[i], StreamParts::kDamageFill);
  EXPECT_EQ(parts->hold(9000, 10000), 9000u);
  EXPECT_EQ(parts->hold(12288, 32768), 5 * 4096u);
  EXPECT_EQ(parts->hold(6 * 4096, 32768), 32768u);
  const auto losses = parts->losses();
  ASSERT_EQ(losses.size(), 2u);
  EXPECT_EQ(losses[0].offset, 8192u);
  EXPECT_EQ(losses[0].bytes, 4096u);
  EXPECT_EQ(losses[0].why, "it is broken");
  EXPECT_EQ(losses[1].offset, 5 * 4096u);
}

TEST(StreamParts, StreamsShareWhatMayBeIdle) {
  const auto idle = at_most(2 * 4096);
  Source first(std::vector<uint32_t>(2, 4096)), second(std::vector<uint32_t>(2, 4096));
  const auto a = first.open(idle);
  auto b = second.open(idle);
  const auto touch = [](StreamParts& s, uint64_t from, uint64_t to) {
    s.hold(from, to);
    s.release(from, to);
  };
  touch(*a, 0, 8192);
  touch(*b, 0, 1);
  touch(*a, 4096, 4097);  // only its first part had to go
  EXPECT_EQ(first.reads[0], 1);
  EXPECT_EQ(first.reads[1], 1);
  b.reset();
  touch(*a, 0, 8192);  // there is room for both again
  touch(*a, 0, 8192);
  EXPECT_EQ(first.reads[0], 2);
  EXPECT_EQ(first.reads[1], 1);
}

TEST(StreamParts, ManyThreadsHoldAndReleaseAtOnce) {
  Source source(std::vector<uint32_t>(64, 4096));
  source.broken = {33};
  const auto parts = source.open(at_most(10 * 4096));
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (unsigned seed = 0; seed < 4; ++seed)
    threads.emplace_back([&, seed] {
      std::mt19937_64 random(seed);
      for (int i = 0; i < 500; ++i) {
        const uint64_t from = random() % source.bytes.size();
        const uint64_t to = std::min<uint64_t>(from + random() % 40000, source.bytes.size());
        const uint64_t true_to = parts->hold(from, to);
        if (!source.same(*parts, from, true_to)) ++wrong;
        parts->release(from, to);
      }
    });
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(parts->losses().size(), 1u);
}

}  // namespace
}  // namespace hindcast::transport
