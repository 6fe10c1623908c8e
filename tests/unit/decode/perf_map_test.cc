#include "decode/perf_map.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace hindcast::decode {
namespace {

PerfMap parsed(std::string_view text) {
  return PerfMap::parse({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
}
std::string name(const PerfMap& map, uint64_t address) {
  const PerfMapFunction* f = map.find(address);
  return f ? std::string(f->name) : "-";
}

TEST(PerfMap, NamesWhatALineCovers) {
  const auto text = "1000 10 first\n0x2000 0x8 second function(int)\r\n";
  const PerfMap map = parsed(text);
  EXPECT_EQ(name(map, 0xfff), "-");
  EXPECT_EQ(name(map, 0x1000), "first");
  EXPECT_EQ(name(map, 0x100f), "first");
  EXPECT_EQ(name(map, 0x1010), "-");
  EXPECT_EQ(name(map, 0x2007), "second function(int)");
  EXPECT_EQ(map.left_out(), 0u);
}

TEST(PerfMap, LinesOfNoFormatAreCountedAndLeftOut) {
  const PerfMap map =
      parsed("\nno hex\n10\n10 \n10 20\n10 20 \n10 0 empty\nffffffffffffffff 2 wraps\n30 1 good\n40 1 unfinish");
  EXPECT_EQ(map.left_out(), 9u);
  EXPECT_EQ(name(map, 0x10), "-");
  EXPECT_EQ(name(map, 0x30), "good");
  EXPECT_EQ(name(map, 0x40), "-");
}

TEST(PerfMap, TheNewestOfSeveralIsFoundAsBySearchingAll) {
  std::mt19937 random(7);
  for (int round = 0; round < 200; ++round) {
    std::string text;
    struct Line {
      uint64_t address, bytes;
    };
    std::vector<Line> lines;
    for (int i = 0; i < 12; ++i) {
      lines.push_back({random() % 64, 1 + random() % 24});
      char line[64];
      std::snprintf(line, sizeof line, "%llx %llx f%d\n", static_cast<unsigned long long>(lines.back().address),
                    static_cast<unsigned long long>(lines.back().bytes), i);
      text += line;
    }
    const PerfMap map = parsed(text);
    for (uint64_t at = 0; at < 100; ++at) {
      std::string expected = "-";
      for (size_t i = 0; i < lines.size(); ++i)
        if (at >= lines[i].address && at < lines[i].address + lines[i].bytes) expected = "f" + std::to_string(i);
      ASSERT_EQ(name(map, at), expected) << at << "\n" << text;
    }
  }
}

}  // namespace
}  // namespace hindcast::decode
