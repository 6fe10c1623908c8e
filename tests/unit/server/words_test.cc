#include "server/views/cli/words.h"

#include <gtest/gtest.h>

namespace hindcast::server::cli {
namespace {

constexpr TimeScale kScale{Tsc(1'000'000), 0.5};  // 2 GHz

TscInterval ticks(uint64_t from, uint64_t to) { return {Tsc(1'000'000 + from), Tsc(1'000'000 + to)}; }

TEST(Words, ATimeIsTheMiddleOfItsIntervalAndHalfItsWidth) {
  const TimeText t = time_text(kScale, ticks(2'000'000, 2'001'600));
  EXPECT_EQ(t.at, "1.000400");
  EXPECT_EQ(t.width, "±400 ns");
  EXPECT_EQ(time_phrase(kScale, ticks(0, 0)), "0.000000 ms ±0 ns");
}

TEST(Words, AnOpenSideIsABoundAndNoTimeIsAQuestionMark) {
  EXPECT_EQ(time_text(kScale, {Tsc(3'000'000), Tsc::max()}).at, "> 1.000000");
  EXPECT_EQ(time_text(kScale, {Tsc::min(), Tsc(3'000'000)}).at, "< 1.000000");
  EXPECT_EQ(time_text(kScale, TscInterval::unknown()).at, "?");
}

TEST(Words, WithoutARateTimesAreTicks) {
  const TimeScale none{Tsc(100), 0};
  EXPECT_EQ(time_phrase(none, {Tsc(110), Tsc(120)}), "15 ticks ±5");
}

TEST(Words, ADurationIsFromTheShortestToTheLongestPossible) {
  EXPECT_EQ(duration_text(kScale, ticks(0, 2000), ticks(4000, 8000)), "1.00..4.00 µs");
  EXPECT_EQ(duration_text(kScale, ticks(0, 2000), ticks(1000, 8000)), "0.00..4.00 µs");  // they may touch
  EXPECT_EQ(duration_text(kScale, ticks(0, 0), TscInterval::unknown()), "?");
}

TEST(Words, ATimeRangeTakesUnitsAndOpenSides) {
  const auto r = parse_time_range("1.5ms,2ms");
  ASSERT_TRUE(r.ok());
  const auto t = resolve(*r, kScale);
  ASSERT_TRUE(t.ok());
  EXPECT_EQ(*t, ticks(3'000'000, 4'000'000));
  const auto open = resolve(*parse_time_range("100,"), kScale);
  ASSERT_TRUE(open.ok());
  EXPECT_EQ(open->earliest, Tsc(1'000'200));
  EXPECT_EQ(open->latest, Tsc::max());
  const auto raw = resolve(*parse_time_range("5t,7t"), TimeScale{});
  ASSERT_TRUE(raw.ok());
  EXPECT_EQ(*raw, (TscInterval{Tsc(5), Tsc(7)}));
}

TEST(Words, ATimeRangeThatMakesNoSenseIsMisuse) {
  for (const char* text : {"", "1", "1,2,3", "x,2", "2,1", "-1,2", "1parsec,2", "nan,1"}) {
    const auto r = parse_time_range(text);
    ASSERT_FALSE(r.ok()) << text;
    EXPECT_EQ(r.error().code, Errc::usage) << text;
    EXPECT_FALSE(r.error().fix.empty());
  }
  EXPECT_EQ(resolve(*parse_time_range("1,2"), TimeScale{}).error().code, Errc::usage);
}

TEST(Words, APlaceIsNeverWithoutAName) {
  Place p;
  p.module = "/usr/lib/libc.so.6";
  p.module_offset = 0x2a1b0;
  EXPECT_EQ(place_text(p), "libc.so.6+0x2a1b0");
  p.function = "puts";
  EXPECT_EQ(place_text(p), "puts");
  p.function_offset = 4;
  EXPECT_EQ(place_text(p), "puts+0x4");
  p.function = "a\x1b[2J";
  EXPECT_EQ(place_text(p), "a\\x1b[2J+0x4");
}

TEST(Words, InlinedCallsAreShownFromTheInsideOut) {
  Place p;
  p.lines = {{"fast", "/src/a.h", 3, 0, true}, {"slow", "/src/main.cc", 12, 0, false}};
  EXPECT_EQ(lines_text(p), "fast a.h:3 < main.cc:12");
}

TEST(Words, EveryCauseOfAGapHasWords) {
  for (uint8_t c = 1; c <= static_cast<uint8_t>(GapCause::cut); ++c)
    EXPECT_NE(cause_words(static_cast<GapCause>(c)), "unknown cause") << unsigned{c};
}

TEST(Words, GapsAreCountedByCause) {
  FlowCounts counts;
  for (const GapCause cause : {GapCause::desync, GapCause::pt_overflow, GapCause::desync}) {
    Event e;
    e.cause = cause;
    e.count = 10;
    counts.add(e);
  }
  EXPECT_EQ(gaps_phrase(counts), "3 gaps (pt_overflow 1, desync 2)");
  EXPECT_EQ(counts.gaps[1].bytes, 20u);
}

TEST(Words, SizesHaveThreeDigits) {
  EXPECT_EQ(size_text(999), "999 B");
  EXPECT_EQ(size_text(1500), "1.50 kB");
  EXPECT_EQ(size_text(83'250'000), "83.2 MB");
}

}  // namespace
}  // namespace hindcast::server::cli
