// Puts what all guest threads ran onto the CPUs and times where they ran, then encodes once per CPU.
//
// A thread's words name a time every few dozen blocks; the kernel's switch records say on which CPU it was when. Between
// two named times ("a span") its instructions are spread evenly over the time that it was on a CPU. Where the CPU was
// taken from it in between, tracing is interrupted at the instruction that this puts there, as a real preemption would
// do; so do timer ticks and page faults. Content is exact in any case: clocks and switch records decide only where and
// when.
//
//      thread 7  words   |----span----|--span--|      |--span--|
//      slices of 7         CPU 0 [        ]   CPU 1 [              ]
//      CPU 0            ...PGE blocks FUP PGD          (others)
//      CPU 1                                PGE blocks PGD(syscall) PGE blocks
//
// Distance: tracing begins and ends about a microsecond inside its slice, as the kernel's own work makes it, so that a
// decoder with the timing of MTC can tell neighbouring threads apart. Named times are never moved.
// Order: a CPU is encoded up to the time before which no thread can bring anything new. A thread that was preempted says
// nothing until it runs again, but its ring already holds what it ran: where its writer stood while it was off its CPU
// is a named time too ("Rest" below). A thread that is on a CPU and silent for too long is waited for no longer: what
// it then says about times that are encoded becomes an overflow, never code at a wrong time.
#pragma once

#include <atomic>
#include <deque>
#include <map>
#include <memory>
#include <unordered_map>
#include <vector>

#include "capture/sim/block_table.h"
#include "capture/sim/channel.h"
#include "capture/sim/pt_encoder.h"
#include "hindcast/units.h"

namespace hindcast::sim {

struct MergeConfig {
  EncoderConfig encoder;  // purpose is set per CPU
  std::vector<CpuId> cpus;
  double tick_hz = 250;                             // timer interrupts of a CPU; 0: none
  uint64_t max_waiting_words = uint64_t{64} << 20;  // taken from rings and not yet encoded
};

struct MergeStats {
  uint64_t spans = 0;
  uint64_t preemptions = 0, ticks = 0, faults = 0;
  uint64_t unplaced_spans = 0;  // no slice known: placed by the marks' CPU
  uint64_t squeezed_spans = 0;  // their CPU had gone on within their time: they have less of it
  uint64_t late_spans = 0;      // came after their CPU had gone on beyond their time; each became an overflow
  uint64_t rests = 0;           // preempted threads whose words were read where they had stopped
  uint64_t takeovers = 0;       // a thread began while another seemed to run: switch records were lost
  uint64_t lost_words = 0;      // the plugin says so
  uint64_t bad_words = 0;       // words that break channel.h's rules; the thread's recording ends there
};

/// Where a thread's words come from: its ring, mapped so that any `capacity` words from words[i & mask] on can be read.
struct WordRing {
  const uint32_t* words = nullptr;
  uint64_t capacity = 0;
  const std::atomic<uint64_t>* written = nullptr;
  const std::atomic<uint64_t>* position = nullptr;  // may be null
  const std::atomic<uint32_t>* closed = nullptr;    // may be null
  std::atomic<uint64_t>* taken = nullptr;
  std::shared_ptr<void> memory;  // keeps all of it mapped
};

class ThreadMerge {
 public:
  explicit ThreadMerge(const MergeConfig& config);
  ~ThreadMerge();

  struct Thread;
  /// A guest thread that runs from start_tsc on.
  Thread* add_thread(Pid pid, Tid tid, WordRing ring, std::shared_ptr<BlockTable> table, uint64_t start_tsc);
  /// The thread's process is gone: words up to `position` are valid, and no more will come.
  void end_thread(Thread* thread);

  // The kernel's view, in order of time per CPU. tid 0 is the idle task.
  void on_switch(CpuId cpu, Tid tid, uint64_t tsc, bool in);
  /// Records of this CPU between these times were lost.
  void on_lost(CpuId cpu, uint64_t tsc);
  void on_fault(Tid tid, uint64_t tsc);

  /// Takes words from the rings, places and encodes what can be.
  ///   horizon  everything that the kernel has to say about times before it was said
  ///   now      a TSC value read before the rings were looked at
  /// Returns false when there was nothing to do.
  bool work(uint64_t horizon, uint64_t now);
  /// The time up to which work() has encoded everything.
  uint64_t encoded_until() const { return encoded_until_; }
  /// Tracing ends on every CPU at `at`, or where its encoder stands when that is later, and goes on with whatever comes
  /// next, as when the kernel switches it off and on again. Nothing is lost there.
  void cut(uint64_t at);
  /// The end: all that is in the rings is encoded, each CPU's trace ends at `now`.
  void finish(uint64_t now);

  const PtEncoder& encoder(CpuId cpu) const;
  const MergeStats& stats() const { return stats_; }
  uint64_t waiting_words() const { return waiting_words_; }

 private:
  struct Slice;
  struct Segment;
  struct Piece;
  struct Cpu;
  struct Interval;
  struct Span;

  void take_words(Thread& t);
  void copy_words(Thread& t, uint64_t n);
  void watch_rest(Thread& t, uint64_t now);
  void settle_rest(Thread& t, uint64_t horizon, uint64_t now);
  void take_rest(Thread& t, uint64_t out, CpuId cpu);
  uint64_t nothing_before(const Thread& t, uint64_t horizon) const;
  bool place(Thread& t, uint64_t horizon);
  bool next_span(Thread& t, uint64_t horizon, Span& span);
  bool place_span(Thread& t, const Span& span, uint64_t horizon);
  bool place_slowly(Thread& t, const Span& span, uint64_t horizon);
  bool intervals(Thread& t, uint64_t from, uint64_t to, CpuId named);
  bool lose_span(Thread& t, const Span& span, uint64_t horizon);
  void soft_breaks(Thread& t, Interval whole);
  void push_where_nobody_else_ran(const Thread& t, const Interval& whole);
  uint64_t edge_before(const Thread& t, const Slice& slice, uint64_t at) const;
  void quiet_around(Thread& t, uint64_t at, uint64_t horizon);
  void interrupt(Thread& t, uint64_t at);
  void leave_ended_slice(Thread& t);
  Segment& append(Thread& t, const Interval& where);
  void append_loss(Thread& t, const Interval& where, uint64_t at, uint64_t next_ip);
  void ship(Thread& t);
  void place_rest(Thread& t, uint64_t now);
  uint64_t tick(const Cpu& cpu, uint64_t k) const;
  uint64_t next_tick(const Cpu& cpu, uint64_t after) const;

  void encode(Cpu& cpu, uint64_t until);
  void encode(Cpu& cpu, const Piece& piece);
  void lose(Cpu& cpu, const Piece& piece, const Segment& s);
  void idle(Cpu& cpu, uint64_t until);
  Cpu& cpu_of(CpuId cpu);
  void forget_old_slices();

  MergeConfig config_;
  uint64_t us_;         // ticks of a microsecond
  uint64_t mtc_ticks_;  // from one MTC to the next; 0: none, or so far apart that no switch takes so long
  MergeStats stats_;
  std::vector<std::unique_ptr<Cpu>> cpus_;
  std::unordered_map<uint32_t, size_t> cpu_index_;
  std::vector<std::unique_ptr<Thread>> threads_;
  std::unordered_map<int32_t, std::deque<Slice>> slices_;  // by tid
  std::unordered_map<int32_t, std::deque<uint64_t>> faults_;
  std::vector<Interval> intervals_;  // scratch
  uint64_t waiting_words_ = 0;
  uint64_t encoded_until_ = 0;
  uint64_t latest_ = kNever;  // what words say of later times is not wanted
  uint64_t last_loss_ = 0;    // of switch records
};

}  // namespace hindcast::sim
