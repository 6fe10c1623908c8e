// Stage 1: what the lanes hold, against the packets that were written.
#include "decode/fast/lanes.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

#include "decode/fast/tnt_cursor.h"
#include "tests/support/pt_bytes.h"

namespace hindcast::decode {
namespace {

using test::PtBytes;

std::string bits_of(const Lanes& lanes) {
  std::string s;
  for (uint32_t i = 0; i < lanes.bits; ++i) s += lanes.window(i) >> 63 ? 'T' : 'N';
  return s;
}

using Tnt = std::pair<uint64_t, uint64_t>;  // bits up to its end, offset
std::vector<Tnt> tnts_of(const Lanes& lanes, ByteSpan trace, uint32_t from) {
  std::vector<Tnt> tnts;
  TntCursor c;
  for (c.seek(lanes, trace, from); c.bit() < lanes.bits; c.step(lanes, trace)) {
    const Tnt now{c.packet_end(), c.offset()};
    if (tnts.empty() || tnts.back() != now) tnts.push_back(now);
  }
  return tnts;
}

TEST(Lanes, BitsArePackedAndTimingLeavesNoTrace) {
  const PtBytes t =
      PtBytes().tnt("TNNTTN").mtc(1).tnt("T").cyc(3).cyc(5000).tnt64("NTNTNTNTTTTNNN").tsc(99).pad(3).tnt("N");
  TraceBytes trace(t.bytes());
  LaneLexer lexer(trace, 0, t.size(), 0x401000);
  Lanes lanes;
  EXPECT_EQ(lexer.more(lanes, 0, 0), LaneLexer::Stop::end);
  EXPECT_EQ(bits_of(lanes), "TNNTTNTNTNTNTNTTTTNNNN");
  EXPECT_EQ(tnts_of(lanes, t.bytes(), 0), (std::vector<Tnt>{{6, 0}, {7, 3}, {21, 8}, {22, t.size() - 1}}));
}

TEST(Lanes, TipsAreWholeAddressesWithTheBitsSentBefore) {
  const PtBytes t =
      PtBytes().tip(0x5008, 1).tnt("TT").tip(0x7fff00001000).tip(0x2000, 1).tnt("N").tip(0xffffffff81000000, 6);
  TraceBytes trace(t.bytes());
  LaneLexer lexer(trace, 0, t.size(), 0x401000);
  Lanes lanes;
  lexer.more(lanes, 0, 0);
  ASSERT_EQ(lanes.tips, 4u);
  EXPECT_EQ(lanes.tip[0], 0x405008u);
  EXPECT_EQ(lanes.tip[1], 0x7fff00001000u);
  EXPECT_EQ(lanes.tip[2], 0x7fff00002000u);
  EXPECT_EQ(lanes.tip[3], 0xffffffff81000000u);
  EXPECT_EQ(std::vector<uint32_t>(lanes.tip_bits.begin(), lanes.tip_bits.begin() + 4),
            (std::vector<uint32_t>{0, 2, 2, 3}));
  EXPECT_EQ(lanes.tip_offset[1], 4u);
}

TEST(Lanes, AFupEndsThemAndAPsbStopsThem) {
  const PtBytes t =
      PtBytes().tnt("T").psb().tsc(5).mode_exec().fup(0x402000).psbend().tip(0x10, 1).fup(0x402010).mtc(3);
  TraceBytes trace(t.bytes());
  LaneLexer lexer(trace, 0, t.size(), 0x401000);
  Lanes lanes;
  EXPECT_EQ(lexer.more(lanes, 0, 0), LaneLexer::Stop::psb);
  EXPECT_EQ(lexer.offset(), 1u);
  EXPECT_EQ(lexer.more(lanes, 1, 0), LaneLexer::Stop::psb);
  EXPECT_EQ(lexer.cross_psb(lanes), 0x402000u);
  EXPECT_EQ(lanes.bits, 0u);
  EXPECT_EQ(lexer.more(lanes, 0, 0), LaneLexer::Stop::end);
  ASSERT_EQ(lanes.tips, 1u);
  EXPECT_EQ(lanes.tip[0], 0x400010u);  // the last IP began anew at the PSB
}

TEST(Lanes, AFupThatATipFollowsStopsThemAndBothCompressTheIpOfWhatFollows) {
  const PtBytes t = PtBytes().tnt("T").fup(0x2000, 1).mtc(3).cyc(1).tip(0x500010).tnt("NN").tip(0x20, 1).fup(0x500030);
  TraceBytes trace(t.bytes());
  LaneLexer lexer(trace, 0, t.size(), 0x401000);
  Lanes lanes;
  EXPECT_EQ(lexer.more(lanes, 0, 0), LaneLexer::Stop::event);
  EXPECT_EQ(bits_of(lanes), "T");
  EXPECT_EQ(lexer.offset(), 1u);
  EXPECT_EQ(lexer.more(lanes, 1, 0), LaneLexer::Stop::event);
  const PacketEvent branch = lexer.cross_event(lanes);
  EXPECT_EQ(branch.told[0].kind, EventKind::async_branch);
  EXPECT_EQ(branch.at, 0x402000u);
  EXPECT_EQ(branch.to, 0x500010u);
  EXPECT_EQ(branch.placed, 1u);
  EXPECT_EQ(branch.last, 7u);
  EXPECT_EQ(lanes.bits, 0u);
  EXPECT_EQ(lexer.more(lanes, 0, 0), LaneLexer::Stop::end);
  EXPECT_EQ(bits_of(lanes), "NN");
  ASSERT_EQ(lanes.tips, 1u);
  EXPECT_EQ(lanes.tip[0], 0x500020u);
}

TEST(Lanes, OfAPsbWithoutAFupThereIsNoAddress) {
  const PtBytes t = PtBytes().psb().tsc(5).psbend().tnt("T");
  TraceBytes trace(t.bytes());
  LaneLexer lexer(trace, 0, t.size(), 0);
  Lanes lanes;
  EXPECT_EQ(lexer.more(lanes, 0, 0), LaneLexer::Stop::psb);
  EXPECT_EQ(lexer.cross_psb(lanes), 0u);
  EXPECT_EQ(lexer.more(lanes, 0, 0), LaneLexer::Stop::end);
  EXPECT_EQ(bits_of(lanes), "T");
}

TEST(Lanes, PiecesOfALongStretchGiveWhatTheWholeGives) {
  std::mt19937 random(1);
  for (int round = 0; round < 20; ++round) {
    PtBytes t;
    std::string bits;
    struct Tip {
      uint64_t ip, bits, offset;
    };
    std::vector<Tip> tips;
    std::vector<Tnt> tnts;
    uint64_t last = 0x401000;
    while (t.size() < 200000) {
      const auto kind = random() % 16;
      if (kind < 9) {
        std::string some;
        for (auto n = 1 + random() % (kind == 0 ? 47 : 6); n-- > 0;) some += random() & 1 ? 'T' : 'N';
        bits += some;
        tnts.push_back({bits.size(), t.size()});
        kind == 0 ? t.tnt64(some) : t.tnt(some);
      } else if (kind < 12) {
        const int form = random() & 1 ? 1 : 3;
        const uint64_t ip = form == 1 ? (last & ~0xffffull) | (random() & 0xffff) : random();
        last = ip;
        tips.push_back({ip, bits.size(), t.size()});
        t.tip(form == 1 ? ip & 0xffff : ip, form);
      } else if (kind < 14) {
        t.cyc(random() % 100000);
      } else {
        kind == 14 ? t.mtc(1) : t.pad();
      }
    }
    TraceBytes trace(t.bytes());
    LaneLexer lexer(trace, 0, t.size(), 0x401000);
    Lanes lanes;
    size_t bit_base = 0, tip_base = 0, tnt = 0;
    uint32_t bit = 0;
    size_t tip = 0;
    for (;;) {
      const uint32_t whole = bit / 8 * 8;
      const auto stop = lexer.more(lanes, bit, tip);
      bit_base += whole;
      bit -= whole;
      tip_base += tip;
      tip = 0;
      ASSERT_EQ(bits_of(lanes), bits.substr(bit_base, lanes.bits));
      for (size_t i = 0; i < lanes.tips; ++i) {
        const Tip& expected = tips.at(tip_base + i);
        ASSERT_EQ(lanes.tip[i], expected.ip);
        ASSERT_EQ(lanes.tip_offset[i] + lanes.base, expected.offset);
        ASSERT_EQ(std::max(lanes.tip_bits[i], bit), std::max<uint64_t>(expected.bits, bit_base + bit) - bit_base);
      }
      while (tnt < tnts.size() && tnts[tnt].first <= bit_base + bit) ++tnt;
      const std::vector<Tnt> got = tnts_of(lanes, t.bytes(), bit);
      for (size_t i = 0; i < got.size(); ++i) {
        ASSERT_EQ(got[i].first + bit_base, tnts.at(tnt + i).first);
        ASSERT_EQ(got[i].second, tnts.at(tnt + i).second);
      }
      if (stop == LaneLexer::Stop::end) {
        ASSERT_EQ(bit_base + lanes.bits, bits.size());
        ASSERT_EQ(tip_base + lanes.tips, tips.size());
        break;
      }
      // Some of the bits or TIPs may stay behind, as those of deferred TIPs do.
      bit = random() % 3 ? lanes.bits : static_cast<uint32_t>(bit + random() % (lanes.bits - bit + 1));
      tip = random() % 3 ? lanes.tips : random() % (lanes.tips + 1);
    }
  }
}

}  // namespace
}  // namespace hindcast::decode
