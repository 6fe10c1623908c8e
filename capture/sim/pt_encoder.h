// One logical CPU's PT unit: turns what ran, and when, into packets in that CPU's ring.
//
// Last IP, pending TNT bits, RET compression, the PSB byte count, MTC and CYC all belong to the logical CPU (SDM Vol. 3C,
// "Intel Processor Trace"), so there is one of these per CPU and the threads that run there take turns. User mode only
// is traced: every kernel entry turns packets off. Same calls, same seeds: same bytes.
//
// Order of packets in time, so that a decoder that believes the SDM is never wrong:
//  * TNT bits are sent before any packet that states a time. The SDM lets TNT be cut short at any time (36.4.2.1) and
//    promises for TSC and MTC that what precedes them ran before and what follows ran after (36.4.2.11, 36.4.2.12), and
//    the same for CYC (36.3.6.2). CBR is treated alike.
//  * A CYC before a TNT gives the time of the TNT's first, oldest, branch (36.3.6.2); before any other packet the time of
//    that packet. FUP, CBR, PSB, PSBEND and PAD are not CYC-eligible: real traces show FUP, CYC, TIP.PGD.
//  * Two eligible packets of one core cycle share one CYC (36.4.2.14), and a CYC waits for cyc_thresh (36.3.6.3).
//  * Deferred TIPs (36.4.2.3) would break the rule for CYC, so they are only made without cyc. An uncompressed RET is never
//    deferred: "in that case there will be no in-progress TNT" (36.4.2.2).
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "capture/sim/block_info.h"
#include "capture/sim/clock_model.h"
#include "capture/sim/packet_writer.h"
#include "capture/sim/seeded_random.h"
#include "hindcast/pt_config.h"

namespace hindcast::sim {

struct EncoderConfig {
  PtOptions pt;
  PtCpu cpu;
  uint64_t tsc_hz = 2600000000;
  uint64_t ring_bytes = uint64_t{1} << 26;
  uint64_t start_tsc = 0;  // nothing may be encoded before
  uint64_t seed = 1;
  uint64_t purpose = 0;        // differs from CPU to CPU
  bool changing_clock = true;  // drift and ratio changes of the core clock
  bool deferred_tips = false;
  bool long_tnt = false;     // TNT-64 instead of TNT-8
  double mtc_drop_rate = 0;  // of each MTC
  double ovf_per_kib = 0;    // expected internal buffer overflows per KiB of trace
};

struct EncoderStats {
  uint64_t blocks = 0;
  uint64_t instructions = 0;
  uint64_t overflows = 0;
  uint64_t mismatches = 0;  // a block that did not follow from the one before; each became an OVF, hence a gap
  uint64_t psbs = 0;
};

/// Some blocks that a thread ran in one go.
struct Run {
  const uint32_t* ids = nullptr;  // dense block ids, each < block_count
  uint64_t count = 0;             // blocks, >= 1
  const BlockInfo* blocks = nullptr;
  uint32_t first_skip = 0;    // instructions of the first block that ran before
  uint32_t last_stop = 0;     // != 0: the last block was left after this many of its instructions (counted from
                              // its first); 0: it ran to its end
  uint64_t next_ip = 0;       // where control went then; meaningless after a far terminator
  uint64_t instructions = 0;  // of the run; the time is shared out evenly among them
  uint64_t t0 = 0, t1 = 0;    // TSC
};

class PtEncoder {
 public:
  explicit PtEncoder(const EncoderConfig& config);

  const AuxRing& ring() const { return ring_; }
  const EncoderStats& stats() const { return stats_; }
  /// The time up to which everything is encoded. Calls with earlier times act at now().
  uint64_t now() const { return now_; }
  bool tracing() const { return on_; }
  uint64_t next_ip() const { return next_ip_; }  // while tracing(): the instruction that runs next

  /// Timing packets (and PSB) that are due up to t.
  void advance(uint64_t t);
  /// TIP.PGE: user code runs from ip on. Not while tracing().
  void enter(uint64_t t, uint64_t ip);
  /// Blocks run; while tracing(). A far terminator at its end turns tracing off (TIP.PGD without FUP).
  void run(const Run& run);
  /// FUP + TIP.PGD: interrupted before next_ip(). While tracing().
  void interrupt(uint64_t t);
  /// Something ran that is not known: an OVF, and while tracing() a FUP with where it goes on.
  void lose(uint64_t t, uint64_t next_ip);
  /// The CPU falls into, and wakes from, a C-state. Not while tracing().
  void sleep(uint64_t t);
  void wake(uint64_t t);

 private:
  static constexpr unsigned kStackDepth = 64;  // SDM 36.4.2.2, "RET compression"

  void start();
  uint64_t at(uint64_t t) { return now_ = t > now_ ? t : now_; }
  // packets, each with the CYC before it
  void put_cyc(uint64_t cycles);
  void stamp(uint64_t t) {
    if (cyc_on_) put_cyc(clock_.cycles(t));
  }
  void flush();
  void put_tip(uint64_t t, uint64_t ip, bool may_defer);
  void put_bit(uint64_t t, bool taken) {
    if (tnt_count_ == 0 && cyc_on_) tnt_cycles_ = clock_.cycles(t);
    tnt_bits_ = tnt_bits_ << 1 | (taken ? 1u : 0u);
    if (++tnt_count_ == tnt_max_) flush();
  }
  void sent() {
    if (writer_.written() >= attention_at_) stop_at_ = 0;
  }
  void put_tsc(uint64_t t);
  void psb(uint64_t t);
  // losses
  void begin_loss(uint64_t t, uint64_t ticks);
  void end_loss(uint64_t t);
  void lose_track(uint64_t t, uint64_t next_ip);
  // what is due besides the flow
  void timing(uint64_t t);
  void plan_stop();
  void plan_overflow();
  void next_mtc_after(uint64_t t);
  // RET compression
  struct ReturnStack {
    std::array<uint64_t, kStackDepth> ips{};
    unsigned top = 0, size = 0;
    void push(uint64_t ip) {
      ips[top++ % kStackDepth] = ip;
      if (size < kStackDepth) ++size;
    }
    bool expects(uint64_t ip) const { return size != 0 && ips[(top - 1) % kStackDepth] == ip; }
    void pop() {
      if (size == 0) return;
      --top;
      --size;
    }
  };
  void push(uint64_t ip) {
    by_bit_.push(ip);
    by_ret_.push(ip);
  }
  void forget_returns() { by_bit_.size = by_ret_.size = 0; }
  /// Decoders differ where the SDM leaves room: after a RET that was not compressed, perf has popped its stack and
  /// libipt has not. So a RET is compressed only when both expect its target, and both then follow it rightly.
  bool compress_return(uint64_t ip) {
    const bool both = retcomp_ && by_bit_.expects(ip) && by_ret_.expects(ip);
    if (both) by_bit_.pop();
    by_ret_.pop();
    return both;
  }
  // the flow
  struct Progress;
  void terminate(const BlockInfo& b, uint64_t t, uint64_t next_ip, bool stays);
  void run_muted(const Run& run, Progress& p);
  void visit(const Run& run, const Progress& p, uint32_t instructions, uint64_t t_end);

  // touched by every block or packet
  uint64_t stop_at_ = 0;  // the next time at which something other than the flow needs attention; 0: at once
  uint64_t tnt_bits_ = 0;
  unsigned tnt_count_ = 0;
  unsigned tnt_max_;
  uint64_t tnt_cycles_ = 0;    // core cycles at the pending TNT's first branch
  uint64_t attention_at_ = 0;  // bytes written at which a PSB or an injected overflow is due
  bool cyc_on_, retcomp_, defer_, mtc_on_;
  bool on_ = false;
  bool muted_ = false;  // packets are being lost
  AuxRing ring_;
  PacketWriter writer_;
  uint64_t last_cyc_ = 0;  // core cycles at the last CYC
  uint64_t cyc_threshold_;
  std::vector<uint64_t> deferred_;
  ReturnStack by_bit_, by_ret_;  // popped by compressed RETs only, and by every RET
  uint64_t next_ip_ = 0;

  EncoderConfig config_;
  ClockModel clock_;
  SeededRandom mtc_random_, ovf_random_, psb_random_;
  EncoderStats stats_;
  uint64_t now_;
  bool started_ = false;
  bool asleep_ = false;
  bool mode_known_ = false;  // a MODE.Exec was sent since the last PSB
  bool mtc_dropped_ = false;
  uint64_t next_mtc_ctc_ = 0;
  uint64_t next_mtc_at_ = kNever;
  uint64_t psb_at_ = 0, ovf_at_ = kNever;
  uint64_t muted_until_ = 0;
};

}  // namespace hindcast::sim
