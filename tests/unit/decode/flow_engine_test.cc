// Both engines behind the FlowDecoder interface answer alike.
#include "decode/fast/fast_engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/code_at.h"
#include "tests/support/tiny_host.h"
#include "tests/support/tiny_image.h"

namespace hindcast::decode {
namespace {

using test::PtBytes;
using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using Lines = std::vector<std::string>;

struct Selector final : ImageSelector {
  std::shared_ptr<const CodeImage> image = std::make_shared<test::TinyImage>();
  std::vector<std::pair<uint64_t, uint64_t>> unknown;  // offsets [first, second) nobody knows
  std::vector<uint64_t> asked;
  std::shared_ptr<const CodeImage> image_at(uint64_t offset, Ip) override {
    asked.push_back(offset);
    for (const auto& [from, to] : unknown)
      if (from <= offset && offset < to) return nullptr;
    return image;
  }
};

enum class Engine : uint8_t { libipt, fast };

/// What the decoders of one image share.
struct Shared {
  std::shared_ptr<IptCode> code = std::make_shared<IptCode>();
  BlockGraphs graphs;
  EngineCounts counts;
};

class FlowEngine : public ::testing::TestWithParam<Engine> {
 public:
  static std::unique_ptr<FlowDecoder> decoder(const PtTrace& trace, const DecodeConfig& config, Selector& selector,
                                              Shared& shared) {
    if (GetParam() == Engine::libipt) return make_libipt_decoder(trace, config, selector, shared.code).value();
    return make_fast_decoder(trace, config, selector, shared.code, shared.graphs, shared.counts).value();
  }
};

INSTANTIATE_TEST_SUITE_P(Engines, FlowEngine, ::testing::Values(Engine::libipt, Engine::fast),
                         [](const auto& info) { return info.param == Engine::libipt ? "libipt" : "fast"; });

struct Decode {
  explicit Decode(const PtBytes& bytes, std::vector<uint64_t> cuts = {}) : data(bytes.bytes()) {
    trace = PtTrace::scan(data, {}, std::move(cuts));
  }
  std::vector<Event> events(Resync resync = Resync::earliest) {
    DecodeConfig config;
    config.resync = resync;
    Shared shared;
    const auto d = FlowEngine::decoder(trace, config, selector, shared);
    std::vector<Event> all, batch(3);
    while (const size_t n = d->next(batch)) {
      all.insert(all.end(), batch.begin(), batch.begin() + static_cast<ptrdiff_t>(n));
      if (all.size() > 100000) {
        ADD_FAILURE() << "the flow does not end";
        break;
      }
    }
    return all;
  }
  Lines lines(Resync resync = Resync::earliest) {
    Lines l;
    for (const Event& e : events(resync)) l.push_back(test::text_of(e));
    return l;
  }
  std::vector<uint8_t> data;
  PtTrace trace;
  Selector selector;
};

PtBytes psb_on(uint64_t ip) { return PtBytes().psb().mode_exec().fup(ip).psbend(); }
PtBytes psb_off() { return PtBytes().psb().psbend(); }

TEST_P(FlowEngine, CallsAndCompressedReturnsMakeContiguousBlocks) {
  Decode r(psb_on(0x401000).tnt("NT").fup(0x401005).tip_pgd());
  EXPECT_EQ(r.lines(), (Lines{"block 401000-401000 x1 direct_call", "block 401010-401010 x1 cond_branch",
                              "block 401012-401014 x3 near_ret", "async_disabled 401005"}));
}

TEST_P(FlowEngine, UncompressedReturnTakesItsTip) {
  Decode r(psb_on(0x401000).tnt("T").tip(0x401005).fup(0x401000).tip_pgd());
  EXPECT_EQ(r.lines(),
            (Lines{"block 401000-401000 x1 direct_call", "block 401010-401010 x1 cond_branch",
                   "block 401014-401014 x1 near_ret", "block 401005-401006 x2 direct_jump", "async_disabled 401000"}));
}

TEST_P(FlowEngine, SyscallLeavesAndReturns) {
  Decode r(psb_off().mode_exec().tip_pge(0x401020).tip_pgd().tip_pge(0x401022).fup(0x401023).tip_pgd());
  EXPECT_EQ(r.lines(), (Lines{"enabled 401020", "block 401020-401020 x1 far_transfer", "disabled", "enabled 401022",
                              "block 401022-401022 x1 none", "async_disabled 401023"}));
}

TEST_P(FlowEngine, AnInterruptInsideTheTraceIsToldWhereItCameAndCallsOutliveIt) {
  Decode r(psb_on(0x401000)
               .tnt("N")
               .fup(0x401013)
               .mtc(1)
               .tip(0x401020)
               .tip(0x401013)
               .tnt("T")
               .fup(0x401005)
               .tip(0x401022)
               .fup(0x401023)
               .tip_pgd());
  EXPECT_EQ(
      r.lines(),
      (Lines{"block 401000-401000 x1 direct_call", "block 401010-401010 x1 cond_branch", "block 401012-401012 x1 none",
             "async_branch 401013 -> 401020", "block 401020-401020 x1 far_transfer", "block 401013-401014 x2 near_ret",
             "async_branch 401005 -> 401022", "block 401022-401022 x1 none", "async_disabled 401023"}));
}

TEST_P(FlowEngine, ACallOnTheWayToAnInterruptIsOneToReturnTo) {
  Decode r(psb_on(0x401005).fup(0x401010).tip(0x401020).tip(0x401010).tnt("TT").fup(0x401005).tip_pgd());
  EXPECT_EQ(r.lines(),
            (Lines{"block 401005-401006 x2 direct_jump", "block 401000-401000 x1 direct_call",
                   "async_branch 401010 -> 401020", "block 401020-401020 x1 far_transfer",
                   "block 401010-401010 x1 cond_branch", "block 401014-401014 x1 near_ret", "async_disabled 401005"}));
}

TEST_P(FlowEngine, ATransactionBeginsAndIsCommittedBetweenTwoInstructions) {
  Decode r(psb_on(0x401000)
               .mode_tsx(1)
               .fup(0x401010)
               .tnt("N")
               .mode_tsx(0)
               .mtc(1)
               .fup(0x401013)
               .tnt("T")
               .fup(0x401005)
               .tip_pgd());
  EXPECT_EQ(r.lines(), (Lines{"block 401000-401000 x1 direct_call", "tsx 401010 1",
                              "block 401010-401010 x1 cond_branch", "block 401012-401012 x1 none", "tsx 401013 0",
                              "block 401013-401014 x2 near_ret", "async_disabled 401005"}));
}

TEST_P(FlowEngine, AModeOfThePsbThatAStretchBeginsInIsNoTransaction) {
  Decode r(PtBytes().psb().mode_exec().fup(0x401000).mode_tsx(0).psbend().tnt("NT").fup(0x401005).tip_pgd());
  EXPECT_EQ(r.lines(), (Lines{"block 401000-401000 x1 direct_call", "block 401010-401010 x1 cond_branch",
                              "block 401012-401014 x3 near_ret", "async_disabled 401005"}));
}

TEST_P(FlowEngine, AnInterruptWhereTheWalkCannotComeIsADesync) {
  const PtBytes lost = psb_on(0x401000).tnt("N").fup(0x401040).tip(0x401020).tip(0x401013).tip_pgd();
  Decode r(PtBytes(lost).tip_pge(0x401022).fup(0x401023).tip_pgd());
  const Lines lines = r.lines();
  EXPECT_THAT(lines, ::testing::Not(::testing::Contains("block 401020-401020 x1 far_transfer")));
  EXPECT_THAT(lines, ::testing::Contains(::testing::StartsWith("gap desync")));
  EXPECT_EQ(lines.back(), "async_disabled 401023");
}

TEST_P(FlowEngine, MissingCodeIsAGapWithItsAddressAndTheNextStretchDecodes) {
  const PtBytes trace = psb_off()
                            .mode_exec()
                            .tip_pge(0x401040)
                            .tip(0x7f0000)
                            .tnt("TTT")
                            .fup(0x7f0010)
                            .tip_pgd()
                            .tip_pge(0x401022)
                            .fup(0x401023)
                            .tip_pgd();
  Decode r(trace);
  EXPECT_EQ(r.lines(), (Lines{"enabled 401040", "block 401040-401040 x1 indirect_call", "gap image_missing 7f0000",
                              "enabled 401022", "block 401022-401022 x1 none", "async_disabled 401023"}));
  // Every reader of PT would wait for the next PSB, which does not come.
  EXPECT_EQ(Decode(trace).lines(Resync::psb),
            (Lines{"enabled 401040", "block 401040-401040 x1 indirect_call", "gap image_missing 7f0000"}));
}

TEST_P(FlowEngine, ReturnCompressedAgainstAnUnseenCallIsAGapAndNoGuess) {
  Decode r(psb_off()
               .mode_exec()
               .tip_pge(0x401040)
               .tip(0x7f0000)
               .fup(0x7f0010)
               .tip_pgd()
               .tip_pge(0x401014)
               .tnt("T")
               .fup(0x401042)
               .tip_pgd()
               .tip_pge(0x401022)
               .fup(0x401023)
               .tip_pgd());
  EXPECT_EQ(r.lines(), (Lines{"enabled 401040", "block 401040-401040 x1 indirect_call", "gap image_missing 7f0000",
                              "enabled 401014", "block 401014-401014 x1 near_ret", "gap desync 401014",
                              "enabled 401022", "block 401022-401022 x1 none", "async_disabled 401023"}));
}

TEST_P(FlowEngine, StretchOfNobodyIsAGapWithItsBytes) {
  const PtBytes before = psb_off().mode_exec().tip_pge(0x401022).fup(0x401023).tip_pgd();
  PtBytes trace = before;
  trace.tip_pge(0x401000).tnt("NT").fup(0x401005).tip_pgd();
  const uint64_t end = trace.size();
  trace.tip_pge(0x401022).fup(0x401023).tip_pgd();
  Decode r(trace);
  r.selector.unknown = {{before.size(), end}};
  const std::vector<Event> events = r.events();
  Lines lines;
  for (const Event& e : events) lines.push_back(test::text_of(e));
  EXPECT_EQ(lines,
            (Lines{"enabled 401022", "block 401022-401022 x1 none", "async_disabled 401023", "gap unattributed 401000",
                   "enabled 401022", "block 401022-401022 x1 none", "async_disabled 401023"}));
  EXPECT_EQ(events[3].offset, before.size());
  EXPECT_EQ(events[3].count, r.trace.map.stretches[1].end - before.size());
}

TEST_P(FlowEngine, AllStretchesOfNobodyAreOneGapEach) {
  Decode r(psb_on(0x401000)
               .tnt("NT")
               .fup(0x401005)
               .tip_pgd()
               .tip_pge(0x401022)
               .fup(0x401023)
               .tip_pgd()
               .append(psb_on(0x401000))
               .tnt("N"));
  r.selector.unknown = {{0, 10000}};
  Lines lines = r.lines();
  std::erase(lines, "gap desync");  // of the second PSB+, whose FUP says that a TIP.PGE is missing
  EXPECT_EQ(lines, (Lines{"gap unattributed 401000", "gap unattributed 401022", "gap unattributed 401000",
                          "gap not_captured"}));
}

TEST_P(FlowEngine, OverflowIsAnEventAndAGapAndFlowGoesOn) {
  Decode r(psb_on(0x401000).tnt("N").ovf().fup(0x401005).tnt("T").fup(0x401005).tip_pgd());
  const Lines lines = r.lines();
  ASSERT_GE(lines.size(), 4u);
  EXPECT_THAT(lines, ::testing::IsSupersetOf(Lines{"block 401000-401000 x1 direct_call", "overflow 401005",
                                                   "gap pt_overflow", "block 401005-401006 x2 direct_jump"}));
}

TEST_P(FlowEngine, OverflowThatEndsWithTracingOff) {
  Decode r(psb_on(0x401000).tnt("N").ovf().append(psb_off()).tip_pge(0x401022).fup(0x401023).tip_pgd());
  EXPECT_THAT(r.lines(), ::testing::IsSupersetOf(Lines{"overflow", "gap pt_overflow", "enabled 401022",
                                                       "block 401022-401022 x1 none", "async_disabled 401023"}));
}

TEST_P(FlowEngine, AnyNumberOfPsbsThatSayNothingEnds) {
  PtBytes t = psb_on(0x401014).tnt("N");  // no such return
  for (int i = 0; i < 20000; ++i) t.psb();
  Decode r(t);
  EXPECT_FALSE(r.events().empty());
}

TEST_P(FlowEngine, APayloadThatLooksLikeAPsbHidesNoPsbBehindIt) {
  const PtBytes before = psb_on(0x401040).tip(0x7f0000).tip(0x8202, 1);  // ... 02 82, and the PSB's 02 82
  PtBytes trace = before;
  trace.append(psb_on(0x401022)).fup(0x401023).tip_pgd();
  Decode r(trace);
  const Lines want{"block 401022-401022 x1 none", "async_disabled 401023"};
  const Lines lines = r.lines(Resync::psb);
  EXPECT_EQ(Lines(lines.end() - std::min<ptrdiff_t>(2, std::ssize(lines)), lines.end()), want);
  Shared shared;
  const auto d = decoder(r.trace, {}, r.selector, shared);
  d->seek(before.size() + 3);
  std::vector<Event> batch(10);
  batch.resize(d->next(batch));
  ASSERT_GE(batch.size(), 2u);
  EXPECT_EQ(test::text_of(batch[batch.size() - 2]), want[0]);
}

TEST_P(FlowEngine, CodeThatGoesInCirclesWithoutTraceIsADesync) {
  Decode r(psb_on(0x401030).tnt("TTTT").fup(0x401030).tip_pgd().tip_pge(0x401022).fup(0x401023).tip_pgd());
  const Lines lines = r.lines();
  EXPECT_THAT(lines, ::testing::Contains("gap desync 401030"));
  EXPECT_EQ(lines.back(), "async_disabled 401023");
  EXPECT_LT(lines.size(), 300u);
}

TEST_P(FlowEngine, TipWithoutAnAddressIsADesyncWhetherTheCodeIsKnownOrNot) {
  Decode r(psb_on(0x401000).tnt("T").raw({0x0d}).tnt("TT").fup(0x401005).tip_pgd());
  // libipt remembers only code in sections.
  r.selector.image = test::code_at(test::kTinyBase, test::tiny_program());
  Shared shared;
  for (int i = 0; i < 3; ++i) {
    auto d = decoder(r.trace, {}, r.selector, shared);
    std::vector<Event> batch(20);
    batch.resize(d->next(batch));
    uint32_t returns = 0, gaps = 0;
    for (const Event& e : batch) {
      returns += e.end == BlockEnd::near_ret;
      gaps += e.cause == GapCause::desync;
    }
    EXPECT_EQ(returns, 1u) << i;
    EXPECT_EQ(gaps, 1u) << i;
  }
}

TEST_P(FlowEngine, TracingThatNothingTurnedOnIsADesync) {
  Decode r(psb_on(0x401022)
               .fup(0x401023)
               .tip_pgd()
               .append(psb_on(0x401000))
               .tnt("NT")
               .append(psb_on(0x401022))
               .fup(0x401023)
               .tip_pgd());
  const Lines lines = r.lines();
  EXPECT_THAT(lines, ::testing::Contains(::testing::StartsWith("gap desync")));
  // libipt trusts nothing up to the next PSB; but the path from the FUP on is certain.
  const auto block = ::testing::Contains(::testing::StartsWith("block 401010"));
  if (GetParam() == Engine::libipt)
    EXPECT_THAT(lines, ::testing::Not(block));
  else
    EXPECT_THAT(lines, block);
}

TEST_P(FlowEngine, WithoutAModeCodeIsNotDecodedWhetherItIsKnownOrNot) {
  const std::vector<uint8_t> program = test::tiny_program();
  Decode known(psb_on(0x401000).tnt("NT").fup(0x401005).tip_pgd());
  Decode r(PtBytes().psb().fup(0x401000).psbend().tnt("NT").fup(0x401005).tip_pgd());
  known.selector.image = r.selector.image = test::code_at(test::kTinyBase, program);
  Shared shared;
  const auto first_of = [&shared](Decode& d) {
    std::vector<Event> batch(1);
    batch.resize(decoder(d.trace, {}, d.selector, shared)->next(batch));
    return batch.empty() ? std::string() : test::text_of(batch[0]);
  };
  EXPECT_EQ(first_of(r), "gap desync 401000");
  EXPECT_EQ(first_of(known), "block 401000-401000 x1 direct_call");
  EXPECT_EQ(first_of(r), "gap desync 401000");
}

TEST_P(FlowEngine, TheModeAStretchBeginsInIsNoChangeOfMode) {
  Decode r(PtBytes()
               .psb()
               .mode_exec(2)
               .psbend()
               .tip_pge(0x401022)
               .fup(0x401023)
               .tip_pgd()
               .mode_exec(1)
               .tip_pge(0x401022)
               .fup(0x401023)
               .tip_pgd());
  EXPECT_EQ(r.lines(), (Lines{"enabled 401022", "block 401022-401022 x1 none", "async_disabled 401023",
                              "enabled 401022", "block 401022-401022 x1 none", "async_disabled 401023"}));
}

TEST_P(FlowEngine, BytesBeforeTheFirstPsbAreNotCaptured) {
  Decode r(PtBytes().tnt("TT").tnt("NN").append(psb_on(0x401022)).fup(0x401023).tip_pgd());
  EXPECT_EQ(r.lines(), (Lines{"gap not_captured", "block 401022-401022 x1 none", "async_disabled 401023"}));
}

TEST_P(FlowEngine, NothingIsDecodedAcrossAnEarlierFreeze) {
  const PtBytes before = psb_on(0x401000).tnt("N");
  PtBytes trace = before;
  trace.tnt("T").fup(0x401005).tip_pgd().append(psb_on(0x401022)).fup(0x401023).tip_pgd();
  Decode r(trace, {before.size()});
  const Lines lines = r.lines();
  EXPECT_THAT(lines, ::testing::Contains(::testing::AnyOf("gap cut", "gap not_captured")));
  EXPECT_THAT(lines, ::testing::Not(::testing::Contains("async_disabled 401005")));
  EXPECT_EQ(lines.back(), "async_disabled 401023");
}

TEST_P(FlowEngine, SeekContinuesAtThePsbBeforeTheOffset) {
  PtBytes trace = psb_on(0x401000).tnt("NT").fup(0x401005).tip_pgd();
  const uint64_t second = trace.size();
  trace.append(psb_off().mode_exec()).tip_pge(0x401022).fup(0x401023).tip_pgd();
  Decode r(trace);
  Shared shared;
  const auto d = decoder(r.trace, {}, r.selector, shared);
  std::vector<Event> batch(10);
  for (uint64_t offset : {second, second + 5, trace.size(), trace.size() + 100}) {
    d->seek(offset);
    ASSERT_EQ(d->next(batch), 3u) << offset;
    EXPECT_EQ(test::text_of(batch[1]), "block 401022-401022 x1 none");
  }
  d->seek(0);
  const size_t n = d->next(batch);
  Lines lines;
  for (size_t i = 0; i < n; ++i) lines.push_back(test::text_of(batch[i]));
  EXPECT_EQ(lines, r.lines());
  EXPECT_EQ(lines.size(), 7u);
}

TEST_P(FlowEngine, AfterASeekErrorsAreResumedFromAsBefore) {
  const PtBytes lost = psb_off()
                           .mode_exec()
                           .tip_pge(0x401040)
                           .tip(0x7f0000)
                           .fup(0x7f0010)
                           .tip_pgd()
                           .tip_pge(0x401022)
                           .fup(0x401023)
                           .tip_pgd();
  PtBytes trace = lost;
  trace.append(psb_off()).pad(500).append(lost);
  for (const std::vector<uint64_t>& cuts : {std::vector<uint64_t>{}, std::vector<uint64_t>{lost.size()}}) {
    Decode r(trace, cuts);
    Shared shared;
    const auto lines_from = [](FlowDecoder& d, uint64_t offset, size_t most) {
      d.seek(offset);
      std::vector<Event> batch(most);
      batch.resize(d.next(batch));
      Lines lines;
      for (const Event& e : batch) lines.push_back(test::text_of(e));
      return lines;
    };
    const auto used = decoder(r.trace, {}, r.selector, shared);
    const auto fresh = decoder(r.trace, {}, r.selector, shared);
    (void)lines_from(*used, 0, 4);  // one of them behind the first error
    const Lines lines = lines_from(*used, trace.size() - 10, 100);
    EXPECT_EQ(lines.back(), "async_disabled 401023");
    EXPECT_EQ(lines, lines_from(*fresh, trace.size() - 10, 100));
  }
}

TEST_P(FlowEngine, TimesNeverDecreaseAndHoldTheStretchsBounds) {
  Decode r(PtBytes()
               .psb()
               .tsc(1000)
               .mode_exec()
               .psbend()
               .tsc(2000)
               .tip_pge(0x401000)
               .tnt("NT")
               .fup(0x401005)
               .tip_pgd()
               .tsc(3000)
               .tip_pge(0x401022)
               .fup(0x401023)
               .tip_pgd()
               .tsc(4000));
  TscInterval last{Tsc::min(), Tsc::min()};
  for (const Event& e : r.events()) {
    EXPECT_LE(last.earliest, e.time.earliest);
    EXPECT_LE(last.latest, e.time.latest);
    EXPECT_LE(e.time.earliest, e.time.latest);
    last = e.time;
    if (e.kind == EventKind::block && e.ip < 0x401020) {
      EXPECT_GE(e.time.earliest.value(), 2000u);
      EXPECT_LE(e.time.latest.value(), 3000u + 1000u);  // up to the TSC packet, and how late packets are made
    }
  }
}

PtBytes long_trace() {
  PtBytes t = psb_on(0x401000);
  for (int i = 0; i < 6; ++i)
    t.tnt("NT")
        .fup(0x401005)
        .tip_pgd()
        .tsc(1000 + static_cast<uint64_t>(i))
        .mtc(static_cast<uint8_t>(i))
        .tip_pge(0x401020)
        .tip_pgd()
        .tip_pge(0x401022)
        .tnt("T")
        .fup(0x401005)
        .tip_pgd()
        .append(psb_off())
        .tip_pge(0x401000)
        .tnt("NT")
        .ovf()
        .fup(0x401005)
        .cyc(100)
        .tnt("NTNTNT")
        .tip(0x401040)
        .append(psb_on(0x401000));
  return t;
}

TEST_P(FlowEngine, TraceCutAnywhereEndsAndStaysInOrder) {
  const PtBytes whole = long_trace();
  for (size_t n = 0; n < whole.size(); ++n) {
    PtBytes part = whole;
    Decode r(part.drop_last(whole.size() - n));
    for (const Resync resync : {Resync::psb, Resync::earliest}) {
      TscInterval last{Tsc::min(), Tsc::min()};
      for (const Event& e : r.events(resync)) {
        ASSERT_LE(last.earliest, e.time.earliest) << n;
        ASSERT_LE(last.latest, e.time.latest) << n;
        ASSERT_LE(e.offset, n);
        last = e.time;
      }
    }
  }
}

TEST_P(FlowEngine, ByteFlippedAnywhereEndsAndStaysInOrder) {
  const std::vector<uint8_t> whole = long_trace().bytes();
  for (size_t at = 0; at < whole.size(); ++at) {
    for (const uint8_t flip : {0x01, 0x80, 0xff}) {
      PtBytes none;
      Decode r(none);
      r.data = whole;
      r.data[at] ^= flip;
      r.trace = PtTrace::scan(r.data, {});
      r.selector.unknown = {{at, at + 40}};
      for (const Resync resync : {Resync::psb, Resync::earliest}) (void)r.events(resync);
    }
  }
}

}  // namespace
}  // namespace hindcast::decode
