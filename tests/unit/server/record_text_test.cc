#include "server/record_text.h"

#include <gtest/gtest.h>

#include <vector>

namespace hindcast::server {
namespace {

constexpr uint64_t kSampleType = perf::kOurSampleType;

struct Made {
  std::vector<uint8_t> bytes;
  perf::Record record;
};

/// A record of this body with a trailer of pid 7, tid 8, time 9, CPU 1.
Made make(uint32_t type, uint16_t misc, const std::vector<uint8_t>& body) {
  Made m;
  m.bytes = body;
  ByteWriter w(m.bytes);
  w.u32(7);
  w.u32(8);
  w.u64(9);
  w.u32(1);
  w.u32(0);
  w.u64(5);
  m.record = {type, misc, m.bytes, 0};
  return m;
}

std::vector<uint8_t> body(std::initializer_list<uint32_t> words, std::string_view text = {}) {
  std::vector<uint8_t> b;
  ByteWriter w(b);
  for (const uint32_t v : words) w.u32(v);
  w.text(text);
  return b;
}

TEST(RecordText, CommNamesTheProcessThreadAndName) {
  const auto m = make(perf::kComm, perf::kMiscCommExec, body({7, 8}, std::string_view("ls\0\0\0\0\0\0", 8)));
  EXPECT_EQ(record_text(m.record, kSampleType), "COMM pid 7 tid 8 ls (exec)");
}

TEST(RecordText, Mmap2ShowsRangeProtectionAndFile) {
  const auto m =
      make(perf::kMmap2, 0,
           body({7, 8, 0x1000, 0, 0x2000, 0, 0x400, 0, 8, 1, 99, 0, 0, 0, 5, 2}, std::string_view("/a\0\0", 4)));
  EXPECT_EQ(record_text(m.record, kSampleType), "MMAP2 pid 7 tid 8 [0x1000, 0x3000) off 0x400 r-xp /a");
}

TEST(RecordText, SwitchTakesItsThreadFromTheTrailer) {
  EXPECT_EQ(record_text(make(perf::kSwitch, 0, {}).record, kSampleType), "SWITCH in pid 7 tid 8");
  EXPECT_EQ(
      record_text(make(perf::kSwitch, perf::kMiscSwitchOut | perf::kMiscSwitchOutPreempt, {}).record, kSampleType),
      "SWITCH out preempted pid 7 tid 8");
}

TEST(RecordText, AuxFlagsAreSpelledOut) {
  const auto m = make(perf::kAux, 0, body({0x10, 0, 0x20, 0, perf::kAuxTruncated | perf::kAuxPartial, 0}));
  EXPECT_EQ(record_text(m.record, kSampleType), "AUX off 0x10 size 0x20 TRUNCATED PARTIAL");
}

TEST(RecordText, ABodyThatIsTooShortSaysSo) {
  const auto m = make(perf::kFork, 0, body({1}));
  EXPECT_NE(record_text(m.record, kSampleType).find("(cut short)"), std::string::npos);
}

TEST(RecordText, ControlCharactersInNamesAreEscaped) {
  const auto m = make(perf::kComm, 0, body({7, 8}, std::string_view("\x1b[2J\0\0\0\0", 8)));
  EXPECT_EQ(record_text(m.record, kSampleType), "COMM pid 7 tid 8 \\x1b[2J");
}

TEST(RecordText, ATypeWithoutANameIsShownByItsNumber) {
  EXPECT_EQ(record_text(make(999, 0, {}).record, kSampleType), "type 999 32 bytes");
}

}  // namespace
}  // namespace hindcast::server
