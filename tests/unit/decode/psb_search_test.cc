// Where PSBs are: the fast searches beside the definition, read byte by byte.
#include "decode/psb_search.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "tests/support/pt_bytes.h"

namespace hindcast::decode {
namespace {

using test::PtBytes;
using Bytes = std::vector<uint8_t>;

bool is_pair(const Bytes& b, uint64_t at) { return at + 2 <= b.size() && b[at] == 0x02 && b[at + 1] == 0x82; }

/// All of them: eight pairs, with a multiple of eight behind them in the run.
std::vector<uint64_t> psbs_of(const Bytes& b) {
  std::vector<uint64_t> all, pairs_from(b.size() + 2);  // how many pairs stand together from there on
  for (uint64_t at = b.size(); at-- > 0;)
    if (is_pair(b, at)) pairs_from[at] = 1 + pairs_from[at + 2];
  for (uint64_t at = 0; at < b.size(); ++at)
    if (pairs_from[at] != 0 && pairs_from[at] % 8 == 0) all.push_back(at);
  return all;
}

/// Runs of pairs of all lengths and alignments, whole, cut and broken.
Bytes many_pairs(std::mt19937_64& random) {
  constexpr uint8_t kAlphabet[] = {0x02, 0x82, 0x00};
  Bytes b(random() % 120);
  for (uint8_t& x : b) x = kAlphabet[random() % 3];
  for (uint64_t runs = random() % 4; runs-- > 0;) {
    Bytes run;
    for (uint64_t pairs = random() % 40; pairs-- > 0;) run.insert(run.end(), {0x02, 0x82});
    if (random() % 4 == 0 && !run.empty()) run[random() % run.size()] ^= 0x80;
    b.insert(b.begin() + static_cast<ptrdiff_t>(random() % (b.size() + 1)), run.begin(), run.end());
  }
  return b;
}

TEST(NextPsb, FindsOneAtEveryOffset) {
  for (size_t at = 0; at < 64; ++at) {
    auto t = PtBytes().pad(static_cast<int>(at)).psb().pad(3);
    EXPECT_EQ(next_psb(t.bytes(), 0), at);
    EXPECT_EQ(next_psb(t.bytes(), at), at);
    EXPECT_EQ(next_psb(t.bytes(), at + 1), std::nullopt) << "at " << at;
  }
}

TEST(NextPsb, NeedsAllSixteenBytes) {
  EXPECT_EQ(next_psb(PtBytes().psb().drop_last(1).bytes(), 0), std::nullopt);
  for (size_t broken = 0; broken < 16; ++broken) {
    auto bytes = PtBytes().pad(7).psb().pad(7).bytes();
    bytes[7 + broken] ^= 0x40;
    EXPECT_EQ(next_psb(bytes, 0), std::nullopt) << "byte " << broken;
  }
}

TEST(NextPsb, APayloadThatLooksLikeItsBeginningIsNotPartOfIt) {
  const auto t = PtBytes().tip(0x8202, 1).psb().tsc(1);  // ... 02 82 | 02 82 02 82 ...
  EXPECT_EQ(next_psb(t.bytes(), 0), 3u);
}

TEST(NextPsb, BackToBackTheFirstIsFound) {
  const auto t = PtBytes().pad(3).psb().psb().tsc(1);
  EXPECT_EQ(next_psb(t.bytes(), 0), 3u);
  EXPECT_EQ(next_psb(t.bytes(), 4), 19u);
}

TEST(NextPsb, AgreesWithTheDefinition) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 20000; ++round) {
    const Bytes b = many_pairs(random);
    const auto psbs = psbs_of(b);
    const uint64_t from = random() % (b.size() + 2);
    const auto want = std::lower_bound(psbs.begin(), psbs.end(), from);
    ASSERT_EQ(next_psb(b, from), want == psbs.end() ? std::nullopt : std::optional(*want)) << "round " << round;
  }
}

TEST(LastPsb, AgreesWithTheDefinition) {
  std::mt19937_64 random(2);
  for (int round = 0; round < 20000; ++round) {
    const Bytes b = many_pairs(random);
    const auto psbs = psbs_of(b);
    const uint64_t at = random() % (b.size() + 2);
    const auto behind = std::upper_bound(psbs.begin(), psbs.end(), at);
    ASSERT_EQ(last_psb(b, at), behind == psbs.begin() ? std::nullopt : std::optional(behind[-1])) << "round " << round;
  }
}

TEST(PsbSearch, AnswersAsNextPsbWhateverWasAskedBefore) {
  std::mt19937_64 random(3);
  for (int round = 0; round < 4000; ++round) {
    const Bytes b = many_pairs(random);
    PsbSearch search(b);
    uint64_t from = 0;
    for (int question = 0; question < 40; ++question) {
      from = random() % 8 == 0 ? random() % (b.size() + 2) : from + random() % 20;  // mostly onwards
      ASSERT_EQ(search.next(from), next_psb(b, from)) << "round " << round << " from " << from;
    }
  }
}

TEST(PsbSearch, AnythingAskedOnwardsReadsEachByteOnce) {
  // With one reading of the rest per question this would take minutes.
  Bytes storm;
  for (int i = 0; i < 1 << 22; ++i) storm.insert(storm.end(), {0x02, 0x82});
  PsbSearch search(storm);
  uint64_t found = 0;
  for (auto psb = search.next(0); psb; psb = search.next(*psb + 1)) ++found;
  EXPECT_EQ(found, storm.size() / 16);
  const Bytes silence(8 << 20, 0);
  PsbSearch nothing(silence);
  for (uint64_t from = 0; from < silence.size(); ++from) ASSERT_EQ(nothing.next(from), std::nullopt);
}

}  // namespace
}  // namespace hindcast::decode
