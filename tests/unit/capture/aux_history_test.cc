// What freezes make of a ring whose writer tells no more than where it stands.
#include "capture/aux_history.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "capture/sim/seeded_random.h"

namespace hindcast::capture {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr size_t kRing = 16384;

/// Writes on from the head and around the end, as the hardware does, and remembers everything.
struct Writer {
  explicit Writer(size_t size = kRing) : ring(size) {}
  void write(const std::vector<uint8_t>& bytes) {
    for (const uint8_t b : bytes) {
      ring[all.size() % ring.size()] = b;
      all.push_back(b);
    }
  }
  void write(size_t n, uint8_t value) { write(std::vector<uint8_t>(n, value)); }
  uint64_t head() const { return all.size() % ring.size(); }
  std::vector<uint8_t> newest(size_t n) const { return {all.end() - static_cast<ptrdiff_t>(n), all.end()}; }

  std::vector<uint8_t> ring, all;
};

TEST(AuxHistory, ARingThatIsNotFullGivesItsBeginning) {
  Writer w;
  w.write(100, 7);
  const auto c = AuxHistory().take(w.ring, w.head());
  EXPECT_FALSE(c.wrapped);
  EXPECT_EQ(c.bytes, w.all);
  EXPECT_THAT(c.cuts, IsEmpty());
}

TEST(AuxHistory, AFullRingGivesAllOfItOldestFirst) {
  Writer w;
  w.write(kRing, 1);
  w.write(100, 2);
  const auto c = AuxHistory().take(w.ring, w.head());
  EXPECT_TRUE(c.wrapped);
  EXPECT_EQ(c.bytes, w.newest(kRing));
}

TEST(AuxHistory, AHeadAtTheVeryEndOfTheFirstRoundIsAFullRing) {
  Writer w;
  w.write(kRing, 1);
  const auto c = AuxHistory().take(w.ring, w.head());
  EXPECT_TRUE(c.wrapped);
  EXPECT_EQ(c.bytes, w.all);
}

TEST(AuxHistory, AHeadInTheLastPageOfTheFirstRoundHasNotWrapped) {
  Writer w;
  w.write(kRing - 384, 7);
  const auto c = AuxHistory().take(w.ring, w.head());
  EXPECT_FALSE(c.wrapped);
  EXPECT_EQ(c.bytes, w.all);
}

TEST(AuxHistory, AFirstHeadWithinBytesOfTheEndClaimsNothing) {
  Writer w;
  w.write(kRing - 10, 7);  // ten zeros behind it: never written, or the padding of an earlier round
  const auto c = AuxHistory().take(w.ring, w.head());
  EXPECT_TRUE(c.wrapped);
  EXPECT_EQ(c.bytes.size(), kRing);
}

TEST(AuxHistory, WhatWentRoundOnceStaysSoThoughZerosLieAtTheEnd) {
  Writer w;
  w.write(kRing + 100, 1);
  AuxHistory history;
  ASSERT_TRUE(history.take(w.ring, w.head()).wrapped);
  w.write(kRing - 4196, 2);
  w.write(3000, 0);  // padding, up to 1096 bytes from the end
  const auto c = history.take(w.ring, w.head());
  EXPECT_TRUE(c.wrapped);
  EXPECT_EQ(c.bytes, w.newest(kRing));
}

TEST(AuxHistory, AHeadThatCameBackMeansARoundEvenBehindZeros) {
  Writer w;
  w.write(5000, 1);
  AuxHistory history;
  ASSERT_FALSE(history.take(w.ring, w.head()).wrapped);
  w.write(kRing - 5000 - 4096, 2);
  w.write(4096, 0);
  w.write(1000, 3);
  const auto c = history.take(w.ring, w.head());
  EXPECT_TRUE(c.wrapped);
  EXPECT_EQ(c.bytes, w.newest(kRing));
  EXPECT_THAT(c.cuts, ElementsAre(4000u));
}

TEST(AuxHistory, ARoundThatEndsFurtherOnIsSeenByTheCopyAlone) {
  Writer w;
  w.write(5000, 1);
  AuxHistory history;
  ASSERT_FALSE(history.take(w.ring, w.head()).wrapped);
  w.write(kRing - 5000 - 4096, 2);
  w.write(4096, 0);  // the end of the ring looks unwritten
  w.write(6000, 3);
  const auto c = history.take(w.ring, w.head());
  EXPECT_TRUE(c.wrapped);
  EXPECT_EQ(c.bytes, w.newest(kRing));
  EXPECT_THAT(c.cuts, IsEmpty());
}

TEST(AuxHistory, CutsMoveWithTheRingAndEndWhereTheyAreWrittenOver) {
  Writer w;
  AuxHistory history;
  w.write(1000, 1);
  history.take(w.ring, w.head());
  w.write(500, 2);
  EXPECT_THAT(history.take(w.ring, w.head()).cuts, ElementsAre(1000u));
  w.write(kRing - 1500 + 100, 3);  // over the end, and over the first 100 bytes
  EXPECT_THAT(history.take(w.ring, w.head()).cuts, ElementsAre(900u, 1400u));
  w.write(1200, 4);  // over the place of the first cut
  EXPECT_THAT(history.take(w.ring, w.head()).cuts, ElementsAre(200u, kRing - 1200u));
}

TEST(AuxHistory, NothingWrittenInBetweenIsNoSecondCut) {
  Writer w;
  AuxHistory history;
  w.write(1000, 1);
  history.take(w.ring, w.head());
  EXPECT_THAT(history.take(w.ring, w.head()).cuts, IsEmpty());
  w.write(10, 2);
  EXPECT_THAT(history.take(w.ring, w.head()).cuts, ElementsAre(1000u));
}

TEST(AuxHistory, ALoopThatWritesTheSameAgainIsNoCutThatSurvived) {
  // The 64 bytes in front of each stop are the same; only further back the rounds differ.
  const auto round = [](uint8_t mark) {
    std::vector<uint8_t> bytes(kRing, 9);
    for (size_t i = 0; i < kRing; i += 1024) bytes[i] = mark;
    return bytes;
  };
  Writer w;
  AuxHistory history;
  w.write(round(1));
  w.write(std::vector<uint8_t>(500, 9));
  history.take(w.ring, w.head());
  w.write(std::vector<uint8_t>(kRing - 500, 9));
  w.write(round(2));
  w.write(std::vector<uint8_t>(700, 9));
  EXPECT_THAT(history.take(w.ring, w.head()).cuts, IsEmpty());
}

TEST(AuxHistory, NoRingIsNoTrace) {
  EXPECT_TRUE(AuxHistory().take({}, 0).bytes.empty());
  const std::vector<uint8_t> untouched(4096);
  EXPECT_TRUE(AuxHistory().take(untouched, 0).bytes.empty());
}

TEST(AuxHistory, WhateverIsWrittenTheNewestIsThereAndEveryCutIsOne) {
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    sim::SeededRandom random(seed, 9);
    Writer w(4096u << random.between(0, 2));
    AuxHistory history;
    std::map<uint64_t, bool> stops;  // by bytes written
    for (int i = 0; i < 30; ++i) {
      const uint64_t most = random.chance(0.2) ? 3 * w.ring.size() : random.chance(0.5) ? w.ring.size() : 300;
      std::vector<uint8_t> bytes(random.between(0, most));
      for (uint8_t& b : bytes) b = random.chance(0.3) ? 0 : static_cast<uint8_t>(random.next());
      w.write(bytes);
      const auto c = history.take(w.ring, w.head());
      const uint64_t size = w.ring.size(), written = w.all.size();
      if (!c.wrapped) {
        ASSERT_EQ(c.bytes, w.all) << "seed " << seed << " stop " << i;
      } else if (written >= size) {
        ASSERT_EQ(c.bytes, w.newest(size)) << "seed " << seed << " stop " << i;
      } else {
        ASSERT_LT(size - written, 64u) << "claimed a round too early: seed " << seed << " stop " << i;
      }
      const uint64_t first = written - std::min(written, c.bytes.size());
      std::vector<uint64_t> expected;
      for (const auto& [at, unused] : stops)
        if (written >= size ? at > written - size : at > 0)
          if (at < written) expected.push_back(at);
      if (written >= size) {
        // A stop may be forgotten when so much was written since that the copy could not tell; none may be invented.
        for (const uint64_t cut : c.cuts)
          ASSERT_TRUE(stops.count(first + cut)) << "seed " << seed << " stop " << i << " cut " << cut;
      } else if (!c.wrapped) {
        std::vector<uint64_t> cuts;
        for (const uint64_t cut : c.cuts) cuts.push_back(first + cut);
        ASSERT_EQ(cuts, expected) << "seed " << seed << " stop " << i;
      }
      stops[written] = true;
    }
  }
}

}  // namespace
}  // namespace hindcast::capture
