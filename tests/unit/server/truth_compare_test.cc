#include "server/truth_compare.h"

#include <gtest/gtest.h>

#include <vector>

namespace hindcast::server {
namespace {

class Truth : public TruthSequence {
 public:
  explicit Truth(std::vector<uint64_t> ips, uint64_t tail = 0) : ips_(std::move(ips)), tail_(tail) {}
  bool next(uint64_t& ip) override {
    if (at_ == ips_.size()) return false;
    ip = ips_[at_++];
    return true;
  }
  std::unique_ptr<TruthSequence> clone() const override { return std::make_unique<Truth>(*this); }
  uint64_t uncertain_tail() const override { return tail_; }

 private:
  std::vector<uint64_t> ips_;
  uint64_t tail_;
  size_t at_ = 0;
};

constexpr uint64_t kGap = ~uint64_t{0};

/// Addresses with kGap between them; handed out in pieces of two, as blocks would be.
class Decoded : public DecodedSequence {
 public:
  explicit Decoded(std::vector<uint64_t> ips) : ips_(std::move(ips)) {}
  bool next(DecodedPiece& out) override {
    if (at_ == ips_.size()) return false;
    out = {};
    if (ips_[at_] == kGap) {
      out.gap = true;
      ++at_;
      return true;
    }
    size_t end = at_ + 1;
    if (end < ips_.size() && ips_[end] != kGap) ++end;
    out.ips = {ips_.data() + at_, end - at_};
    at_ = end;
    return true;
  }

 private:
  std::vector<uint64_t> ips_;
  size_t at_ = 0;
};

CompareResult compare(std::vector<uint64_t> decoded, std::vector<uint64_t> truth, uint64_t tail = 0) {
  Decoded d(std::move(decoded));
  return compare_with_truth(d, Truth(std::move(truth), tail));
}

TEST(TruthCompare, TheSameSequenceIsEqual) {
  const auto r = compare({1, 2, 3, 4, 5}, {1, 2, 3, 4, 5});
  EXPECT_TRUE(r.equal) << r.difference;
  EXPECT_EQ(r.decoded, 5u);
  EXPECT_EQ(r.truth, 5u);
  EXPECT_EQ(r.not_decoded, 0u);
}

TEST(TruthCompare, OneWrongInstructionIsFoundWithItsPlace) {
  const auto r = compare({1, 2, 0x33, 4, 5}, {1, 2, 3, 4, 5});
  EXPECT_FALSE(r.equal);
  EXPECT_NE(r.difference.find("instruction 2\n"), std::string::npos) << r.difference;
  EXPECT_NE(r.difference.find("0x33"), std::string::npos);
  EXPECT_EQ(r.truth, 5u);
  EXPECT_EQ(r.decoded, 5u);
}

TEST(TruthCompare, WhatIsMissingWithoutAGapIsADifference) {
  EXPECT_FALSE(compare({1, 2}, {1, 2, 3}).equal);
  EXPECT_FALSE(compare({2, 3}, {1, 2, 3}).equal);
  EXPECT_FALSE(compare({1, 3}, {1, 2, 3}).equal);
  EXPECT_FALSE(compare({}, {1}).equal);
}

TEST(TruthCompare, WhatTheTruthDoesNotHaveIsADifference) {
  EXPECT_FALSE(compare({1, 2, 3}, {1, 2}).equal);
  EXPECT_FALSE(compare({1, kGap, 2, 9}, {1, 2}).equal);
}

TEST(TruthCompare, AGapHidesWhatIsMissingAndItIsCounted) {
  const auto r = compare({1, 2, kGap, 6, 7}, {1, 2, 3, 4, 5, 6, 7});
  EXPECT_TRUE(r.equal) << r.difference;
  EXPECT_EQ(r.gaps, 1u);
  EXPECT_EQ(r.not_decoded, 3u);
}

TEST(TruthCompare, AGapAtTheStartAndAtTheEndHideTheRest) {
  const auto r = compare({kGap, 3, 4, kGap}, {1, 2, 3, 4, 5, 6});
  EXPECT_TRUE(r.equal) << r.difference;
  EXPECT_EQ(r.not_decoded, 4u);
}

TEST(TruthCompare, AGapThatHidesNothingIsFine) { EXPECT_TRUE(compare({1, 2, kGap, kGap, 3}, {1, 2, 3}).equal); }

TEST(TruthCompare, AStretchOfALoopIsPlacedWhereAllOfItFits) {
  // The stretch begins like each turn of the loop, but only the last turn leaves it.
  const auto r = compare({1, kGap, 2, 3, 2, 3, 9}, {1, 2, 3, 2, 3, 2, 3, 2, 3, 9});
  EXPECT_TRUE(r.equal) << r.difference;
  EXPECT_EQ(r.not_decoded, 4u);
}

TEST(TruthCompare, AWrongStretchBehindAGapIsADifference) {
  const auto r = compare({1, kGap, 2, 9, kGap, 4}, {1, 2, 3, 4});
  EXPECT_FALSE(r.equal);
  EXPECT_NE(r.difference.find("a stretch of 2"), std::string::npos) << r.difference;
}

TEST(TruthCompare, TheFlowMustReachTheTruthsEndUnlessItEndsInAGap) {
  EXPECT_FALSE(compare({1, kGap, 3}, {1, 2, 3, 4}).equal);
  EXPECT_TRUE(compare({1, kGap, 3, kGap}, {1, 2, 3, 4}).equal);
  EXPECT_TRUE(compare({1, kGap, 3, 4}, {1, 2, 3, 4}).equal);
}

TEST(TruthCompare, TheLastStretchOfAFlowWithoutAGapAtItsEndBelongsAtTheTruthsEnd) {
  const auto r = compare({1, kGap, 3, 4}, {1, 2, 3, 4, 3, 4});
  EXPECT_TRUE(r.equal) << r.difference;
  EXPECT_EQ(r.not_decoded, 3u);
}

TEST(TruthCompare, OfAKilledThreadsLastBlockAnyPartMayHaveRun) {
  for (const std::vector<uint64_t>& decoded : {std::vector<uint64_t>{1, 2}, {1, 2, 3}, {1, 2, 3, 4}}) {
    EXPECT_TRUE(compare(decoded, {1, 2, 3, 4}, 2).equal);
    auto behind_gap = decoded;
    behind_gap.insert(behind_gap.begin() + 1, kGap);
    EXPECT_TRUE(compare(behind_gap, {1, 2, 3, 4}, 2).equal);
  }
  EXPECT_FALSE(compare({1}, {1, 2, 3, 4}, 2).equal);
  EXPECT_FALSE(compare({1, 2, 4}, {1, 2, 3, 4}, 2).equal);
}

TEST(TruthCompare, StretchesMustComeInTheTruthsOrder) {
  EXPECT_FALSE(compare({1, kGap, 5, 6, kGap, 3, 4, kGap}, {1, 2, 3, 4, 5, 6}).equal);
}

}  // namespace
}  // namespace hindcast::server
