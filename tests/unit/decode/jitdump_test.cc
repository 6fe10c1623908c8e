#include "decode/jitdump.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "tests/support/jitdump_bytes.h"

namespace hindcast::decode {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;
using Bytes = std::vector<uint8_t>;
using test::JitDumpBytes;

TEST(JitDump, LoadsMovesAndLinesAreRead) {
  JitDumpBytes file(7);
  file.debug_info(0x1000, {{0x1002, 12, "\xff"}, {0x1000, 11, "a.js"}});
  file.load(100, 0x1000, {0x90, 0x90, 0xc3}, "f", 5);
  file.record(4, 0, {1, 2, 3});  // unwinding
  file.record(77, 0, {1});       // unknown
  file.move(200, 0x1000, 0x2000, 3, 5);
  file.record(3, 300, {});
  const auto dump = parse_jitdump(file.bytes());
  ASSERT_TRUE(dump.ok()) << dump.error().text();
  EXPECT_EQ(dump->damage, "");
  EXPECT_EQ(dump->read_bytes, file.bytes().size());
  EXPECT_EQ(dump->pid, Pid(7));
  EXPECT_TRUE(dump->closed);
  EXPECT_FALSE(dump->tsc_times);
  ASSERT_THAT(dump->records, SizeIs(2));
  const JitRecord& load = dump->records[0];
  EXPECT_FALSE(load.moved);
  EXPECT_EQ(load.time, 100u);
  EXPECT_EQ(load.address, 0x1000u);
  EXPECT_EQ(load.bytes, 3u);
  EXPECT_EQ(load.name, "f");
  EXPECT_EQ(file.bytes().at(load.code_offset + 2), 0xc3);
  ASSERT_EQ(load.lines, 2u);
  EXPECT_EQ(dump->lines[load.first_line].line, 11u);
  EXPECT_EQ(dump->lines[load.first_line + 1].line, 12u);
  const JitRecord& move = dump->records[1];
  EXPECT_TRUE(move.moved);
  EXPECT_EQ(move.old_address, 0x1000u);
  EXPECT_EQ(move.address, 0x2000u);
  EXPECT_EQ(move.index, 5u);
}

TEST(JitDump, LinesOfAnotherFunctionAreNotTaken) {
  JitDumpBytes file(7);
  file.debug_info(0x9000, {{0x9000, 11, "a.js"}}).load(100, 0x1000, {0xc3}, "f");
  const auto dump = parse_jitdump(file.bytes());
  ASSERT_TRUE(dump.ok());
  EXPECT_EQ(dump->records.at(0).lines, 0u);
  EXPECT_THAT(dump->lines, SizeIs(0));
}

TEST(JitDump, TimesOfTheTscAreMarked) {
  const auto dump = parse_jitdump(JitDumpBytes(7, 1).bytes());
  ASSERT_TRUE(dump.ok());
  EXPECT_TRUE(dump->tsc_times);
}

TEST(JitDump, WhatIsNoJitdumpIsRefusedWithItsReason) {
  const auto why = [](Bytes bytes) {
    const auto dump = parse_jitdump(bytes);
    return dump.ok() ? std::string("read") : dump.error().text();
  };
  const Bytes good = JitDumpBytes(7).bytes();
  EXPECT_EQ(why(good), "read");
  EXPECT_THAT(why({}), HasSubstr("0 bytes"));
  EXPECT_THAT(why(Bytes(good.begin(), good.begin() + 39)), HasSubstr("39 bytes"));
  Bytes bad = good;
  std::reverse(bad.begin(), bad.begin() + 4);
  EXPECT_THAT(why(bad), HasSubstr("other byte order"));
  bad = good;
  bad[0] = 0;
  EXPECT_THAT(why(bad), HasSubstr("JiTD"));
  bad = good;
  bad[4] = 2;
  EXPECT_THAT(why(bad), HasSubstr("version 2"));
  bad = good;
  bad[8] = 39;
  EXPECT_THAT(why(bad), HasSubstr("header of 39"));
  bad[8] = 41;
  EXPECT_THAT(why(bad), HasSubstr("header of 41"));
  EXPECT_THAT(why(JitDumpBytes(7, 0, 183).bytes()), HasSubstr("machine 183"));
}

TEST(JitDump, DamageKeepsWhatIsInFrontOfIt) {
  const auto damage_of = [](uint32_t id, const Bytes& body) {
    JitDumpBytes file(7);
    file.load(100, 0x1000, {0xc3}, "f");
    const size_t at = file.bytes().size();
    file.record(id, 200, body).load(300, 0x2000, {0xc3}, "g");
    const auto dump = parse_jitdump(file.bytes());
    EXPECT_TRUE(dump.ok());
    EXPECT_EQ(dump->records.size(), 1u);
    EXPECT_EQ(dump->read_bytes, at);
    return dump->damage;
  };
  EXPECT_THAT(damage_of(0, Bytes(10)), HasSubstr("without its fields"));
  EXPECT_THAT(damage_of(0, Bytes(40, 'x')), HasSubstr("does not end"));
  Bytes more(42);
  more[24] = 9;  // of code, of which there is one
  EXPECT_THAT(damage_of(0, more), HasSubstr("less code than it says"));
  Bytes wraps(60);
  std::fill(wraps.begin() + 16, wraps.begin() + 24, uint8_t{0xff});
  wraps[24] = 9;
  EXPECT_THAT(damage_of(0, wraps), HasSubstr("wraps"));
  EXPECT_THAT(damage_of(1, Bytes(10)), HasSubstr("without its fields"));
  Bytes lines(17);
  lines[8] = 200;
  EXPECT_THAT(damage_of(2, lines), HasSubstr("fewer lines"));
}

TEST(JitDump, ALastRecordThatIsCutShortIsDamage) {
  JitDumpBytes file(7);
  file.load(100, 0x1000, {0xc3}, "f");
  const size_t whole = file.bytes().size();
  file.load(200, 0x2000, {0x90, 0xc3}, "g");
  for (size_t cut = whole + 1; cut < file.bytes().size(); ++cut) {
    const auto dump = parse_jitdump(ByteSpan(file.bytes()).first(cut));
    ASSERT_TRUE(dump.ok());
    EXPECT_EQ(dump->records.size(), 1u) << cut;
    EXPECT_THAT(dump->damage, HasSubstr("ends in a record")) << cut;
  }
}

TEST(JitDump, RandomDamageNeverLeadsOutOfTheFile) {
  std::mt19937 random(3);
  JitDumpBytes file(7);
  file.debug_info(0x1000, {{0x1000, 11, "a.js"}, {0x1002, 12, "\xff"}});
  for (int i = 0; i < 5; ++i) file.load(100, 0x1000, Bytes(20, 0x90), "function", 5).move(200, 0x1000, 0x2000, 3, 5);
  for (int round = 0; round < 20000; ++round) {
    Bytes bad = file.bytes();
    for (int n = 0; n < 3; ++n) bad[random() % bad.size()] = static_cast<uint8_t>(random());
    const auto dump = parse_jitdump(bad);
    if (!dump.ok()) continue;
    for (const JitRecord& r : dump->records) {
      if (r.moved) continue;
      ASSERT_LE(r.code_offset + r.bytes, bad.size());
      ASSERT_LE(size_t{r.first_line} + r.lines, dump->lines.size());
    }
  }
}

}  // namespace
}  // namespace hindcast::decode
