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

/// Instruction n of the truth ran from tick 100 n to 100 n + 100, counted from 1; the flow says when it thinks that each piece ran.
class TimedTruth : public TruthSequence {
 public:
  explicit TimedTruth(std::vector<uint64_t> ips) : ips_(std::move(ips)) {}
  bool next(uint64_t& ip) override {
    if (at_ == ips_.size()) return false;
    ip = ips_[at_++];
    return true;
  }
  TscInterval when() const override { return {Tsc(100 * (at_ - 1) + 1), Tsc(100 * at_ + 1)}; }
  std::unique_ptr<TruthSequence> clone() const override { return std::make_unique<TimedTruth>(*this); }

 private:
  std::vector<uint64_t> ips_;
  size_t at_ = 0;
};
struct TimedPiece {
  std::vector<uint64_t> ips;  // empty: a gap
  uint64_t from = 0, to = 0;
};
class TimedFlow : public DecodedSequence {
 public:
  explicit TimedFlow(std::vector<TimedPiece> pieces) : pieces_(std::move(pieces)) {}
  bool next(DecodedPiece& out) override {
    if (at_ == pieces_.size()) return false;
    const TimedPiece& p = pieces_[at_++];
    out = {};
    out.gap = p.ips.empty();
    out.ips = p.ips;
    out.event.time = {Tsc(p.from), Tsc(p.to)};
    return true;
  }

 private:
  std::vector<TimedPiece> pieces_;
  size_t at_ = 0;
};
CompareResult compare_timed(std::vector<TimedPiece> flow, std::vector<uint64_t> truth, Tsc frozen = Tsc::max()) {
  TimedFlow f(std::move(flow));
  return compare_with_truth(f, TimedTruth(std::move(truth)), frozen);
}

TEST(TruthCompare, WhatRanAfterTheFreezeNeedNotBeThere) {
  const std::vector<uint64_t> truth{1, 2, 3, 4, 5};  // 4 may have run until tick 401
  EXPECT_TRUE(compare_timed({{{1, 2, 3}, 1, 400}}, truth, Tsc(400)).equal);
  EXPECT_EQ(compare_timed({{{1, 2, 3}, 1, 400}}, truth, Tsc(400)).truth, 5u);
  EXPECT_FALSE(compare_timed({{{1, 2, 3}, 1, 400}}, truth, Tsc(402)).equal) << "4 ran before it";
  EXPECT_FALSE(compare_timed({{{1, 2, 3}, 1, 400}}, truth).equal);
  EXPECT_FALSE(compare_timed({{{1, 9}, 1, 400}}, truth, Tsc(100)).equal) << "what is there must be the truth";
  // behind a gap
  EXPECT_TRUE(compare_timed({{{}, 0, 0}, {{2, 3}, 101, 400}}, truth, Tsc(400)).equal);
  EXPECT_FALSE(compare_timed({{{}, 0, 0}, {{2, 3}, 101, 400}}, truth, Tsc(402)).equal);
  EXPECT_FALSE(compare_timed({{{}, 0, 0}, {{2, 3}, 101, 400}}, truth).equal);
}

TEST(TruthCompare, ABlockThatRanOutsideItsIntervalIsMisplaced) {
  const auto right = compare_timed({{{1, 2}, 50, 250}, {{3, 4}, 200, 400}}, {1, 2, 3, 4});
  EXPECT_TRUE(right.equal);
  EXPECT_EQ(right.timed, 2u);
  EXPECT_EQ(right.misplaced, 0u);
  const auto late = compare_timed({{{1, 2}, 50, 250}, {{3, 4}, 338, 400}}, {1, 2, 3, 4});
  EXPECT_TRUE(late.equal) << "content is another thing";
  EXPECT_EQ(late.misplaced, 1u);
  EXPECT_EQ(late.worst_ticks, 37u);
  EXPECT_EQ(late.worst_at, 2u);
}

TEST(TruthCompare, BehindAGapATurnOfALoopIsTakenAtItsTime) {
  // 7 8 ran at 100 and at 300 and at 500; the gap hides the first two of them
  const auto r =
      compare_timed({{{1}, 0, 100}, {{}, 100, 500}, {{7, 8}, 480, 700}, {{}, 700, 900}}, {1, 7, 8, 7, 8, 7, 8, 9});
  EXPECT_TRUE(r.equal) << r.difference;
  EXPECT_EQ(r.misplaced, 0u);
  EXPECT_EQ(r.not_decoded, 5u);
  // the first block's interval reaches back over the gap; the second one's says which turn it was
  const auto wide = compare_timed({{{1}, 0, 100}, {{}, 100, 500}, {{7}, 100, 600}, {{8}, 590, 700}, {{}, 700, 900}},
                                  {1, 7, 8, 7, 8, 7, 8, 9});
  EXPECT_TRUE(wide.equal) << wide.difference;
  EXPECT_EQ(wide.misplaced, 0u);
  EXPECT_EQ(wide.not_decoded, 5u);
  // at no turn's time: right, but misplaced
  const auto wrong =
      compare_timed({{{1}, 0, 100}, {{}, 100, 500}, {{7, 8}, 2000, 2100}, {{}, 2100, 2200}}, {1, 7, 8, 7, 8, 9});
  EXPECT_TRUE(wrong.equal);
  EXPECT_EQ(wrong.misplaced, 1u);
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
