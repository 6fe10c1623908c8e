#include "decode/attribution.h"

#include <gtest/gtest.h>

#include "tests/support/perf_bytes.h"

namespace hindcast::decode {
namespace {

using test::PerfBytes;

std::vector<Slice> slices_of(const PerfBytes& bytes, bool older_dropped = false) {
  StreamInfo info;
  info.id = 1;
  info.cpu = CpuId(0);
  info.sample_type = perf::kOurSampleType;
  Sideband s;
  s.add(info, {nullptr, bytes.bytes()});
  s.finish();
  SliceBuilder b(CpuId(0));
  if (older_dropped) b.older_were_dropped();
  for (size_t i = 0; i < s.size(); ++i) b.add(s.record(i));
  return b.finish();
}

std::string text(const std::vector<Slice>& slices) {
  std::string t;
  for (const Slice& s : slices) {
    t += (t.empty() ? "" : " ") + std::to_string(s.tid.value()) + (s.open_start ? "(" : "[") +
         std::to_string(s.in.value()) + "," + (s.out == RecordTime::max() ? "-" : std::to_string(s.out.value())) +
         (s.open_end ? ")" : "]");
  }
  return t;
}

TEST(Slices, SwitchPairsMakeSlicesAndTheEndsAreOpen) {
  EXPECT_EQ(text(slices_of(PerfBytes()
                               .switch_out(10, 1, 11, 2, 22)
                               .switch_in(11, 2, 22, 1, 11)
                               .switch_out(20, 2, 22, 1, 11)
                               .switch_in(21, 1, 11, 2, 22))),
            "11(0,10] 22[11,20] 11[21,-)");
}

TEST(Slices, AnnouncedTaskRunsOnWhenItsArrivalWasNotCaptured) {
  EXPECT_EQ(text(slices_of(PerfBytes().switch_in(5, 1, 11).switch_out(10, 1, 11, 2, 22))), "0(0,5) 11[5,10] 22[10,-)");
}

TEST(Slices, DeadTaskLeavesWithoutANumber) {
  EXPECT_EQ(
      text(slices_of(PerfBytes().switch_in(5, 1, 11, 0, 0).switch_out(10, -1, -1, 0, 0).switch_in(11, 0, 0, -1, -1))),
      "0(0,5) 11[5,10] 0[11,-)");
}

TEST(Slices, MissingDepartureLeavesTheSideOpen) {
  EXPECT_EQ(text(slices_of(PerfBytes().switch_in(5, 1, 11, 0, 0).switch_in(10, 2, 22, 1, 11))),
            "0(0,5) 11[5,10) 22[10,-)");
}

TEST(Slices, AroundALostRecordNobodyKnowsWhoRan) {
  EXPECT_EQ(
      text(slices_of(
          PerfBytes().switch_in(5, 1, 11, 0, 0).at(30).lost(4).switch_out(40, 2, 22, 0, 0).switch_in(41, 0, 0, 2, 22))),
      "0(0,5) 11[5,40) -1(5,40) 22(5,40] 0[41,-)");
}

TEST(Slices, BeforeAWindowOfSwitchesNobodyKnowsWhoRan) {
  EXPECT_EQ(text(slices_of(PerfBytes().switch_in(5, 1, 11, 2, 22).switch_out(10, 1, 11, 0, 0), true)),
            "-1(0,5) 11[5,10] 0[10,-)");
  EXPECT_EQ(text(slices_of(PerfBytes().switch_out(10, 1, 11, 2, 22).switch_out(20, 2, 22, 0, 0), true)),
            "-1(0,10) 22(10,20] 0[20,-)");
  EXPECT_EQ(text(slices_of(PerfBytes().switch_out(10, 1, 11, 2, 22), true)), "-1(0,10) 22[10,-)");
}

TEST(Slices, NothingFollowsALostRecord) {
  EXPECT_EQ(text(slices_of(PerfBytes().switch_in(5, 1, 11, 0, 0).at(30).lost(4))), "0(0,5) 11[5,-) -1(5,-)");
}

Stretch stretch(uint64_t from_early, uint64_t from_late, uint64_t to_early, uint64_t to_late) {
  Stretch s;
  s.begin_time = {Tsc(from_early), Tsc(from_late)};
  s.end_time = {Tsc(to_early), Tsc(to_late)};
  return s;
}
Slice slice(int tid, uint64_t in, uint64_t out) {
  Slice s;
  s.tid = Tid(tid);
  s.in = RecordTime(in);
  s.out = RecordTime(out);
  return s;
}
TscConversion ticks() {
  TscConversion c;
  c.known = true;
  c.mult = 1;
  return c;
}
std::vector<int> owners(const std::vector<Stretch>& stretches, const std::vector<Slice>& slices,
                        bool user_only = true) {
  std::vector<int> tids;
  for (const Owner& o : attribute(stretches, slices, ticks(), user_only))
    tids.push_back(o.certain ? slices[o.first].tid.value() : o.first == kNoSlice ? -2 : -1);
  return tids;
}

TEST(Attribution, StretchInsideOneSliceIsItsThreads) {
  EXPECT_EQ(
      owners({stretch(110, 120, 150, 160), stretch(310, 320, 350, 360)}, {slice(1, 100, 200), slice(2, 300, 400)}),
      (std::vector<int>{1, 2}));
}

TEST(Attribution, WideIntervalThatFitsTwoThreadsIsNobodys) {
  EXPECT_EQ(owners({stretch(110, 350, 120, 360)}, {slice(1, 100, 200), slice(2, 300, 400)}), (std::vector<int>{-1}));
}

TEST(Attribution, OrderDecidesWhereClocksLeaveOneChoice) {
  // The second fits both by its clock, but lies behind one that needs thread 2.
  EXPECT_EQ(
      owners({stretch(310, 320, 330, 340), stretch(110, 350, 120, 360)}, {slice(1, 100, 200), slice(2, 300, 400)}),
      (std::vector<int>{2, 2}));
  EXPECT_EQ(
      owners({stretch(110, 350, 120, 360), stretch(110, 120, 130, 140)}, {slice(1, 100, 200), slice(2, 300, 400)}),
      (std::vector<int>{1, 1}));
}

TEST(Attribution, TwoSlicesOfOneThreadAreNoDoubt) {
  EXPECT_EQ(owners({stretch(110, 350, 120, 360)}, {slice(1, 100, 200), slice(1, 300, 400)}), (std::vector<int>{1}));
}

TEST(Attribution, StretchThatFitsNobodyIsNobodys) {
  EXPECT_EQ(
      owners({stretch(210, 220, 230, 240), stretch(310, 320, 330, 340)}, {slice(1, 100, 200), slice(2, 300, 400)}),
      (std::vector<int>{-2, 2}));
}

TEST(Attribution, UnknownTimesFitOnlyASingleThread) {
  EXPECT_EQ(owners({stretch(0, ~0ull, 0, ~0ull)}, {slice(1, 100, 200)}), (std::vector<int>{1}));
  EXPECT_EQ(owners({stretch(0, ~0ull, 0, ~0ull)}, {slice(1, 100, 200), slice(2, 300, 400)}), (std::vector<int>{-1}));
}

TEST(Attribution, UnknownRunnerIsAChoiceToo) {
  EXPECT_EQ(owners({stretch(110, 120, 130, 140), stretch(210, 220, 230, 240)},
                   {slice(1, 100, 300), slice(-1, 200, 300), slice(2, 200, 400)}),
            (std::vector<int>{1, -1}));
}

TEST(Attribution, WithTheKernelTracedAStretchMaySpanASwitch) {
  const std::vector<Slice> slices = {slice(1, 100, 200), slice(2, 200, 400)};
  EXPECT_EQ(owners({stretch(110, 120, 130, 140)}, slices, false), (std::vector<int>{1}));
  EXPECT_EQ(owners({stretch(110, 120, 130, 210)}, slices, false), (std::vector<int>{-1}));
}

}  // namespace
}  // namespace hindcast::decode
