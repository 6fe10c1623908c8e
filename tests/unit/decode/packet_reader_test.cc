// The packet reader's rules beyond single packets: damage, resync, look-ahead. Forms: packet_golden_test.
#include "decode/packet_reader.h"

#include <gtest/gtest.h>
#include <intel-pt.h>

#include <random>
#include <string>

#include "tests/support/pt_bytes.h"

namespace hindcast::decode {
namespace {

using test::PtBytes;

TEST(PacketReader, AnEmptyStreamIsAtItsEnd) {
  PacketReader r({});
  Packet p;
  EXPECT_EQ(r.next(p), Step::end);
  EXPECT_FALSE(r.resync());
}

TEST(PacketReader, TipCutShortIsTruncatedAndConsumesNothing) {
  const auto t = PtBytes().tip(0x401000, 2).drop_last(1);
  PacketReader r(t.bytes());
  Packet p;
  EXPECT_EQ(r.next(p), Step::truncated);
  EXPECT_EQ(r.offset(), 0u);
}

TEST(PacketReader, AfterABadPacketReadingGoesOnAtTheNextPsb) {
  const auto t = PtBytes().tnt("TN").raw({0xc9}).tnt("TTTT").pad(5).psb().tip(0x1234);
  PacketReader r(t.bytes());
  Packet p;
  ASSERT_EQ(r.next(p), Step::ok);
  ASSERT_EQ(r.next(p), Step::bad);
  EXPECT_EQ(r.offset(), 1u);
  ASSERT_EQ(r.next(p), Step::bad) << "a bad packet stays bad until the caller resyncs";
  ASSERT_TRUE(r.resync());
  EXPECT_EQ(r.offset(), 8u);
  ASSERT_EQ(r.next(p), Step::ok);
  EXPECT_EQ(p.kind, Kind::psb);
  ASSERT_EQ(r.next(p), Step::ok);
  EXPECT_EQ(p.payload, 0x1234u);
}

TEST(PacketReader, WithoutAFurtherPsbResyncEndsTheStream) {
  const auto t = PtBytes().psb().raw({0xc9}).tnt("T");
  PacketReader r(t.bytes());
  Packet p;
  ASSERT_EQ(r.next(p), Step::ok);
  ASSERT_EQ(r.next(p), Step::bad);
  EXPECT_FALSE(r.resync());
  EXPECT_EQ(r.next(p), Step::end);
}

TEST(PacketReader, ResyncForgetsABlock) {
  const auto t = PtBytes().raw({0x02, 0x63, 0x80}).raw({0xc9}).psb().tnt("N");
  PacketReader r(t.bytes());
  Packet p;
  ASSERT_EQ(r.next(p), Step::ok);
  ASSERT_EQ(r.next(p), Step::bad);
  ASSERT_TRUE(r.resync());
  ASSERT_EQ(r.next(p), Step::ok);
  ASSERT_EQ(r.next(p), Step::ok);
  EXPECT_EQ(p.kind, Kind::tnt);
}

TEST(PacketReader, ACopyLooksAheadWithoutMovingTheOriginal) {
  const auto t = PtBytes().tnt("T").mtc(3).tip(0x5000);
  PacketReader r(t.bytes());
  PacketReader ahead = r;
  Packet p;
  while (ahead.next(p) == Step::ok) {
  }
  EXPECT_EQ(ahead.offset(), t.size());
  EXPECT_EQ(r.offset(), 0u);
}

TEST(PacketReader, SkipPassesOverWholePacketsOfItsKindsAlone) {
  constexpr SkipSizes kSizes = skip_sizes(Kind::tnt, Kind::cyc, Kind::tip, Kind::pad);
  std::mt19937 random(1);
  for (int round = 0; round < 300; ++round) {
    PtBytes t;
    for (int i = 0; i < 60; ++i) {
      switch (random() % 9) {
        case 0:
        case 1:
        case 2:
          t.tnt(std::string(1 + random() % 6, random() % 2 ? 'T' : 'N'));
          break;
        case 3:
          t.cyc(random() % 2 ? random() % 32 : random() % (1u << 20));
          break;
        case 4:
          t.tip(random(), static_cast<int>(random() % 5));
          break;
        case 5:
          t.pad();
          break;
        case 6:
          t.mtc(static_cast<uint8_t>(random()));
          break;
        case 7:
          t.tnt64("TNTNTN");
          break;
        case 8:
          t.tsc(random());
          break;
      }
    }
    PacketReader r(t.bytes()), one_by_one(t.bytes());
    Packet p, q;
    for (;;) {
      r.skip(kSizes);
      while (one_by_one.offset() < r.offset()) {
        ASSERT_EQ(one_by_one.next(q), Step::ok);
        ASSERT_TRUE(q.kind == Kind::tnt || q.kind == Kind::cyc || q.kind == Kind::tip || q.kind == Kind::pad);
      }
      ASSERT_EQ(one_by_one.offset(), r.offset());
      const Step step = r.next(p);
      ASSERT_EQ(step, one_by_one.next(q));
      if (step != Step::ok) break;
      // In front of what is not passed over; near the end of the stream nothing is.
      const bool passed =
          p.kind == Kind::tnt || p.kind == Kind::tip || p.kind == Kind::pad || (p.kind == Kind::cyc && p.size < 3);
      ASSERT_TRUE(!passed || p.offset + sizeof(uint64_t) >= t.size());
    }
    ASSERT_EQ(r.offset(), t.size());
  }
}

TEST(PacketReader, OffsetsAndSizesTileTheStream) {
  const auto t =
      PtBytes().psb().tsc(77).tma(1, 2).cbr(3).mode_exec().fup(0x401000).psbend().tnt("TNT").cyc(9999).mtc(1);
  PacketReader r(t.bytes());
  uint64_t at = 0;
  for (Packet p; r.next(p) == Step::ok; at += p.size) EXPECT_EQ(p.offset, at);
  EXPECT_EQ(at, t.size());
}

/// Erratum SKD007. Source: Intel, "6th Generation Intel Processor Family, Specification Update".
TEST(PacketReader, AnOvfMayBeginInsideOfACyc) {
  const auto t = PtBytes().raw({0x0f, 0x02, 0xf3}).pad(16);
  const auto near_the_end = PtBytes().raw({0x0f, 0x02, 0xf3});
  for (const auto& bytes : {t.bytes(), near_the_end.bytes()}) {
    PacketReader with(bytes, true), without(bytes);
    Packet p;
    ASSERT_EQ(with.next(p), Step::ok);
    EXPECT_EQ(p.kind, Kind::cyc);
    EXPECT_EQ(p.size, 1u);
    ASSERT_EQ(with.next(p), Step::ok);
    EXPECT_EQ(p.kind, Kind::ovf);
    EXPECT_EQ(p.offset, 1u);
    ASSERT_EQ(without.next(p), Step::ok);
    EXPECT_EQ(p.kind, Kind::cyc);
    EXPECT_EQ(p.size, 2u);
    ASSERT_EQ(without.next(p), Step::ok);
    EXPECT_EQ(p.kind, Kind::cyc);
    PacketReader skips(bytes, true);
    skips.skip(skip_sizes(Kind::cyc, Kind::pad));
    EXPECT_EQ(skips.offset(), 0u);
  }
}

TEST(PacketReader, TheCpusWithSkd007AreThoseThatLibiptKnows) {
  for (unsigned family = 0; family < 32; ++family) {
    for (unsigned model = 0; model < 256; ++model) {
      pt_cpu cpu{};
      cpu.vendor = pcv_intel;
      cpu.family = static_cast<uint16_t>(family);
      cpu.model = static_cast<uint8_t>(model);
      pt_errata errata{};
      if (pt_cpu_errata(&errata, &cpu) < 0) continue;
      PtCpu ours;
      ours.family = cpu.family;
      ours.model = cpu.model;
      EXPECT_EQ(has_skd007(ours), errata.skd007 != 0) << family << "/" << model;
    }
  }
  PtCpu other;
  other.family = 6;
  other.model = 0x5e;
  other.intel = false;
  EXPECT_FALSE(has_skd007(other));
}

TEST(LastIp, SuppressedLeavesTheAddressAlone) {
  LastIp ip;
  ip.expand(IpBytes::full, 0xffff800012345678);
  EXPECT_EQ(ip.expand(IpBytes::suppressed, 0), 0xffff800012345678);
  EXPECT_EQ(ip.expand(IpBytes::update16, 0x1111), 0xffff800012341111);
}

}  // namespace
}  // namespace hindcast::decode
