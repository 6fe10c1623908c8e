// SPDX-License-Identifier: MIT
// One guest thread's words on their way into its ring.
#pragma once

#include <atomic>
#include <cstdint>

#include "capture/sim/channel.h"
#include "capture/sim/plugin/courier.h"
#include "capture/sim/plugin/guest_cpu.h"
#include "capture/sim/plugin/signal_tracker.h"

namespace hindcast::sim {

struct TimeAndCpu {
  uint64_t tsc;
  uint32_t cpu;
};
inline TimeAndCpu time_and_cpu() {
  uint32_t lo, hi, aux;
  asm volatile("rdtscp" : "=a"(lo), "=d"(hi), "=c"(aux));
  return {uint64_t{hi} << 32 | lo, aux & 0xfff};  // Linux puts the CPU in the low 12 bits
}

/// Plain data in thread-local storage: zero means a thread that has no ring yet, and its first block finds that
/// position has reached limit.
struct ThreadStream {
  uint64_t position = 0;  // words written
  uint64_t limit = 0;     // at this position the next block takes the slow way (a mark, space in the ring)
  uint32_t* words = nullptr;
  uint64_t mask = 0;
  std::atomic<uint64_t>* shared_position = nullptr;  // the header's, or our own when recording has ended

  RingHeader* header = nullptr;
  uint64_t after_special = 0;  // position behind the last special word
  uint64_t taken = 0;          // by the daemon, as last seen
  GuestCpu* cpu = nullptr;
  Courier* courier = nullptr;
  bool ready = false;
  bool off = false;                // recording of this thread has ended
  bool in_soft_interrupt = false;  // between INT n and its return
  bool after_sigreturn = false;    // the last special word is rt_sigreturn's return
  uint32_t scratch_word = 0;
  std::atomic<uint64_t> scratch_position{0};
  SignalTracker signals;

  /// Blocks between two marks. A mark costs about 20 ns, a block 1 to 2.
  static constexpr uint64_t kMarkEvery = 64;
  static constexpr uint64_t kMapBytes = kPageBytes + kRingWords * 4;

  /// Announces a ring for the calling thread. Ends recording of the thread when that fails.
  void open(Courier& to_daemon, int pid, int tid);

  void push_block(uint32_t id) {
    words[position & mask] = id;
    advance(1);
  }
  /// The id of the last word, when it is a block.
  bool last_is_block(uint32_t& id) const {
    if (off || position == 0 || position == after_special) return false;
    id = words[(position - 1) & mask];
    return true;
  }
  /// Writes a special word and what belongs to it, and publishes. The others are this with names.
  void push_special(Word type, uint32_t low24, uint64_t a, uint64_t b = 0);
  /// Names the time, which it returns.
  uint64_t mark();
  void cut(uint32_t instructions) { push_special(Word::cut, instructions, 0); }
  /// The thread ends: its last word, and the ring is given up.
  void close();
  /// The daemon is gone, or this is a fork's child: forget the ring without touching it.
  void switch_off();

 private:
  void advance(uint64_t n) {
    position += n;
    shared_position->store(position, std::memory_order_release);
  }
  void publish() { header->written.store(position, std::memory_order_release); }
  bool reserve(uint64_t n);
};

}  // namespace hindcast::sim
