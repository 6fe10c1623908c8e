#include "server/views/cli/words.h"
#include "server/views/cli/output.h"

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
  const auto open = resolve(*parse_time_range("100ns,"), kScale);
  ASSERT_TRUE(open.ok());
  EXPECT_EQ(open->earliest, Tsc(1'000'200));
  EXPECT_EQ(open->latest, Tsc::max());
  const auto raw = resolve(*parse_time_range("5t,7t"), TimeScale{});
  ASSERT_TRUE(raw.ok());
  EXPECT_EQ(*raw, (TscInterval{Tsc(5), Tsc(7)}));
}

TEST(Words, ARangeIsReadAsAnswersPrintIt) {
  for (const char* text : {"1.5..2 ms", "1.5,2ms", "1.5 ms, 2 ms", "1500..2000us", "1500µs,0.002s", "1.5e6ns,2e6ns",
                           "3000000ticks,4000000 ticks", "4000000t..5000000t"}) {
    const auto r = parse_time_range(text);
    ASSERT_TRUE(r.ok()) << text;
    EXPECT_EQ(*resolve(*r, kScale), ticks(3'000'000, 4'000'000)) << text;
  }
  // Threads are seen before the window's start, which is where their trace begins.
  EXPECT_EQ(resolve(*parse_time_range("-0.25..0ms"), kScale)->earliest, Tsc(500'000));
  EXPECT_EQ(resolve(*parse_time_range("0,1ms"), kScale)->earliest, Tsc(1'000'000));
  // More digits than a double holds.
  EXPECT_EQ(resolve(*parse_time_range("40450075477780001t,"), kScale)->earliest, Tsc(40'450'075'477'780'001));
  // Ticks since the start need no rate: they are what is printed without one.
  EXPECT_EQ(resolve(*parse_time_range("10..20ticks"), TimeScale{Tsc(100), 0})->latest, Tsc(120));
}

TEST(Words, ANumberWithoutAUnitIsNotGuessedAt) {
  const auto r = parse_time_range("102.143891,103");
  ASSERT_FALSE(r.ok());
  EXPECT_NE(r.error().what.find("lacks a unit (answers print times in ms)"), std::string::npos) << r.error().what;
}

TEST(Words, ATimeRangeThatMakesNoSenseIsMisuse) {
  for (const char* text : {"", "1", "1ms", "1,2,3ms", "x,2ms", "2,1ms", "1parsec,2ms", "nan,1ms", "inf,1ms", "0x1,2ms",
                           "-1t,2t", "1,2", "1..2..3ms", "1.5t,2t"}) {
    const auto r = parse_time_range(text);
    ASSERT_FALSE(r.ok()) << text;
    EXPECT_EQ(r.error().code, Errc::usage) << text;
    EXPECT_FALSE(r.error().fix.empty());
  }
  EXPECT_EQ(resolve(*parse_time_range("1,2ns"), TimeScale{}).error().code, Errc::usage);
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

TEST(Words, ALongInlineChainKeepsItsEndsAndWhatIsNoSystemHeader) {
  Place p;
  const std::string lib = "/usr/include/c++/12/bits/";
  p.lines = {{"lock", lib + "std_mutex.h", 100, 0, true}, {"guard", lib + "std_mutex.h", 229, 0, true},
             {"price", "/src/orders.cc", 25, 0, true},    {"work", "/src/orders.cc", 73, 0, true},
             {"invoke", lib + "invoke.h", 61, 0, true},   {"_M_run", lib + "std_thread.h", 210, 0, false}};
  EXPECT_EQ(lines_text(p), "lock std_mutex.h:100 < … < price orders.cc:25 < work orders.cc:73 < … < std_thread.h:210");
  EXPECT_EQ(
      lines_text(p, Names::whole),
      "lock std_mutex.h:100 < guard std_mutex.h:229 < price orders.cc:25 < work orders.cc:73 < invoke invoke.h:61 < "
      "std_thread.h:210");
}

TEST(Words, ALongNameLosesTemplateArgumentsBeforeParameters) {
  const std::string run = "std::thread::_State_impl<std::thread::_Invoker<std::tuple<main::{lambda()#1}> > >::_M_run()";
  EXPECT_EQ(function_text(run), "std::thread::_State_impl<…>::_M_run()");
  EXPECT_EQ(function_text(run, Names::whole), run);
  EXPECT_EQ(function_text("std::max<int>(int, int)"), "std::max<int>(int, int)");
  const std::string many(70, 'x');
  EXPECT_EQ(function_text("(anonymous namespace)::f(" + many + ") const"), "(anonymous namespace)::f(…) const");
  EXPECT_EQ(function_text("std::operator<< <" + many + ">(std::ostream&)"), "std::operator<< <…>(std::ostream&)");
  EXPECT_EQ(function_text("a::operator()(" + many + ")"), "a::operator()(…)");
  EXPECT_EQ(function_text("a::operator-><" + many), "a::operator-><" + many);  // not balanced: left alone
}

TEST(Words, EveryCauseOfAGapHasWords) {
  for (uint8_t c = 1; c <= static_cast<uint8_t>(GapCause::cut); ++c)
    EXPECT_NE(cause_words(static_cast<GapCause>(c)), "unknown cause") << unsigned{c};
}

TEST(Words, LinesFromElsewhereStayLinesAndPlayNoTricks) {
  EXPECT_EQ(printable_lines(""), "");
  EXPECT_EQ(printable_lines("one\n\ntwo\n"), "one\n\ntwo\n");
  EXPECT_EQ(printable_lines("a\x1b[2Jb\r\nc\x7f"), "a\\x1b[2Jb\\x0d\nc\\x7f");
  EXPECT_EQ(printable_lines("caf\xc3\xa9"), "caf\xc3\xa9");
  EXPECT_EQ(printable("a\nb"), "a\\x0ab");
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
  EXPECT_EQ(size_text(1023), "1023 B");
  EXPECT_EQ(size_text(1536), "1.50 KiB");
  EXPECT_EQ(size_text(uint64_t{64} << 20), "64.0 MiB");
  EXPECT_EQ(size_text(uint64_t{1023} << 20), "1023 MiB");
}

}  // namespace
}  // namespace hindcast::server::cli
