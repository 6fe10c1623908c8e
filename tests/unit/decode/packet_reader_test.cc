// The packet reader's rules beyond single packets: damage, resync, look-ahead. Forms: packet_golden_test.
#include "decode/packet_reader.h"

#include <gtest/gtest.h>

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

TEST(PacketReader, OffsetsAndSizesTileTheStream) {
  const auto t =
      PtBytes().psb().tsc(77).tma(1, 2).cbr(3).mode_exec().fup(0x401000).psbend().tnt("TNT").cyc(9999).mtc(1);
  PacketReader r(t.bytes());
  uint64_t at = 0;
  for (Packet p; r.next(p) == Step::ok; at += p.size) EXPECT_EQ(p.offset, at);
  EXPECT_EQ(at, t.size());
}

TEST(LastIp, SuppressedLeavesTheAddressAlone) {
  LastIp ip;
  ip.expand(IpBytes::full, 0xffff800012345678);
  EXPECT_EQ(ip.expand(IpBytes::suppressed, 0), 0xffff800012345678);
  EXPECT_EQ(ip.expand(IpBytes::update16, 0x1111), 0xffff800012341111);
}

}  // namespace
}  // namespace hindcast::decode
