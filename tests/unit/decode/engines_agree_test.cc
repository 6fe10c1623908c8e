// What both engines once told differently, or both wrongly: mostly streams with damage, made small.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/code_at.h"
#include "tests/support/engine_duel.h"
#include "tests/support/tiny_host.h"
#include "tests/support/tiny_program.h"

namespace hindcast::decode {
namespace {

using test::PtBytes;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::Not;
using ::testing::StartsWith;
using Lines = std::vector<std::string>;

std::shared_ptr<const CodeImage> image_of(std::vector<uint8_t> code, uint64_t content = 1) {
  return test::code_at(test::kTinyBase, std::move(code), content);
}

class EnginesAgree : public ::testing::Test {
 public:
  EnginesAgree() { duel.images = {image_of(test::tiny_program())}; }

  /// What the fast engine tells, and libipt has to.
  const std::vector<FlowEvent>& both(const PtBytes& pt) {
    duel.bytes = pt.bytes();
    test::DuelWorld world;
    const test::DuelResult r = test::fight(duel, world);
    EXPECT_FALSE(r.bad()) << test::report(duel, r, world);
    EXPECT_EQ(r.compared.beside_gaps, 0u) << test::report(duel, r, world);
    return events = test::events_of(duel, Engine::fast, world);
  }
  /// The same of what the fast engine walks by itself.
  Lines walked(const PtBytes& pt) {
    both(pt);
    test::DuelWorld world;
    test::fight(duel, world);
    EXPECT_EQ(world.counts.libipt, 0u);
    return test::text_of(events);
  }
  /// The same where damage may hide some of it.
  Lines either(const PtBytes& pt, Engine engine) {
    duel.bytes = pt.bytes();
    test::DuelWorld world;
    const test::DuelResult r = test::fight(duel, world);
    EXPECT_FALSE(r.bad()) << test::report(duel, r, world);
    events = test::events_of(duel, engine, world);
    return test::text_of(events);
  }
  /// Whether a gap hides the byte at offset.
  bool lost(uint64_t offset) const {
    return std::any_of(events.begin(), events.end(), [offset](const FlowEvent& f) {
      const Event& e = f.event;
      return e.kind == EventKind::gap && e.offset <= offset && offset < e.offset + e.count;
    });
  }

  test::Duel duel;
  std::vector<FlowEvent> events;
};

PtBytes psb_off() { return PtBytes().psb().mode_exec().psbend(); }
PtBytes psb_on(uint64_t ip) { return PtBytes().psb().mode_exec().fup(ip).psbend(); }

TEST_F(EnginesAgree, PagingWhileTracingIsOffIsOfNoStretch) {
  const auto pt = psb_off().tip_pge(0x401022).fup(0x401023).tip_pgd().pip(0x5000).tip_pge(0x401020).tip_pgd();
  EXPECT_EQ(test::text_of(both(pt)), (Lines{"enabled 401022", "block 401022-401022 x1 none", "async_disabled 401023",
                                            "enabled 401020", "block 401020-401020 x1 far_transfer", "disabled"}));
}

TEST_F(EnginesAgree, ATraceStopIsToldBehindTheStretchThatItStopped) {
  const PtBytes before = psb_off().tip_pge(0x401020);
  both(PtBytes(before).tip_pgd().mtc(1).trace_stop().mode_exec().tip_pge(0x401020).tip_pgd());
  EXPECT_EQ(test::text_of(events),
            (Lines{"enabled 401020", "block 401020-401020 x1 far_transfer", "disabled", "stopped", "enabled 401020",
                   "block 401020-401020 x1 far_transfer", "disabled"}));
  EXPECT_EQ(events[3].event.offset, before.size());
  EXPECT_EQ(events[3].stretch, 0u);
}

TEST_F(EnginesAgree, WhatFollowsATraceStopElsewhereIsNotStopped) {
  for (const PtBytes& between : {psb_off(), PtBytes().ovf()})
    EXPECT_THAT(test::text_of(both(psb_off().tip_pge(0x401020).tip_pgd().append(between).trace_stop())),
                Not(Contains("stopped")));
}

TEST_F(EnginesAgree, AStretchThatEndsAtTheEndOfTheStream) {
  EXPECT_EQ(test::text_of(both(psb_off().tip_pge(0x401020).tip_pgd().mode_exec())),
            (Lines{"enabled 401020", "block 401020-401020 x1 far_transfer", "disabled"}));
}

TEST_F(EnginesAgree, OnlyTheLastOfSeveralModesIsHowAStretchBegins) {
  const auto stretch = PtBytes().mode_exec(2).mode_exec().tip_pge(0x401022).fup(0x401023).tip_pgd();
  both(psb_off().append(stretch).append(stretch));
  const Lines once = {"enabled 401022", "block 401022-401022 x1 none", "async_disabled 401023"};
  ASSERT_EQ(events.size(), 6u);
  for (size_t i = 0; i < events.size(); ++i) {
    EXPECT_EQ(test::text_of(events[i].event), once[i % 3]);
    EXPECT_EQ(events[i].stretch, i / 3);
  }
}

TEST_F(EnginesAgree, AChangeOfModeIsToldThoughLibiptSawNoModeBefore) {
  // It begins at the second PSB.
  both(psb_off()
           .tip_pge(0x401020)
           .tip_pgd()
           .psb()
           .psbend()
           .tip_pge(0x401000)
           .fup(0x401000)
           .mode_exec(2)
           .tip(0x401022)
           .fup(0x401023)
           .tip_pgd());
  EXPECT_EQ(test::text_of(events), (Lines{"enabled 401020", "block 401020-401020 x1 far_transfer", "disabled",
                                          "enabled 401000", "async_branch 401000 -> 401022", "exec_mode",
                                          "block 401022-401022 x1 none", "async_disabled 401023"}));
}

TEST_F(EnginesAgree, BoundIsNoBranch) {
  duel.images = {image_of({0x62, 0x00, 0x90, 0x0f, 0x05})};  // bound, nop, syscall
  EXPECT_EQ(test::text_of(both(PtBytes().psb().mode_exec(2).psbend().tip_pge(0x401000).tip_pgd())),
            (Lines{"enabled 401000", "block 401000-401003 x3 far_transfer", "disabled"}));
}

TEST_F(EnginesAgree, AnOverflowThatEndsInAPsb) {
  both(psb_on(0x401022).ovf().append(psb_on(0x401000)).tnt("NT").fup(0x401005).tip_pgd());
  EXPECT_EQ(test::text_of(events),
            (Lines{"overflow 401000", "gap pt_overflow", "block 401000-401000 x1 direct_call",
                   "block 401010-401010 x1 cond_branch", "block 401012-401014 x3 near_ret", "async_disabled 401005"}));
  EXPECT_EQ(events.back().stretch, 1u);
}

TEST_F(EnginesAgree, APtwriteBehindAPsbThatLibiptIsSentTo) {
  duel.images = {image_of({0x90, 0xf3, 0x0f, 0xae, 0xe0, 0x0f, 0x05})};  // nop, ptwrite, syscall
  const auto pt = psb_off()
                      .tip_pge(0x401005)
                      .tip_pgd()
                      .append(psb_off())
                      .tip_pge(0x401000)
                      .raw({0x02, 0xb2})
                      .le(7, 8)
                      .fup(0x401001)
                      .tip_pgd();
  EXPECT_EQ(test::text_of(both(pt)),
            (Lines{"enabled 401005", "block 401005-401005 x1 far_transfer", "disabled", "enabled 401000",
                   "block 401000-401001 x2 none", "ptwrite", "block 401005-401005 x1 far_transfer", "disabled"}));
}

TEST_F(EnginesAgree, BlocksOnTheWayToAPtwriteEndAtCalls) {
  // 401000 call 401008; 401008 ptwrite; 40100c syscall
  duel.images = {image_of({0xe8, 3, 0, 0, 0, 0x90, 0x90, 0x90, 0xf3, 0x0f, 0xae, 0xe0, 0x0f, 0x05})};
  both(psb_on(0x401000).raw({0x02, 0xb2}).le(7, 8).fup(0x401008).tip_pgd());
  EXPECT_EQ(test::text_of(events), (Lines{"block 401000-401000 x1 direct_call", "block 401008-401008 x1 none",
                                          "ptwrite", "block 40100c-40100c x1 far_transfer", "disabled"}));
}

TEST_F(EnginesAgree, WhereCr3ChangesTracingMayTurnOff) {
  // 401000 nop; mov %rax,%cr3; nop; syscall
  duel.images = {image_of({0x90, 0x0f, 0x22, 0xd8, 0x90, 0x0f, 0x05})};
  EXPECT_EQ(test::text_of(both(psb_on(0x401000).tip_pgd())), (Lines{"block 401000-401001 x2 none", "disabled"}));
  EXPECT_EQ(test::text_of(both(psb_on(0x401000).tip_pgd(0xffffffff81000000, 3))),
            (Lines{"block 401000-401005 x4 far_transfer", "disabled ffffffff81000000"}));
  EXPECT_EQ(test::text_of(both(psb_on(0x401000).fup(0x401005).tip_pgd())),
            (Lines{"block 401000-401004 x3 none", "async_disabled 401005"}));
}

TEST_F(EnginesAgree, TracingMayLeaveForZero) {
  // 401000 nop; mov %rax,%cr3; jne 401000
  duel.images = {image_of({0x90, 0x0f, 0x22, 0xd8, 0x75, 0xfa})};
  EXPECT_EQ(test::text_of(both(psb_on(0x401000).tip_pgd(0, 3))),
            (Lines{"block 401000-401004 x3 cond_branch", "disabled"}));
}

TEST_F(EnginesAgree, NoEventLiesBehindTheStream) {
  // A TIP.PGD while tracing is off; a TMA whose last byte is missing, and whose reserved byte is not 0.
  const auto pt = PtBytes().psb().cbr(26).psbend().tip_pgd().raw({0x02, 0x73, 0x18, 0x14, 0x20, 0, 0});
  for (const Engine engine : {Engine::fast, Engine::libipt}) {
    either(pt, engine);
    for (const FlowEvent& f : events) EXPECT_LE(f.event.offset, pt.size());
  }
}

TEST_F(EnginesAgree, TracingCannotLeaveForWhereItPassed) {
  for (const uint64_t to : {0x401000, 0x401012})
    EXPECT_THAT(either(psb_on(0x401000).tnt("N").tip(0x401000).tip_pgd(to, 3), Engine::fast),
                Contains(StartsWith("gap desync")));
}

TEST_F(EnginesAgree, TheSameCodeInAnotherMode) {
  // inc %eax; ret in 32-bit mode, and one instruction in 64-bit mode
  duel.images = {image_of({0x40, 0xc3, 0xcc})};
  const auto pt = [](int mode) {
    return PtBytes()
        .psb()
        .mode_exec(mode)
        .psbend()
        .tip_pge(0x401000)
        .tip(0x401000)
        .tip(0x401000)
        .fup(0x401000)
        .tip_pgd();
  };
  duel.bytes = pt(2).append(pt(1)).bytes();
  const auto counts = [this](Engine engine) {
    test::DuelWorld world;
    std::vector<uint32_t> n;
    for (const FlowEvent& f : test::events_of(duel, engine, world))
      if (f.event.kind == EventKind::block) n.push_back(f.event.count);
    return n;
  };
  for (const Engine engine : {Engine::fast, Engine::libipt})
    EXPECT_THAT(counts(engine), ElementsAre(2, 2, 1, 1)) << static_cast<int>(engine);
}

TEST_F(EnginesAgree, WhatTheEngineForOtherStretchesLosesIsLost) {
  // The second PSB has no PSBEND, which libipt does not accept when it begins there.
  const PtBytes before =
      psb_off().tip_pge(0x401020).tip_pgd().psb().mode_exec().tip_pge(0x401020).tip_pgd().mode_exec();
  const uint64_t begin = before.size();
  for (const Engine engine : {Engine::fast, Engine::libipt}) {
    const Lines lines = either(PtBytes(before).tip_pge(0x401022).raw({0x02, 0x62}).fup(0x401023).tip_pgd(), engine);
    EXPECT_TRUE(lost(begin) || lines.back() == "async_disabled 401023") << lines.back();
  }
}

TEST_F(EnginesAgree, AGapReachesToWhereItGoesOnThoughItIsPlacedInItsStretch) {
  // libipt has read the second PSB when it finds that the PIP belongs nowhere.
  const PtBytes before = psb_off().tip_pge(0x401043).tip(0x401043).pip(0x9000);
  const PtBytes pt = PtBytes(before).append(psb_off()).tip_pge(0x401022).fup(0x401023).tip_pgd();
  for (const Engine engine : {Engine::fast, Engine::libipt}) {
    const Lines lines = either(pt, engine);
    EXPECT_TRUE(lost(before.size() + psb_off().size()) || lines.back() == "async_disabled 401023");
  }
}

TEST_F(EnginesAgree, TracingThatAPsbAloneSaysIsOnIsALoss) {
  const PtBytes before = psb_off().raw({0x02, 0x62}).tip_pge(0x401020).raw({0x02, 0x62}).tip_pgd();
  const PtBytes pt = PtBytes(before).append(psb_off()).append(psb_on(0x401020)).tip_pgd();
  for (const Engine engine : {Engine::fast, Engine::libipt}) {
    either(pt, engine);
    EXPECT_TRUE(lost(before.size() + psb_off().size())) << testing::PrintToString(test::text_of(events));
  }
}

PtBytes ptw(uint64_t value) { return PtBytes().raw({0x02, 0x32}).le(value, 8); }
PtBytes ptw_with_ip(uint64_t value, uint64_t ip) { return PtBytes().raw({0x02, 0xb2}).le(value, 8).mtc(1).fup(ip); }
PtBytes exstop(uint64_t ip) { return PtBytes().raw({0x02, 0xe2}).fup(ip); }
PtBytes mwait() { return PtBytes().raw({0x02, 0xc2}).le(0x21, 8); }
PtBytes pwre() { return PtBytes().raw({0x02, 0x22, 0, 0x20}); }
PtBytes pwrx() { return PtBytes().raw({0x02, 0xa2}).le(0x122, 5); }

/// 401000 jne 401008; nop; ptwrite %eax (twice)   40100b jmp 401000
class Ptwrites : public EnginesAgree {
 public:
  Ptwrites() {
    duel.images = {image_of({0x75, 0x06, 0x90, 0xf3, 0x0f, 0xae, 0xe0, 0xf3, 0x0f, 0xae, 0xe0, 0xeb, 0xf3})};
  }
};

TEST_F(Ptwrites, WithAndWithoutAnAddressAreWalked) {
  for (const bool first : {false, true})
    for (const bool second : {false, true}) {
      const PtBytes pt = psb_on(0x401000)
                             .tnt("N")
                             .append(first ? ptw_with_ip(7, 0x401003) : ptw(7))
                             .append(second ? ptw_with_ip(0xfedcba9876543210, 0x401007) : ptw(0xfedcba9876543210))
                             .tnt("N")
                             .fup(0x401002)
                             .tip_pgd();
      EXPECT_EQ(walked(pt), (Lines{"block 401000-401000 x1 cond_branch", "block 401002-401003 x2 none", "ptwrite",
                                   "block 401007-401007 x1 none", "ptwrite", "block 40100b-40100b x1 direct_jump",
                                   "block 401000-401000 x1 cond_branch", "async_disabled 401002"}));
      EXPECT_EQ(events[2].event.to, 7u);
      EXPECT_EQ(events[2].event.ip, 0x401003u);
      EXPECT_EQ(events[4].event.to, 0xfedcba9876543210u);
      EXPECT_EQ(events[4].event.ip, 0x401007u);
    }
}

TEST_F(Ptwrites, OneThatNoInstructionSendsIsALoss) {
  duel.images = {image_of(test::tiny_program())};
  for (const PtBytes& packets : {ptw(7), ptw_with_ip(7, 0x401010)}) {
    const PtBytes before = psb_on(0x401000);
    either(PtBytes(before).append(packets).tnt("N").append(psb_on(0x401012)).tip(0x401005), Engine::fast);
    EXPECT_TRUE(lost(before.size() + packets.size()));
  }
}

TEST_F(EnginesAgree, WhereTheProcessorSleepsNoFlowChanges) {
  const Lines told = {"block 401022-401023 x2 direct_jump", "block 401020-401020 x1 far_transfer", "disabled"};
  for (const PtBytes& sleep :
       {exstop(0x401023), PtBytes().raw({0x02, 0x62}), pwre(), pwrx(), mwait().append(pwre()).append(exstop(0x401023)),
        mwait().append(pwre()).raw({0x02, 0x62}).cyc(5).fup(0x401023).append(pwrx())})
    EXPECT_EQ(walked(psb_on(0x401022).append(sleep).tip_pgd()), told);
}

TEST_F(EnginesAgree, WhereTheProcessorSleptIsWhereItRuns) {
  const PtBytes before = psb_on(0x401000);
  for (const PtBytes& sleep : {exstop(0x401022), mwait().fup(0x401022)}) {
    either(PtBytes(before).append(sleep).tnt("N").append(psb_on(0x401012)).tip(0x401005), Engine::fast);
    EXPECT_TRUE(lost(before.size() + sleep.size()));
  }
}

TEST_F(EnginesAgree, AnAbortedTransactionGoesOnWhereItsTipLeads) {
  EXPECT_EQ(walked(psb_on(0x401000)
                       .mode_tsx(1)
                       .fup(0x401010)
                       .tnt("N")
                       .mode_tsx(2)
                       .mtc(1)
                       .fup(0x401013)
                       .cyc(9)
                       .tip(0x401022)
                       .tip_pgd()),
            (Lines{"block 401000-401000 x1 direct_call", "tsx 401010 1", "block 401010-401010 x1 cond_branch",
                   "block 401012-401012 x1 none", "tsx 401013 2", "async_branch 401013 -> 401022",
                   "block 401022-401023 x2 direct_jump", "block 401020-401020 x1 far_transfer", "disabled"}));
}

/// 401000 nop; mov %rax,%cr3; nop   401005 syscall   401007 nop; vmptrld (%rax); jmp 401005
class Kernel : public EnginesAgree {
 public:
  Kernel() { duel.images = {image_of({0x90, 0x0f, 0x22, 0xd8, 0x90, 0x0f, 0x05, 0x90, 0x0f, 0xc7, 0x30, 0xeb, 0xf8})}; }
};

TEST_F(Kernel, APipIsOfTheNextMovToCr3) {
  const PtBytes before = psb_on(0x401000);
  EXPECT_EQ(walked(PtBytes(before).pip(0x5000).mtc(1).tip(0x401000).pip(0x6000).fup(0x401004).tip_pgd()),
            (Lines{"block 401000-401001 x2 none", "paging", "block 401004-401005 x2 far_transfer",
                   "block 401000-401001 x2 none", "paging", "async_disabled 401004"}));
  EXPECT_EQ(events[1].event.to, 0x5000u);
  EXPECT_EQ(events[1].event.ip, 0u);
  EXPECT_EQ(events[1].event.offset, before.size());
  EXPECT_EQ(events[4].event.to, 0x6000u);
}

TEST_F(Kernel, APipIsOfAFarTransfer) {
  EXPECT_EQ(walked(psb_on(0x401004).pip(0x5000).mtc(1).vmcs(0x7000).mode_exec(1).tip(0x401007).pip(0x6000).tip_pgd()),
            (Lines{"block 401004-401005 x2 far_transfer", "paging", "block 401007-40100b x3 direct_jump",
                   "block 401005-401005 x1 far_transfer", "paging", "disabled"}));
  EXPECT_EQ(events[1].event.to, 0x5000u);
  EXPECT_EQ(events[4].event.to, 0x6000u);
}

TEST_F(Kernel, WhereCr3IsSetTracingMayTurnOff) {
  EXPECT_EQ(walked(psb_on(0x401000).pip(0x5000).mtc(1).tip_pgd()),
            (Lines{"block 401000-401001 x2 none", "paging", "disabled"}));
  EXPECT_EQ(walked(psb_on(0x401000).pip(0x5000).tip_pgd(0xffffffff81000000, 3)),
            (Lines{"block 401000-401001 x2 none", "paging", "block 401004-401005 x2 far_transfer",
                   "disabled ffffffff81000000"}));
}

TEST_F(Kernel, AVmcsTellsNothing) {
  const Lines told = {"block 401007-40100b x3 direct_jump", "block 401005-401005 x1 far_transfer",
                      "block 401000-401001 x2 none", "paging", "async_disabled 401004"};
  for (const PtBytes& far : {PtBytes(), PtBytes().vmcs(0x7000)})
    EXPECT_EQ(walked(psb_on(0x401007).vmcs(0x7000).append(far).tip(0x401000).pip(0x1000).fup(0x401004).tip_pgd()),
              told);
}

TEST_F(Kernel, AnInterruptMayChangeAllThatHoldsWhereItLeads) {
  EXPECT_EQ(walked(psb_on(0x401000)
                       .fup(0x401001)
                       .pip(0x5000)
                       .vmcs(0x7000)
                       .mode_exec(2)
                       .cyc(1)
                       .tip(0x401007)
                       .tip_pgd()
                       .mode_exec(1)
                       .tip_pge(0x401004)
                       .tip_pgd()),
            (Lines{"block 401000-401000 x1 none", "async_branch 401001 -> 401007", "paging", "exec_mode",
                   "block 401007-40100b x3 direct_jump", "block 401005-401005 x1 far_transfer", "disabled",
                   "enabled 401004", "block 401004-401005 x2 far_transfer", "disabled"}));
  EXPECT_EQ(events[2].event.to, 0x5000u);
  EXPECT_EQ(events[3].event.count, 32u);
  EXPECT_EQ(events[3].event.ip, 0x401007u);
}

TEST_F(Kernel, AFarTransferMayChangeTheMode) {
  EXPECT_EQ(
      walked(
          psb_on(0x401004).mode_exec(2).pip(0x5000).tip(0x401007).mode_exec(2).tip(0x401000).fup(0x401001).tip_pgd()),
      (Lines{"block 401004-401005 x2 far_transfer", "paging", "exec_mode", "block 401007-40100b x3 direct_jump",
             "block 401005-401005 x1 far_transfer", "block 401000-401000 x1 none", "async_disabled 401001"}));
  EXPECT_EQ(events[2].event.count, 32u);
}

TEST_F(Kernel, WhatNoInstructionSendsIsALoss) {
  for (const PtBytes& packet :
       {PtBytes().pip(0x5000).tnt("T"), PtBytes().vmcs(0x5000), PtBytes().mode_exec(1).tip(0x401000)}) {
    const PtBytes before = psb_on(0x401012);
    duel.images = {image_of(test::tiny_program())};
    either(PtBytes(before).append(packet).append(psb_on(0x401012)).tip(0x401005), Engine::fast);
    EXPECT_TRUE(lost(before.size() + packet.size() - 1));
  }
}

/// libipt 2.0.5 knows none of these. SDM Vol. 3C, "Block Begin Packet (BBP)", "Block Item Packet (BIP)", "Block End Packet
/// (BEP)", "Event Data (EVD) Packet", "Control Flow Event (CFE) Packet": they tell of a place, and change no flow.
TEST_F(EnginesAgree, RecordsOfOtherKindsArePassedOver) {
  const auto bbp = [] { return PtBytes().raw({0x02, 0x63, 0x04}); };  // items of 8 bytes, which would read as TNTs
  const auto bip = [](int id) { return PtBytes().raw({id << 3 | 4}).le(0x0404040404040404, 8); };
  const auto evd = [] { return PtBytes().raw({0x02, 0x53, 0x00}).le(0x401000, 8); };
  for (const PtBytes& record : {bbp().append(bip(1)).mtc(1).append(bip(31)).raw({0x02, 0x33}),
                                bbp().append(bip(1)).raw({0x02, 0xb3}).cyc(3).fup(0x401012),
                                bbp().append(bip(1)).append(bbp()).append(bip(2)).raw({0x02, 0x33}), bbp(), evd(),
                                PtBytes().raw({0x02, 0x13, 0x01, 0x0e})}) {
    const PtBytes inside = psb_on(0x401000).tnt("N").append(record);
    duel.bytes = PtBytes(inside).tip(0x401043).tip(0x401022).fup(0x401023).tip_pgd().bytes();
    test::DuelWorld world;
    EXPECT_EQ(test::text_of(test::events_of(duel, Engine::fast, world)),
              (Lines{"block 401000-401000 x1 direct_call", "block 401010-401010 x1 cond_branch",
                     "block 401012-401014 x3 near_ret", "block 401043-401043 x1 indirect_jump",
                     "block 401022-401022 x1 none", "async_disabled 401023"}))
        << record.size();
    EXPECT_EQ(world.counts.libipt, 0u);
  }
}

TEST_F(EnginesAgree, NobodyKnowsWhereATipWithoutAnIpLeads) {
  for (const PtBytes& packets :
       {PtBytes().raw({0x0d}), PtBytes().fup(0x401014).raw({0x0d}), PtBytes().raw({0x1d}).tip(0x401000)}) {
    const PtBytes before = psb_on(0x401012);
    const Lines lines = either(PtBytes(before).append(packets).append(psb_on(0x401022)).tip_pgd(), Engine::fast);
    EXPECT_TRUE(lost(before.size() + packets.size() - 1));
    EXPECT_EQ(lines.back(), "disabled");
  }
}

TEST_F(EnginesAgree, AnAbortMayLeaveTheTrace) {
  EXPECT_EQ(walked(psb_on(0x401010).tnt("N").mode_tsx(2).fup(0x401013).tip_pgd()),
            (Lines{"block 401010-401010 x1 cond_branch", "block 401012-401012 x1 none", "tsx 401013 2",
                   "async_disabled 401013"}));
}

}  // namespace
}  // namespace hindcast::decode
