// SPDX-License-Identifier: MIT
#include "capture/sim/plugin/signal_tracker.h"

#include <csignal>
#include <iterator>

#include "capture/sim/plugin/guest_memory.h"

namespace hindcast::sim {
namespace {

// What delivery sets and what it leaves alone (linux/arch/x86/kernel/signal.c, QEMU linux-user/i386/signal.c). A handler
// that jumps back to its own start has changed some of them, or is told apart by the caller.
bool registers_as_delivered(const GuestCpu& cpu, const GuestSignalFrame& f) {
  const uint64_t* r = cpu.regs;
  return r[rdx] == r[rsp] + 8 && r[rax] == 0 && r[rdi] >= 1 && r[rdi] <= 64 && r[rcx] == f.rcx && r[rbx] == f.rbx &&
         r[rbp] == f.rbp && r[r8] == f.r8 && r[r9] == f.r9 && r[r10] == f.r10 && r[r11] == f.r11 && r[r12] == f.r12 &&
         r[r13] == f.r13 && r[r14] == f.r14 && r[r15] == f.r15;
}

struct SignalInfo {
  int32_t number, error, code;
};

// Signals that an instruction can raise.
bool can_be_fault(uint64_t signal) {
  switch (signal) {
    case SIGSEGV:
    case SIGBUS:
    case SIGILL:
    case SIGFPE:
    case SIGTRAP:
      return true;
    default:
      return false;
  }
}

}  // namespace

uint64_t SignalHandlers::on_sigaction(uint64_t signal, uint64_t action_address) {
  GuestSigaction action;
  if (action_address == 0 || !read_guest(action_address, action)) return 0;
  if (action.handler <= 1) return 0;  // SIG_DFL, SIG_IGN
  std::lock_guard lock(mutex_);
  if (signal < std::size(flags_)) flags_[signal] = action.flags;
  auto [from, to] = restorers_.equal_range(action.handler);
  for (; from != to; ++from) {
    if (from->second == action.restorer) return action.handler;
  }
  restorers_.emplace(action.handler, action.restorer);
  return action.handler;
}

bool SignalHandlers::is_handler(uint64_t ip, uint64_t restorer) const {
  std::lock_guard lock(mutex_);
  auto [from, to] = restorers_.equal_range(ip);
  for (; from != to; ++from) {
    if (from->second == restorer) return true;
  }
  return false;
}

bool SignalHandlers::gets_siginfo(uint64_t signal) const {
  std::lock_guard lock(mutex_);
  return signal < std::size(flags_) && (flags_[signal] & SA_SIGINFO) != 0;
}

SignalTracker::Frame* SignalTracker::find(uint64_t address) {
  for (Frame& f : frames_) {
    if (f.address == address) return &f;
  }
  return nullptr;
}

void SignalTracker::enter(uint64_t address, bool begun) {
  Frame* f = find(address);
  if (!f) f = &frames_[next_++ % kFrames];
  *f = {address, begun};
}

void SignalTracker::on_sigreturn(uint64_t stack_pointer) {
  if (Frame* f = find(stack_pointer - 8)) *f = {};  // the handler's RET popped the restorer's address
}

bool SignalTracker::is_delivery(const SignalHandlers& handlers, const Block& block, const GuestCpu& cpu,
                                const Block* last, bool resumed, Delivery& delivery) {
  const uint64_t at = cpu.regs[rsp];
  GuestSignalFrame frame;
  if (!read_guest(at, frame) || !registers_as_delivered(cpu, frame) || !handlers.is_handler(block.ip, frame.restorer)) {
    return false;
  }
  if (Frame* known = find(at)) {
    if (!known->begun && resumed) {  // told when the delivery above it was
      known->begun = true;
      return false;
    }
    if (known->begun && last && last->leads_to(block.ip)) return false;  // a loop that changes no register
  }
  enter(at, true);
  delivery.signal = static_cast<uint32_t>(cpu.regs[rdi]);

  // Several signals at once: the kernel builds one frame per signal before the program runs on, each interrupting the
  // handler before it at its first instruction. What was interrupted is told by the first.
  uint64_t info_address = cpu.regs[rsi];
  uint64_t cause = cpu.regs[rdi];
  for (uint32_t depth = 0; depth < kFrames; ++depth) {
    GuestSignalFrame below;
    if (frame.rdx != frame.rsp + 8 || !read_guest(frame.rsp, below)) break;
    if (!handlers.is_handler(frame.rip, below.restorer)) break;
    const Frame* known = find(frame.rsp);
    if (known && known->begun) break;
    enter(frame.rsp, false);
    info_address = frame.rsi;
    cause = frame.rdi;
    frame = below;
  }
  delivery.interrupted = frame.rip;
  delivery.cause = static_cast<uint32_t>(cause);
  delivery.fault = can_be_fault(cause);
  SignalInfo info;
  if (delivery.fault && handlers.gets_siginfo(cause) && read_guest(info_address, info)) {
    delivery.fault = info.code > 0;  // else somebody sent it (SI_USER, SI_TKILL, SI_QUEUE)
  }
  return true;
}

}  // namespace hindcast::sim
