// The packet reader's rules beyond single packets: damage, resync, PSB search, look-ahead. Forms: packet_golden_test.
#include "decode/packet_reader.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

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

TEST(NextPsb, FindsOneAtEveryOffset) {
  for (size_t at = 0; at < 64; ++at) {
    auto t = PtBytes().pad(static_cast<int>(at)).psb().pad(3);
    EXPECT_EQ(next_psb(t.bytes(), 0), at);
    EXPECT_EQ(next_psb(t.bytes(), at), at);
    EXPECT_EQ(next_psb(t.bytes(), at + 1), std::nullopt) << "at " << at;
  }
}

TEST(NextPsb, NeedsAllSixteenBytes) {
  EXPECT_EQ(next_psb(PtBytes().psb().drop_last(1).bytes(), 0), std::nullopt);
  for (size_t broken = 0; broken < 16; ++broken) {
    auto bytes = PtBytes().pad(7).psb().pad(7).bytes();
    bytes[7 + broken] ^= 0x40;
    EXPECT_EQ(next_psb(bytes, 0), std::nullopt) << "byte " << broken;
  }
}

TEST(NextPsb, APayloadThatLooksLikeItsBeginningIsNotPartOfIt) {
  const auto t = PtBytes().tip(0x8202, 1).psb().tsc(1);  // ... 02 82 | 02 82 02 82 ...
  EXPECT_EQ(next_psb(t.bytes(), 0), 3u);
}

TEST(NextPsb, BackToBackTheFirstIsFound) {
  const auto t = PtBytes().pad(3).psb().psb().tsc(1);
  EXPECT_EQ(next_psb(t.bytes(), 0), 3u);
  EXPECT_EQ(next_psb(t.bytes(), 4), 19u);
}

TEST(NextPsb, AgreesWithALookAtEveryByte) {
  std::mt19937_64 random(1);
  constexpr uint8_t kAlphabet[] = {0x02, 0x82, 0x00};
  for (int round = 0; round < 20000; ++round) {
    std::vector<uint8_t> bytes(random() % 120);
    for (uint8_t& b : bytes) b = kAlphabet[random() % 3];
    for (int inserted = static_cast<int>(random() % 3); inserted-- > 0;) {
      const auto psb = PtBytes().psb().bytes();
      bytes.insert(bytes.begin() + static_cast<long>(random() % (bytes.size() + 1)), psb.begin(), psb.end());
    }
    const uint64_t from = random() % (bytes.size() + 2);
    std::optional<uint64_t> want;
    for (uint64_t at = from; !want && at + 16 <= bytes.size(); ++at) {
      uint64_t end = at;
      while (end + 2 <= bytes.size() && bytes[end] == 0x02 && bytes[end + 1] == 0x82) end += 2;
      if (end - at >= 16) want = at + (end - at) % 16;
    }
    ASSERT_EQ(next_psb(bytes, from), want) << "round " << round;
  }
}

}  // namespace
}  // namespace hindcast::decode
