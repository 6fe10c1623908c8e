// A difference between the engines is seen: the same flow twice, and something changed in one of them.
#include "decode/engine_compare.h"

#include <gtest/gtest.h>

#include "tests/support/tiny_host.h"
#include "tests/support/tiny_program.h"

namespace hindcast::decode {
namespace {

using test::PtBytes;
using test::text_of;
using Flow = std::vector<FlowEvent>;

class ListCursor final : public FlowCursor {
 public:
  explicit ListCursor(Flow flow) : flow_(std::move(flow)) {}
  size_t next(std::span<FlowEvent> out) override {
    const size_t n = std::min({out.size(), flow_.size() - at_, size_t{3}});
    std::copy_n(flow_.begin() + static_cast<ptrdiff_t>(at_), n, out.begin());
    at_ += n;
    return n;
  }

 private:
  Flow flow_;
  size_t at_ = 0;
};

/// What the fast engine says of a small trace: five stretches, each `enabled`, three blocks (call, branch, ret),
/// `async_disabled`.
const Flow& real_flow() {
  static const Flow flow = [] {
    test::TinyHost h;
    h.code(kNoPid, test::kTinyBase, test::tiny_program());
    PtBytes pt = PtBytes().psb().tsc(1000).mode_exec().psbend();
    for (uint64_t i = 1; i <= 5; ++i)
      pt.tsc(1000 + 1000 * i).tip_pge(0x401000).tnt("NT").fup(0x401005).tip_pgd().tsc(1500 + 1000 * i);
    const uint32_t id = h.pt(CpuId(0), pt);
    return test::all_events(**h.build()->stream_flow(id));
  }();
  return flow;
}

constexpr size_t kPerStretch = 5;
constexpr uint32_t kStretch = 2;
constexpr size_t kAt = kStretch * kPerStretch + 2;  // the branch in the middle of the third stretch

EngineComparison compare(const Flow& fast, const Flow& libipt) {
  return compare_flows(std::make_unique<ListCursor>(fast), std::make_unique<ListCursor>(libipt));
}

FlowEvent gap(uint32_t stretch, uint64_t from, uint32_t bytes) {
  FlowEvent e;
  e.stretch = stretch;
  e.event.kind = EventKind::gap;
  e.event.cause = GapCause::desync;
  e.event.offset = from;
  e.event.count = bytes;
  return e;
}

/// Changed flow against the real one, in both roles. The place and context of what is found must be that of kAt.
void expect_found(const Flow& changed, const Event& instead) {
  const Flow& real = real_flow();
  for (const bool fast_changed : {true, false}) {
    const EngineComparison c = fast_changed ? compare(changed, real) : compare(real, changed);
    EXPECT_EQ(c.stretches, 5u);
    EXPECT_EQ(c.different, 1u);
    EXPECT_EQ(c.beside_gaps, 0u);
    ASSERT_TRUE(c.first);
    EXPECT_EQ(c.first->stretch, kStretch);
    EXPECT_EQ(c.first->offset, real[kAt].event.offset);
    ASSERT_TRUE(c.first->before);
    EXPECT_EQ(text_of(*c.first->before), text_of(real[kAt - 1].event));
    const auto& in_real = fast_changed ? c.first->libipt : c.first->fast;
    const auto& in_changed = fast_changed ? c.first->fast : c.first->libipt;
    ASSERT_TRUE(in_real);
    EXPECT_EQ(text_of(*in_real), text_of(real[kAt].event));
    ASSERT_TRUE(in_changed);
    EXPECT_EQ(text_of(*in_changed), text_of(instead));
  }
}

TEST(EngineCompare, TheFlowIsWhatTheseTestsTakeItFor) {
  ASSERT_EQ(real_flow().size(), 5 * kPerStretch);
  EXPECT_EQ(real_flow()[kAt].stretch, kStretch);
  EXPECT_EQ(text_of(real_flow()[kAt].event), "block 401010-401010 x1 cond_branch");
}

TEST(EngineCompare, EqualFlowsAreEqual) {
  size_t told = 0;
  const auto cursor = [] { return std::make_unique<ListCursor>(real_flow()); };
  const EngineComparison c = compare_flows(cursor(), cursor(), [&](const Event&) { ++told; });
  EXPECT_EQ(c.stretches, 5u);
  EXPECT_EQ(c.events, real_flow().size());
  EXPECT_EQ(told, real_flow().size());
  EXPECT_EQ(c.different + c.beside_gaps, 0u);
  EXPECT_FALSE(c.first);
}

TEST(EngineCompare, EachFieldOfAnEventCounts) {
  const auto changes = std::vector<void (*)(Event&)>{
      [](Event& e) { ++e.ip; },
      [](Event& e) { ++e.last_ip; },
      [](Event& e) { ++e.count; },
      [](Event& e) { ++e.to; },
      [](Event& e) { e.end = BlockEnd::near_ret; },
      [](Event& e) { e.kind = EventKind::async_branch; },
      [](Event& e) {
        e.time = {Tsc(1), Tsc(2)};
      },
  };
  for (size_t i = 0; i < changes.size(); ++i) {
    SCOPED_TRACE(i);
    Flow changed = real_flow();
    changes[i](changed[kAt].event);
    expect_found(changed, changed[kAt].event);
  }
}

TEST(EngineCompare, TimesThatOverlapAndOffsetsDoNotCount) {
  Flow wider = real_flow();
  for (FlowEvent& e : wider) {
    e.event.time = {e.event.time.earliest, Tsc::max()};
    e.event.offset += e.event.kind == EventKind::block;
  }
  EXPECT_EQ(compare(real_flow(), wider).different, 0u);
}

TEST(EngineCompare, AnEventLessIsFound) {
  Flow changed = real_flow();
  changed.erase(changed.begin() + kAt);
  expect_found(changed, real_flow()[kAt + 1].event);
}

TEST(EngineCompare, AnEventMoreIsFound) {
  Flow changed = real_flow();
  changed.insert(changed.begin() + kAt, changed[kAt - 1]);
  expect_found(changed, changed[kAt].event);
}

TEST(EngineCompare, AStretchLessIsFound) {
  Flow changed = real_flow();
  const auto from = changed.begin() + kStretch * kPerStretch;
  changed.erase(from, from + kPerStretch);
  for (const EngineComparison& c : {compare(changed, real_flow()), compare(real_flow(), changed)}) {
    EXPECT_EQ(c.different, 1u);
    ASSERT_TRUE(c.first);
    EXPECT_EQ(c.first->stretch, kStretch);
    EXPECT_FALSE(c.first->before);
  }
}

TEST(EngineCompare, TheFirstOfSeveralIsToldAndAllAreCounted) {
  Flow changed = real_flow();
  ++changed[kAt].event.ip;
  ++changed[kAt + kPerStretch].event.ip;
  const EngineComparison c = compare(changed, real_flow());
  EXPECT_EQ(c.different, 2u);
  EXPECT_EQ(c.first->stretch, kStretch);
}

TEST(EngineCompare, WhatOneEngineSaysIsLostIsNoDifference) {
  Flow changed = real_flow();
  const uint64_t from = changed[kAt].event.offset;
  changed[kAt] = gap(kStretch, from, 1);
  for (const EngineComparison& c : {compare(changed, real_flow()), compare(real_flow(), changed)}) {
    EXPECT_EQ(c.different, 0u);
    EXPECT_EQ(c.beside_gaps, 1u);
  }
}

TEST(EngineCompare, AGapHidesTheStretchesThatItReachesInto) {
  Flow changed = real_flow();
  const auto at = changed.begin() + kAt;
  const auto until = changed.begin() + (kStretch + 2) * kPerStretch;
  const uint64_t from = at->event.offset;
  const auto bytes = static_cast<uint32_t>(until->event.offset - from);
  *at = gap(kStretch, from, bytes);
  changed.erase(at + 1, until);
  EXPECT_EQ(compare(changed, real_flow()).different, 0u);
  EXPECT_EQ(compare(changed, real_flow()).beside_gaps, 2u);
}

TEST(EngineCompare, AGapSomewhereElseHidesNothing) {
  const Flow& real = real_flow();
  for (const size_t where : {kStretch * kPerStretch, (kStretch + 1) * kPerStretch}) {  // in front, and behind
    SCOPED_TRACE(where);
    Flow changed = real;
    ++changed[kAt].event.ip;
    const uint64_t from = where < kAt ? real[where].event.offset - 9 : real[where].event.offset - 2;
    changed.insert(changed.begin() + static_cast<ptrdiff_t>(where), gap(kNoStretch, from, 1));
    const Event instead = changed[where < kAt ? kAt + 1 : kAt].event;
    expect_found(changed, instead);
  }
}

TEST(EngineCompare, DamageThatReachesOverTheBeginningHidesTheStretch) {
  for (const bool begins_by_event : {true, false}) {
    SCOPED_TRACE(begins_by_event);
    Flow real = real_flow();
    const auto enabled = real.begin() + kStretch * kPerStretch;
    const uint64_t begin = enabled->event.offset;
    if (!begins_by_event) real.erase(enabled);
    Flow changed = real;
    ++changed[kAt].event.ip;
    changed.insert(changed.begin() + kStretch * kPerStretch, gap(kNoStretch, begin - 2, 3));
    Event& damage = changed[kStretch * kPerStretch].event;
    for (const GapCause cause : {GapCause::desync, GapCause::image_missing}) {
      damage.cause = cause;
      EXPECT_EQ(compare(changed, real).different, 0u);
      EXPECT_EQ(compare(real, changed).beside_gaps, 1u);
    }
    damage.cause = GapCause::pt_overflow;
    EXPECT_EQ(compare(changed, real).different, 1u) << "both tell it, and it ends there";
  }
}

TEST(EngineCompare, AGapAtEitherEventHidesTheirDifference) {
  Flow changed = real_flow();
  FlowEvent& other = changed[kAt];
  other.event.offset += 1;
  ++other.event.ip;
  const uint64_t at = other.event.offset;
  changed.insert(changed.begin() + kAt, gap(kNoStretch, at, 0));
  EXPECT_EQ(compare(changed, real_flow()).different, 0u);
  EXPECT_EQ(compare(real_flow(), changed).different, 0u);
}

TEST(EngineCompare, WhatLiesInNoStretchIsNotCompared) {
  FlowEvent paging;
  paging.stretch = kNoStretch;
  paging.event.kind = EventKind::paging;
  Flow changed = real_flow();
  changed.insert(changed.begin() + kStretch * kPerStretch, paging);
  EXPECT_EQ(compare(changed, real_flow()).different, 0u);
  EXPECT_EQ(compare(real_flow(), changed).stretches, 5u);
  ++changed[kAt + 1].event.ip;
  expect_found(changed, changed[kAt + 1].event);
}

TEST(EngineCompare, WhereOneEngineCutsABlockIsUpToIt) {
  Flow cut = real_flow();
  FlowEvent& ret = cut[kAt + 1];  // nop, nop, ret
  ASSERT_EQ(text_of(ret.event), "block 401012-401014 x3 near_ret");
  FlowEvent piece = ret;
  piece.event.end = BlockEnd::none;
  piece.event.count = 1;
  piece.event.last_ip = piece.event.ip;
  ret.event.count = 2;
  ret.event.ip = 0x401013;
  cut.insert(cut.begin() + kAt + 1, piece);
  EXPECT_EQ(compare(cut, real_flow()).different, 0u);
  EXPECT_EQ(compare(real_flow(), cut).different, 0u);
  ++cut[kAt + 1].event.count;
  EXPECT_EQ(compare(cut, real_flow()).different, 1u) << "pieces must add up";
}

TEST(EngineCompare, OnlyLibiptMayNameABlockMoreAtTheEndOfAStretch) {
  Flow less = real_flow();
  const auto last = less.begin() + (kStretch + 1) * kPerStretch - 1;
  less.erase(last - 1, last + 1);  // the ret and async_disabled
  Flow more = real_flow();
  more.erase(more.begin() + (kStretch + 1) * kPerStretch - 1);
  EXPECT_EQ(compare(less, more).different, 0u);
  EXPECT_EQ(compare(more, less).different, 1u);
  EXPECT_EQ(compare(less, real_flow()).different, 1u) << "two more";
}

}  // namespace
}  // namespace hindcast::decode
