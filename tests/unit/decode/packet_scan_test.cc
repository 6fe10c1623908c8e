// Every byte of a stream is a packet's or in a named range.
#include "decode/packet_scan.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/support/pt_bytes.h"

namespace hindcast::decode {
namespace {

using test::PtBytes;

/// "PSB TIP bad[21,40) ..." in stream order.
std::string scan(const PtBytes& t, std::vector<uint64_t> cuts = {}) {
  constexpr const char* kWhy[] = {"leftover", "bad", "truncated", "cut"};
  std::string text;
  PacketScan s(t.bytes(), cuts);
  Packet p;
  LostRange lost;
  for (auto found = s.next(p, lost); found != PacketScan::Found::end; found = s.next(p, lost)) {
    if (!text.empty()) text += ' ';
    if (found == PacketScan::Found::packet)
      text += to_string(p.kind);
    else
      text +=
          kWhy[static_cast<int>(lost.why)] + ("[" + std::to_string(lost.from)) + "," + std::to_string(lost.to) + ")";
  }
  return text;
}

TEST(PacketScan, BytesBeforeTheFirstPsbAreLeftovers) {
  EXPECT_EQ(scan(PtBytes().tnt("T").pad(3).psb().tnt("N")), "leftover[0,4) PSB TNT");
  EXPECT_EQ(scan(PtBytes().psb().tnt("N")), "PSB TNT");
  EXPECT_EQ(scan(PtBytes().tnt("T").pad(3)), "leftover[0,4)");
  EXPECT_EQ(scan(PtBytes()), "");
}

TEST(PacketScan, FromABadPacketToTheNextPsbIsOneRange) {
  EXPECT_EQ(scan(PtBytes().psb().raw({0xc9}).tnt("T").psb().tnt("N")), "PSB bad[16,18) PSB TNT");
  EXPECT_EQ(scan(PtBytes().psb().raw({0xc9}).tnt("T")), "PSB bad[16,18)");
}

TEST(PacketScan, ATruncatedPacketReachesToTheEnd) {
  EXPECT_EQ(scan(PtBytes().psb().tsc(5).drop_last(3)), "PSB truncated[16,21)");
}

TEST(PacketScan, ACutEndsPacketsAndSkipsToThePsbBehindIt) {
  const PtBytes t = PtBytes().psb().tnt("T").tip(0x401000).tnt("N").psb().mtc(1);  // TIP at 17, PSB at 25
  EXPECT_EQ(scan(t, {17}), "PSB TNT cut[17,25) PSB MTC");
  EXPECT_EQ(scan(t, {20}), "PSB TNT truncated[17,20) cut[20,25) PSB MTC");
  EXPECT_EQ(scan(t, {25}), "PSB TNT TIP TNT cut[25,25) PSB MTC");
  EXPECT_EQ(scan(t, {41}), "PSB TNT TIP TNT PSB cut[41,43)");
}

TEST(PacketScan, CutsInAnyOrderTwiceOrOutsideDoNoHarm) {
  const PtBytes t = PtBytes().psb().tnt("T").psb().tnt("N");
  EXPECT_EQ(scan(t, {34, 17, 17, 0, 99999}), scan(t, {17})) << "34 is the end of the stream";
}

TEST(PacketScan, ACutInsideAPsbHidesIt) {
  const PtBytes t = PtBytes().psb().tnt("T").psb().tnt("N");
  EXPECT_EQ(scan(t, {20}), "PSB TNT truncated[17,20) cut[20,34)");
}

}  // namespace
}  // namespace hindcast::decode
