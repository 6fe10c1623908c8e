// What `hindcast verify` makes of engines that differ: words, and no success.
#include "server/verify.h"

#include <gtest/gtest.h>

namespace hindcast::server {
namespace {

Event block(uint64_t ip, uint64_t last_ip, uint32_t count, BlockEnd end) {
  Event e;
  e.kind = EventKind::block;
  e.ip = ip;
  e.last_ip = last_ip;
  e.count = count;
  e.end = end;
  return e;
}

decode::EngineComparison one_difference() {
  decode::EngineComparison c;
  c.stretches = 7;
  c.different = 1;
  c.first = {3, 99, block(0x401000, 0x401004, 2, BlockEnd::near_ret), std::nullopt,
             block(0x400ff0, 0x400ff0, 1, BlockEnd::direct_call)};
  return c;
}

TEST(Verify, EnginesThatDifferAreNamedWithPlaceAndContext) {
  EXPECT_EQ(
      difference_words(one_difference()),
      "the engines differ in 1 of 7 stretches, first in stretch 3 at offset 99: fast says block ip 401000..401004 2 "
      "instructions, near_ret; libipt says nothing more of this stretch; both said before block ip 400ff0..400ff0 1 "
      "instructions, direct_call");
  EXPECT_EQ(difference_words({}), "");
}

TEST(Verify, ADifferenceIsNoSuccess) {
  VerifyReport report;
  report.streams.resize(2);
  EXPECT_TRUE(report.whole());
  report.streams[1].engines_differ = difference_words(one_difference());
  EXPECT_FALSE(report.whole()) << "the command then exits with 1";
}

}  // namespace
}  // namespace hindcast::server
