// Every byte of a stream is a packet's or in a named range.
#include "decode/packet_scan.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "decode/kept_scan.h"
#include "tests/support/pt_bytes.h"

namespace hindcast::decode {
namespace {

using test::PtBytes;

/// "PSB TIP bad[21,40) ..." in stream order.
std::string scan(const PtBytes& t, std::vector<uint64_t> cuts = {}) {
  constexpr const char* kWhy[] = {"leftover", "bad", "truncated", "cut"};
  std::string text;
  TraceBytes bytes(t.bytes());
  PacketScan s(bytes, cuts);
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

/// All that PT has, in any order, with PSBs in runs, and bytes that are none.
PtBytes anything(std::mt19937_64& random) {
  PtBytes t;
  for (int n = 0; n < 60; ++n) {
    const uint64_t ip = 0x400000 + (random() & 0xffff);
    switch (random() % 24) {
      case 0:
        t.psb().psbend();
        break;
      case 1:
        t.psb().mode_exec().fup(ip).psbend();
        break;
      case 2:
        t.psb().fup(ip).cyc(random() % 5000).mtc(static_cast<uint8_t>(random())).psbend().tip_pge(ip);
        break;
      case 3:
        for (uint64_t i = random() % 3; i <= 2; ++i) t.psb();
        if (random() & 1) t.raw({0x02, 0x82});
        break;
      case 4:
        t.raw({0x05});
        break;
      case 5:
        t.ovf();
        break;
      case 6:
        t.raw({0x02, 0x63, 4}).raw({0x0c, 1, 2, 3, 4}).raw({0x02, 0x33});  // BBP, BIP, BEP
        break;
      case 7:
        t.raw({0x02, 0x12}).le(random(), 4);  // PTW
        break;
      case 8:
        t.raw({static_cast<int>(random() & 0xff)});
        break;
      case 9:
        t.tip_pgd();
        break;
      case 10:
        t.tip_pge(ip);
        break;
      case 11:
        t.tsc(random() & 0xffffff).tma(static_cast<uint16_t>(random()), 3);
        break;
      case 12:
        t.tnt64("1011");
        break;
      case 13:
        t.cyc(random() % 100000);
        break;
      case 14:
        t.pad(static_cast<int>(random() % 40));
        break;
      case 15:
        t.fup(ip);
        break;
      case 16:
        t.mtc(static_cast<uint8_t>(random()));
        break;
      default:
        random() & 1 ? t.tnt("10") : t.tip(ip);
        break;
    }
  }
  if (random() & 1) t.drop_last(random() % 8);
  return t;
}

TEST(PacketScan, ThroughASmallWindowItSeesTheSame) {
  std::mt19937_64 random(7);
  for (int run = 0; run < 400; ++run) {
    const PtBytes t = anything(random);
    std::vector<uint64_t> cuts;
    while (random() % 3 == 0) cuts.push_back(random() % t.size());
    PtTimeConfig config;
    config.tsc_ctc_num = 308;
    config.tsc_ctc_den = 2;
    config.skd007 = random() & 1;
    PtTrace whole = PtTrace::scan(t.bytes(), config, cuts);
    const auto packed = pack_scan(whole, config);
    for (const uint64_t window : {1, 2, 15, 16, 33, 100}) {
      TraceBytes bytes(t.bytes());
      PtScan seen = scan_packets(bytes, config, whole.cuts, window);
      PtTrace small = whole;
      small.times = std::move(seen.times);
      small.map = std::move(seen.map);
      ASSERT_EQ(pack_scan(small, config), packed) << "run " << run << ", window " << window;
    }
  }
}

}  // namespace
}  // namespace hindcast::decode
