// Versions of code in memory, from the blocks that were translated.
#include "capture/sim/code_versions.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace hindcast::sim {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

const Pid kPid{7};

/// "address-end@first byte from..to", of every run of known bytes.
std::vector<std::string> versions(const CodeVersions& code) {
  std::vector<std::string> out;
  const auto add = [&](const CodeVersions::Version& v) {
    for (size_t i = 0; i < CodeVersions::kPage; ++i) {
      if (!v.known[i]) continue;
      const size_t begin = i;
      while (i < CodeVersions::kPage && v.known[i]) ++i;
      char text[100];
      std::snprintf(text, sizeof text, "%llx-%llx@%d %llu..%s", static_cast<unsigned long long>(v.address + begin),
                    static_cast<unsigned long long>(v.address + i), v.bytes[begin],
                    static_cast<unsigned long long>(v.from), v.to ? std::to_string(*v.to).c_str() : "");
      out.push_back(text + (v.by == kNoTid ? std::string() : " by " + std::to_string(v.by.value())));
    }
  };
  for (const auto& v : code.ended()) add(v);
  for (const auto* v : code.open()) add(*v);
  return out;
}

TEST(SimCodeVersions, BlocksOfOneVersionGatherInIt) {
  CodeVersions code;
  const std::vector<uint8_t> a{1, 2, 3}, b{4, 5};
  code.translated(kPid, 0x1000, a, 10);
  code.translated(kPid, 0x1003, b, 20);
  code.translated(kPid, 0x1001, std::vector<uint8_t>{2, 3, 4}, 30);
  code.translated(kPid, 0x1ffe, std::vector<uint8_t>{6, 7, 8}, 40);  // over the page's end
  EXPECT_THAT(versions(code), ElementsAre("1000-1005@1 10..", "1ffe-2000@6 10..", "2000-2001@8 40.."));
}

TEST(SimCodeVersions, OtherBytesBeginANewVersionOfTheirPage) {
  CodeVersions code;
  code.translated(kPid, 0x1000, std::vector<uint8_t>{1, 2}, 10);
  code.translated(kPid, 0x1800, std::vector<uint8_t>{5}, 11);
  code.translated(kPid, 0x2000, std::vector<uint8_t>{9}, 12);
  code.translated(kPid, 0x1000, std::vector<uint8_t>{1, 3}, 30);
  code.translated(kPid, 0x1800, std::vector<uint8_t>{5}, 31);
  EXPECT_THAT(versions(code), ElementsAre("1000-1002@1 10..30", "1800-1801@5 10..30", "1000-1002@1 30..",
                                          "1800-1801@5 30..", "2000-2001@9 12.."));
}

TEST(SimCodeVersions, MemoryThatWasMadeExecutableAloneChangedBeforeThat) {
  CodeVersions code;
  code.translated(kPid, 0x1000, std::vector<uint8_t>{1}, 10);
  code.translated(kPid, 0x1004, std::vector<uint8_t>{5}, 11);
  code.translated(kPid, 0x1008, std::vector<uint8_t>{7}, 12);
  code.protect(kPid, Tid(8), 0x1000, 0x1000, false, true, 20);
  code.protect(kPid, Tid(8), 0x1000, 0x1000, true, false, 25);
  code.translated(kPid, 0x1008, std::vector<uint8_t>{7}, 29);  // what did not change may be translated first
  code.translated(kPid, 0x1000, std::vector<uint8_t>{2}, 30);
  code.translated(kPid, 0x1004, std::vector<uint8_t>{6}, 31);
  code.protect(kPid, Tid(8), 0x1000, 0x1000, true, true, 35);
  code.translated(kPid, 0x1000, std::vector<uint8_t>{3}, 40);
  EXPECT_THAT(versions(code),
              ElementsAre("1000-1001@1 10..25", "1004-1005@5 10..25", "1008-1009@7 10..25",  //
                          "1000-1001@2 25..40 by 8", "1004-1005@6 25..40 by 8", "1008-1009@7 25..40 by 8",
                          "1000-1001@3 40..", "1004-1005@6 40..", "1008-1009@7 40.."));
}

TEST(SimCodeVersions, WhatGoesAndProgramsThatEndHaveAnEnd) {
  CodeVersions code;
  code.translated(kPid, 0x1000, std::vector<uint8_t>{1}, 10);
  code.translated(kPid, 0x3000, std::vector<uint8_t>{2}, 11);
  code.translated(Pid(9), 0x3000, std::vector<uint8_t>{4}, 12);
  code.gone(kPid, 0x1000, 0x1000, 20);
  code.translated(kPid, 0x1000, std::vector<uint8_t>{3}, 25);
  code.exec(kPid, 30);
  EXPECT_THAT(versions(code),
              ElementsAre("1000-1001@1 10..20", "1000-1001@3 25..30", "3000-3001@2 11..30", "3000-3001@4 12.."));
  code.exec(Pid(1), 40);
  EXPECT_FALSE(code.full());
}

}  // namespace
}  // namespace hindcast::sim
