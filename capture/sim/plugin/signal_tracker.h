// SPDX-License-Identifier: MIT
// Tells a signal's delivery from any other way to the first instruction of its handler, and what it interrupted.
#pragma once

#include <cstdint>
#include <mutex>
#include <unordered_map>

#include "capture/sim/plugin/block_table.h"
#include "capture/sim/plugin/guest_cpu.h"

namespace hindcast::sim {

/// The handlers of the process, as rt_sigaction set them. All threads; a lock inside.
class SignalHandlers {
 public:
  /// rt_sigaction(signal, action, ...) is about to be done. Returns the handler's address, 0 when it sets none.
  uint64_t on_sigaction(uint64_t signal, uint64_t action_address);
  bool is_handler(uint64_t ip, uint64_t restorer) const;
  /// The signal's frame holds a siginfo; without SA_SIGINFO that place keeps what was on the stack before.
  bool gets_siginfo(uint64_t signal) const;
  std::mutex& mutex() { return mutex_; }

 private:
  mutable std::mutex mutex_;
  std::unordered_multimap<uint64_t, uint64_t> restorers_;  // by handler
  uint64_t flags_[65] = {};                                // by signal, as set last
};

struct Delivery {
  uint32_t signal = 0;       // of the handler that runs now
  uint64_t interrupted = 0;  // where the program would have gone on
  uint32_t cause = 0;        // the first signal, which was delivered there: it differs when two came at once
  bool fault = false;        // that one was raised by the instruction at `interrupted` (or the trap right before it)
};

/// One thread's frames of handlers that are under way. Plain data; lives in thread-local storage.
class SignalTracker {
 public:
  /// A block that begins at a handler is about to run. last is the block before it, null when something else (a system
  /// call) lies between; resumed says that this something was rt_sigreturn. True when this is a delivery.
  bool is_delivery(const SignalHandlers& handlers, const Block& block, const GuestCpu& cpu, const Block* last,
                   bool resumed, Delivery& delivery);
  void on_sigreturn(uint64_t stack_pointer);

 private:
  struct Frame {
    uint64_t address;
    bool begun;  // false: built by the kernel below another delivery, to run after that one
  };
  static constexpr uint32_t kFrames = 16;

  Frame* find(uint64_t address);
  void enter(uint64_t address, bool begun);

  Frame frames_[kFrames] = {};
  uint32_t next_ = 0;
};

}  // namespace hindcast::sim
