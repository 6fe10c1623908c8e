// Calls and returns of one thread, from its flow: a stack that survives tail calls, longjmp, exceptions and
// signals.
//
// This stack belongs to the thread; the CPU's RET compression stack (64 entries) is another thing.
//   call     pushes the return address; a direct call to the next instruction reads its own address and is no frame
//   ret      pops down to the frame whose return address was hit (longjmp and exceptions unwind several); one that
//            matches no frame while none is open leaves below what was captured: depth goes negative, kCallBelowStart;
//            one that matches none of the open frames puts all of them in doubt (landing pads, fibers)
//   jump     tail calls keep the frame; a jump to where a short call of an open frame came back to is a longjmp
//   signal   an interruption or system call that goes on elsewhere opens a handler frame; it closes when rt_sigreturn
//            resumes at the interrupted address (or at the system call, to run it again)
//   syscall  no frame
//   exec     closes all frames
// After a gap the stack is kept and every open frame is uncertain.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "decode/host_trace.h"
#include "hindcast/event.h"

namespace hindcast::decode {

enum class CallKind : uint8_t { enter, exit };

enum CallFlag : uint8_t {
  kCallSignal = 1,      // a signal handler's frame
  kCallUncertain = 2,   // exit: a gap, or a return to an unknown place, lies between this frame's enter and now
  kCallUnwound = 4,     // exit: left by longjmp, an exception or a missed return, not by its own RET
  kCallBelowStart = 8,  // exit: of a frame entered before the capture began
  kCallOpen = 16,       // exit: still open when the flow ended
};

struct CallEvent {
  CallKind kind = CallKind::enter;
  uint8_t flags = 0;
  int32_t depth = 0;            // of the frame; 0 for frames entered from where the capture began; below that, negative
  uint64_t function = 0;        // first instruction of the callee; 0 when it was entered before the capture
  uint64_t from = 0;            // enter: address of the call; exit: of the last instruction run in the frame, 0 unknown
  uint64_t return_address = 0;  // where the frame returns to; 0 unknown
  TscInterval time;
  CpuId cpu = kNoCpu;
  uint64_t enter_index = 0;  // exit: number of the matching enter event, counted from 1; 0: none
  uint64_t instructions =
      0;  // exit: instructions run between enter and exit, callees included; lower bound if uncertain
};

/// Feed a thread's FlowEvents in order; calls come out in order. Not thread-safe; one per thread flow.
class CallTracker {
 public:
  /// trace is borrowed: it supplies the code bytes for instruction lengths.
  explicit CallTracker(const HostTrace& trace);
  ~CallTracker();
  CallTracker(CallTracker&&) noexcept;
  CallTracker& operator=(CallTracker&&) noexcept;

  /// Appends what this event causes to out.
  void feed(const FlowEvent& event, std::vector<CallEvent>& out);
  /// Ends all open frames (flag kCallOpen), innermost first.
  void finish(std::vector<CallEvent>& out);
  size_t depth() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace hindcast::decode
