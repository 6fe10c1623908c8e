// Every packet form against tests/golden/packets.txt: bytes beside the lines they must print as.
#include <gtest/gtest.h>

#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "decode/packet_reader.h"
#include "decode/packet_text.h"

namespace hindcast::decode {
namespace {

struct GoldenCase {
  std::string title;
  std::vector<uint8_t> bytes;
  std::vector<std::string> lines;
};

std::vector<GoldenCase> golden_cases() {
  std::ifstream file(HC_SOURCE_DIR "/tests/golden/packets.txt");
  EXPECT_TRUE(file) << "cannot read " HC_SOURCE_DIR "/tests/golden/packets.txt";
  std::vector<GoldenCase> cases;
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line[0] == '#') continue;
    const std::string key = line.substr(0, 4), rest = line.size() > 5 ? line.substr(5) : "";
    if (key == "case") {
      cases.push_back({rest, {}, {}});
    } else if (key == "hex ") {
      std::istringstream words(rest);
      for (unsigned b; words >> std::hex >> b;) cases.back().bytes.push_back(static_cast<uint8_t>(b));
    } else if (key == "text") {
      cases.back().lines.push_back(rest);
    } else {
      ADD_FAILURE() << "packets.txt: unknown line: " << line;
    }
  }
  return cases;
}

/// What `dump` prints, up to the first byte that is no packet.
std::vector<std::string> lines_of(const std::vector<uint8_t>& bytes) {
  std::vector<std::string> lines;
  PacketReader reader(bytes);
  LastIp last_ip;
  for (Packet p;;) {
    const Step step = reader.next(p);
    if (step == Step::end) return lines;
    if (step != Step::ok) {
      lines.push_back(damage_text(step, bytes, reader.offset()));
      return lines;
    }
    lines.push_back(packet_text(p, expand_ip(last_ip, p)));
  }
}

TEST(PacketGolden, EveryFormPrintsAsItsLine) {
  const auto cases = golden_cases();
  ASSERT_GT(cases.size(), 40u);
  for (const GoldenCase& c : cases) {
    SCOPED_TRACE(c.title);
    ASSERT_FALSE(c.bytes.empty());
    EXPECT_EQ(lines_of(c.bytes), c.lines);
  }
}

TEST(PacketGolden, EveryKindHasACase) {
  std::set<std::string> seen;
  for (const GoldenCase& c : golden_cases())
    for (const std::string& line : c.lines) seen.insert(line.substr(10, line.find(' ', 10) - 10));
  for (size_t k = 0; k < kKinds; ++k) {
    const std::string name(to_string(static_cast<Kind>(k)));
    EXPECT_TRUE(seen.count(name)) << name;
  }
}

TEST(PacketGolden, EveryCaseNamesSectionsThatTheTableKnows) {
  std::set<std::string_view> sections{"Packet Definitions", "IP Compression", kBipRow.section};
  for (const OpcodeRow& row : kFirstByteRows) sections.insert(row.section);
  for (const OpcodeRow& row : kExtRows) sections.insert(row.section);
  for (const OpcodeRow& row : kExt2Rows) sections.insert(row.section);
  for (const GoldenCase& c : golden_cases()) {
    const size_t open = c.title.rfind(" ["), close = c.title.size() - 1;
    ASSERT_NE(open, std::string::npos) << c.title;
    ASSERT_EQ(c.title[close], ']') << c.title;
    std::istringstream cited(c.title.substr(open + 2, close - open - 2));
    for (std::string section; std::getline(cited >> std::ws, section, ';');)
      EXPECT_TRUE(sections.count(section)) << c.title << ": " << section;
  }
}

TEST(PacketGolden, EveryProperPrefixOfEveryPacketConsumesNothing) {
  for (const GoldenCase& c : golden_cases()) {
    SCOPED_TRACE(c.title);
    PacketReader whole(c.bytes);
    for (Packet p; whole.next(p) == Step::ok;) {
      for (size_t cut = p.offset + 1; cut < p.offset + p.size; ++cut) {
        PacketReader reader(ByteSpan(c.bytes).first(cut));
        Packet q;
        Step step;
        while ((step = reader.next(q)) == Step::ok) {
        }
        EXPECT_EQ(step, Step::truncated) << "cut at " << cut;
        EXPECT_EQ(reader.offset(), p.offset) << "cut at " << cut;
      }
    }
  }
}

}  // namespace
}  // namespace hindcast::decode
