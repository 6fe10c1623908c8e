#include "decode/fast/packet_event.h"

#include <gtest/gtest.h>

#include <optional>

#include "tests/support/pt_bytes.h"

namespace hindcast::decode {
namespace {

using test::PtBytes;
using Needs = PacketEventReader::Needs;
using Place = PacketEvent::Place;

/// What the first packets say: nothing when they are no event.
std::optional<PacketEventReader> read(const PtBytes& t) {
  PacketReader packets(t.bytes());
  PacketEventReader reader{LastIp()};
  Packet p;
  Needs needs = Needs::more;
  while (needs == Needs::more && packets.next(p) == Step::ok) needs = reader.take(p, packets.offset());
  if (needs == Needs::more) needs = reader.end(t.size());
  if (needs != Needs::none) return std::nullopt;
  return reader;
}

TEST(PacketEvent, AnAsynchronousBranchHoldsAllThatItsTipBrings) {
  const auto r = read(PtBytes().fup(0x401000).pip(0x5000).mtc(3).vmcs(0x7000).mode_exec(2).tip(0x402000).tnt("T"));
  ASSERT_TRUE(r);
  const PacketEvent& e = r->event();
  EXPECT_EQ(e.place, Place::before);
  EXPECT_EQ(e.at, 0x401000u);
  EXPECT_EQ(e.to, 0x402000u);
  EXPECT_EQ(e.bits, 32);
  ASSERT_EQ(e.tells, 3);
  EXPECT_EQ(e.told[0].kind, EventKind::async_branch);
  EXPECT_EQ(e.told[1].kind, EventKind::paging);
  EXPECT_EQ(e.told[1].value, 0x5000u);
  EXPECT_EQ(e.told[2].kind, EventKind::exec_mode);
  EXPECT_EQ(e.first, 0u);
  EXPECT_EQ(e.placed, 0u);
  EXPECT_EQ(e.last, 7u + 8 + 2 + 7 + 2);
  EXPECT_EQ(r->behind(), e.last + 7);
  EXPECT_EQ(r->behind_ip().value(), 0x402000u);
}

TEST(PacketEvent, TheFupOfAnAbortIsReadTwice) {
  const auto r = read(PtBytes().mode_tsx(2).fup(0x401000).tip(0x402000));
  ASSERT_TRUE(r);
  EXPECT_EQ(r->event().told[0].value, 2u);
  EXPECT_EQ(r->event().to, 0x401000u);
  EXPECT_EQ(r->behind(), 2u);
  EXPECT_EQ(r->behind_ip().value(), 0u);
  EXPECT_EQ(read(PtBytes().mode_tsx(1).fup(0x401000).tip(0x402000))->behind(), 9u);
}

TEST(PacketEvent, APipIsOfAFarTransferWhenItsTipFollows) {
  auto r = read(PtBytes().pip(0x5000).vmcs(0x7000).mode_exec(2).tip(0x402000));
  ASSERT_TRUE(r);
  EXPECT_EQ(r->event().place, Place::mov_cr3);
  EXPECT_EQ(r->event().tells, 1);
  EXPECT_EQ(r->event().to, 0u);
  EXPECT_EQ(r->behind(), 8u);
  ASSERT_TRUE(r->take_far());
  EXPECT_EQ(r->event().place, Place::far_transfer);
  EXPECT_EQ(r->event().to, 0x402000u);
  EXPECT_EQ(r->event().tells, 2);
  EXPECT_EQ(r->event().bits, 32);
  EXPECT_EQ(r->behind(), 8u + 7 + 2 + 7);

  EXPECT_TRUE(read(PtBytes().pip(0x5000).vmcs(0x7000))->take_far());  // the stretch ends behind it
  for (const PtBytes& other : {PtBytes().tnt("T"), PtBytes().pip(0x6000), PtBytes().raw({0x0d}), PtBytes().mode_exec(1),
                               PtBytes().fup(0x401000)}) {
    auto alone = read(PtBytes().pip(0x5000).append(other));
    ASSERT_TRUE(alone);
    EXPECT_EQ(alone->behind(), 8u);
    EXPECT_FALSE(alone->take_far());
  }
}

TEST(PacketEvent, TheModeOfAFarTransferIsToldBehindItsPaging) {
  const auto r = read(PtBytes().mode_exec(2).pip(0x5000).tip(0x402000));
  ASSERT_TRUE(r);
  EXPECT_EQ(r->event().place, Place::far_transfer);
  EXPECT_EQ(r->event().told[0].kind, EventKind::paging);
  EXPECT_EQ(r->event().told[1].kind, EventKind::exec_mode);
}

TEST(PacketEvent, WhatDoesNotBelongTogetherIsNone) {
  const auto ptw = [] { return PtBytes().raw({0x02, 0xb2}).le(7, 8); };
  const auto mwait = [] { return PtBytes().raw({0x02, 0xc2}).le(0, 8); };
  for (const PtBytes& t :
       {PtBytes().fup(1), PtBytes().fup(1).tnt("T"), PtBytes().fup(1).fup(1), PtBytes().fup(1).pip(1).pip(1).tip(1),
        PtBytes().fup(1).mode_exec(1).mode_exec(1).tip(1), PtBytes().mode_tsx(1).tip(1), PtBytes().mode_exec(1),
        PtBytes().mode_exec(1).tnt("T"), PtBytes().mode_exec(1).raw({0x0d}), ptw().tip(1),
        ptw().raw({0x02, 0x62}).fup(1), mwait().tip(1), mwait().mode_exec(1).fup(1), mwait()})
    EXPECT_FALSE(read(t)) << t.size();
  EXPECT_TRUE(read(ptw().mtc(1).fup(1)));
  EXPECT_TRUE(read(mwait().raw({0x02, 0x22, 0, 0}).raw({0x02, 0x62}).fup(1)));
}

TEST(PacketEvent, WithoutAnIpNobodyKnowsWhereItGoesOn) {
  EXPECT_EQ(read(PtBytes().raw({0x0d}))->event().place, Place::branch);
  for (const PtBytes& t : {PtBytes().raw({0x1d}), PtBytes().fup(0x401000).raw({0x0d})})
    EXPECT_EQ(read(t)->event().place, Place::nowhere);
  EXPECT_EQ(read(PtBytes().mode_tsx(1).raw({0x1d}))->event().at, 0u);
}

}  // namespace
}  // namespace hindcast::decode
