#include "decode/calls.h"

#include <gtest/gtest.h>

#include "tests/support/tiny_host.h"
#include "tests/support/tiny_program.h"

namespace hindcast::decode {
namespace {

/// Feeds a tracker events written out by hand; the code is real, so that return addresses are.
class Calls : public ::testing::Test {
 public:
  Calls() {
    host_.code(kNoPid, test::kTinyBase, test::tiny_program());
    // One stretch for the events to be in.
    host_.pt(kNoCpu, test::PtBytes().psb().mode_exec().fup(0x401000).psbend().tnt("N"), Tid(1));
    trace_ = host_.build();
    tracker_ = std::make_unique<CallTracker>(*trace_);
  }
  Calls& feed(Event e) {
    FlowEvent f;
    f.event = e;
    f.tid = Tid(1);
    f.stream = 1;
    f.stretch = 0;
    tracker_->feed(f, out_);
    return *this;
  }
  Calls& block(uint64_t ip, uint64_t last, BlockEnd end, uint32_t count = 1) {
    Event e;
    e.kind = EventKind::block;
    e.ip = ip;
    e.last_ip = last;
    e.end = end;
    e.count = count;
    return feed(e);
  }
  Calls& event(EventKind kind, uint64_t ip = 0) {
    Event e;
    e.kind = kind;
    e.ip = ip;
    return feed(e);
  }
  /// ">401010@0" entered at depth 0; "<401010@0" left; flags: S signal, ? uncertain, ! unwound, _ below, ~ open.
  std::string text() const {
    std::string t;
    for (const CallEvent& c : out_) {
      char line[64];
      std::snprintf(line, sizeof line, "%s%c%llx@%d", t.empty() ? "" : " ", c.kind == CallKind::enter ? '>' : '<',
                    static_cast<unsigned long long>(c.function), c.depth);
      t += line;
      for (const auto& [flag, mark] :
           {std::pair(kCallSignal, 'S'), std::pair(kCallUncertain, '?'), std::pair(kCallUnwound, '!'),
            std::pair(kCallBelowStart, '_'), std::pair(kCallOpen, '~')})
        if (c.flags & flag) t += mark;
    }
    return t;
  }

  test::TinyHost host_;
  std::unique_ptr<HostTrace> trace_;
  std::unique_ptr<CallTracker> tracker_;
  std::vector<CallEvent> out_;
};

TEST_F(Calls, CallAndItsReturn) {
  block(0x401000, 0x401000, BlockEnd::direct_call)
      .block(0x401010, 0x401014, BlockEnd::near_ret, 4)
      .block(0x401005, 0x401006, BlockEnd::direct_jump, 2);
  EXPECT_EQ(text(), ">401010@0 <401010@0");
  EXPECT_EQ(out_[0].from, 0x401000u);
  EXPECT_EQ(out_[0].return_address, 0x401005u);
  EXPECT_EQ(out_[1].enter_index, 1u);
  EXPECT_EQ(out_[1].instructions, 4u);
  EXPECT_EQ(out_[1].from, 0x401014u);
  EXPECT_EQ(tracker_->depth(), 0u);
}

TEST_F(Calls, TailCallKeepsTheFrame) {
  block(0x401000, 0x401000, BlockEnd::direct_call)
      .block(0x401010, 0x401010, BlockEnd::direct_jump)
      .block(0x401014, 0x401014, BlockEnd::near_ret)
      .block(0x401005, 0x401005, BlockEnd::none);
  EXPECT_EQ(text(), ">401010@0 <401010@0");
}

TEST_F(Calls, ReturnThatSkipsFramesUnwindsThem) {
  block(0x401000, 0x401000, BlockEnd::direct_call)
      .block(0x401010, 0x401040, BlockEnd::indirect_call)
      .block(0x401020, 0x401022, BlockEnd::near_ret)
      .block(0x401005, 0x401005, BlockEnd::none);
  EXPECT_EQ(text(), ">401010@0 >401020@1 <401020@1! <401010@0");
}

TEST_F(Calls, ReturnBelowTheStartGoesNegative) {
  block(0x401014, 0x401014, BlockEnd::near_ret)
      .block(0x402000, 0x402000, BlockEnd::near_ret)
      .block(0x401000, 0x401000, BlockEnd::direct_call);
  block(0x401010, 0x401010, BlockEnd::none);
  EXPECT_EQ(text(), "<0@-1_ <0@-2_ >401010@-2");
}

TEST_F(Calls, LongjmpGoesBackToWhereAShortCallReturned) {
  block(0x401000, 0x401000, BlockEnd::direct_call)         // f
      .block(0x401010, 0x401040, BlockEnd::indirect_call)  // setjmp
      .block(0x401014, 0x401014, BlockEnd::near_ret)       // its first return
      .block(0x401042, 0x401040, BlockEnd::indirect_call)  // g, from the same place
      .block(0x401030, 0x401000, BlockEnd::direct_call)    // h
      .block(0x401010, 0x401043, BlockEnd::indirect_jump)  // longjmp
      .block(0x401042, 0x401014, BlockEnd::near_ret)       // f returns
      .block(0x401005, 0x401005, BlockEnd::none);
  EXPECT_EQ(text(), ">401010@0 >401014@1 <401014@1 >401030@1 >401010@2 <401010@2! <401030@1! <401010@0");
}

TEST_F(Calls, IndirectJumpElsewhereKeepsTheFrame) {
  block(0x401000, 0x401000, BlockEnd::direct_call)
      .block(0x401010, 0x401043, BlockEnd::indirect_jump)
      .block(0x401022, 0x401022, BlockEnd::near_ret)
      .block(0x401005, 0x401005, BlockEnd::none);
  EXPECT_EQ(text(), ">401010@0 <401010@0");
}

TEST_F(Calls, ReturnToNowherePutsOpenFramesInDoubt) {
  block(0x401000, 0x401000, BlockEnd::direct_call)
      .block(0x401010, 0x401014, BlockEnd::near_ret)
      .block(0x401030, 0x401014, BlockEnd::near_ret)
      .block(0x401005, 0x401005, BlockEnd::none);
  EXPECT_EQ(text(), ">401010@0 <401010@0?");
}

TEST_F(Calls, SyscallIsNoFrame) {
  block(0x401020, 0x401020, BlockEnd::far_transfer)
      .event(EventKind::disabled)
      .event(EventKind::enabled, 0x401022)
      .block(0x401022, 0x401022, BlockEnd::none);
  EXPECT_EQ(text(), "");
}

TEST_F(Calls, PreemptionIsNoFrame) {
  block(0x401000, 0x401000, BlockEnd::direct_call).block(0x401010, 0x401012, BlockEnd::none, 2);
  event(EventKind::async_disabled, 0x401013)
      .event(EventKind::enabled, 0x401013)
      .block(0x401013, 0x401014, BlockEnd::near_ret)
      .block(0x401005, 0x401005, BlockEnd::none);
  EXPECT_EQ(text(), ">401010@0 <401010@0");
}

TEST_F(Calls, InterruptionRightAfterACallStillSeesTheCall) {
  block(0x401000, 0x401000, BlockEnd::direct_call)
      .event(EventKind::async_disabled, 0x401010)
      .event(EventKind::enabled, 0x401010);
  block(0x401010, 0x401014, BlockEnd::near_ret).block(0x401005, 0x401005, BlockEnd::none);
  EXPECT_EQ(text(), ">401010@0 <401010@0");
}

TEST_F(Calls, SignalHandlerIsAFrameUntilItsReturnResumesTheInterruptedCode) {
  block(0x401010, 0x401012, BlockEnd::none)
      .event(EventKind::async_disabled, 0x401013)
      .event(EventKind::enabled, 0x401042)
      .block(0x401042, 0x401014, BlockEnd::near_ret)      // the handler returns to the restorer
      .block(0x401020, 0x401020, BlockEnd::far_transfer)  // rt_sigreturn
      .event(EventKind::disabled)
      .event(EventKind::enabled, 0x401013)
      .block(0x401013, 0x401013, BlockEnd::none);
  EXPECT_EQ(text(), ">401042@0S <401042@0S");
}

TEST_F(Calls, HandlerThatRunsBeforeASystemCallReturns) {
  block(0x401020, 0x401020, BlockEnd::far_transfer)
      .event(EventKind::disabled)
      .event(EventKind::enabled, 0x401042)
      .block(0x401042, 0x401014, BlockEnd::near_ret)
      .block(0x401023, 0x401023, BlockEnd::far_transfer)
      .event(EventKind::disabled)
      .event(EventKind::enabled, 0x401022)
      .block(0x401022, 0x401022, BlockEnd::none);
  EXPECT_EQ(text(), ">401042@0S <401042@0S");
}

TEST_F(Calls, GapKeepsTheStackButInDoubt) {
  block(0x401000, 0x401000, BlockEnd::direct_call)
      .block(0x401010, 0x401012, BlockEnd::none, 2)
      .event(EventKind::gap)
      .block(0x401014, 0x401014, BlockEnd::near_ret)
      .block(0x401005, 0x401005, BlockEnd::none);
  EXPECT_EQ(text(), ">401010@0 <401010@0?");
}

TEST_F(Calls, CallBeforeAGapIsNotTakenToReachTheBlockBehindIt) {
  block(0x401000, 0x401000, BlockEnd::direct_call).event(EventKind::gap).block(0x401022, 0x401022, BlockEnd::none);
  EXPECT_EQ(text(), "");
}

TEST_F(Calls, FramesOpenAtTheEndAreSaidToBe) {
  block(0x401000, 0x401000, BlockEnd::direct_call)
      .block(0x401010, 0x401040, BlockEnd::indirect_call)
      .block(0x401020, 0x401020, BlockEnd::none);
  tracker_->finish(out_);
  EXPECT_EQ(text(), ">401010@0 >401020@1 <401020@1~ <401010@0~");
}

}  // namespace
}  // namespace hindcast::decode
