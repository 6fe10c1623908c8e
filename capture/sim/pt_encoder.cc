#include "capture/sim/pt_encoder.h"

#include <algorithm>

namespace hindcast::sim {
namespace {

constexpr unsigned kStepShift = 20;
constexpr size_t kMaxDeferredTips = 32;
enum Purpose : uint64_t { kClockPurpose = 0, kMtcPurpose = 1, kOverflowPurpose = 2, kPsbPurpose = 3, kPurposes = 16 };

}  // namespace

/// How far a run() has come.
struct PtEncoder::Progress {
  uint64_t k = 0;     // the next block
  uint64_t acc = 0;   // time since t0, << kStepShift, at which it starts
  uint64_t step = 0;  // per instruction
  uint64_t t0 = 0, t1 = 0;
};

PtEncoder::PtEncoder(const EncoderConfig& config)
    : tnt_max_(config.long_tnt ? 47 : 6),
      cyc_on_(config.pt.cyc),
      retcomp_(!config.pt.noretcomp),
      defer_(config.deferred_tips && !config.pt.cyc),
      mtc_on_(config.pt.mtc),
      ring_(config.ring_bytes),
      writer_(ring_),
      cyc_threshold_(config.pt.cyc_thresh ? uint64_t{1} << (config.pt.cyc_thresh - 1) : 0),
      config_(config),
      clock_(config.cpu, config.tsc_hz, config.start_tsc, config.seed, config.purpose * kPurposes + kClockPurpose,
             config.changing_clock),
      mtc_random_(config.seed, config.purpose * kPurposes + kMtcPurpose),
      ovf_random_(config.seed, config.purpose * kPurposes + kOverflowPurpose),
      psb_random_(config.seed, config.purpose * kPurposes + kPsbPurpose),
      now_(config.start_tsc) {
  plan_overflow();
}

// ---- packets

void PtEncoder::put_cyc(uint64_t cycles) {
  const uint64_t delta = cycles - last_cyc_;
  if (delta == 0 || delta < cyc_threshold_) return;
  writer_.cyc(delta);
  last_cyc_ = cycles;
}

/// Sends what is pending: TNT bits, then the TIPs deferred behind them.
void PtEncoder::flush() {
  if (tnt_count_ == 0) return;
  if (cyc_on_) put_cyc(tnt_cycles_);
  if (config_.long_tnt && tnt_count_ > 6)
    writer_.tnt64(tnt_bits_, tnt_count_);
  else
    writer_.tnt8(tnt_bits_, tnt_count_);
  tnt_count_ = 0;
  if (!deferred_.empty()) {
    for (uint64_t ip : deferred_) writer_.tip(ip);
    deferred_.clear();
  }
  sent();
}

void PtEncoder::put_tip(uint64_t t, uint64_t ip, bool may_defer) {
  if (may_defer && defer_ && tnt_count_ != 0) {
    deferred_.push_back(ip);
    if (deferred_.size() == kMaxDeferredTips) flush();
    return;
  }
  flush();
  stamp(t);
  writer_.tip(ip);
  sent();
}

void PtEncoder::put_tsc(uint64_t t) {
  if (!config_.pt.tsc) return;
  stamp(t);
  writer_.tsc(t);
  if (!mtc_on_) return;
  const uint64_t ctc = clock_.ctc(t);
  writer_.tma(static_cast<uint16_t>(ctc), static_cast<uint16_t>(t - clock_.tsc_of_ctc(ctc)));
}

/// PSB+ in the order real traces show: state first, then time, then CBR (SDM 36.3.7 fixes none).
void PtEncoder::psb(uint64_t t) {
  flush();
  const uint64_t begin = writer_.written();
  writer_.psb();
  forget_returns();
  mode_known_ = on_;
  if (on_) {
    writer_.mode_tsx(false, false);
    writer_.mode_exec(64);
    writer_.fup(next_ip_);
  }
  ++stats_.psbs;
  psb_at_ = begin + (uint64_t{1} << (config_.pt.psb_period + 11));
  // "an overflow can occur during PSB+, and this could cause the PSBEND packet to be lost" (SDM 36.3.7)
  if (config_.ovf_per_kib > 0 && ovf_random_.chance(0.02)) {
    begin_loss(t, ovf_random_.between(1, 20) * (config_.tsc_hz / 1000000));
  } else {
    put_tsc(t);
    writer_.cbr(clock_.cbr());
    writer_.psbend();
  }
  plan_stop();
}

// ---- losses

/// Packets, pending ones included, are dropped from now on for this many ticks.
void PtEncoder::begin_loss(uint64_t t, uint64_t ticks) {
  tnt_count_ = 0;
  deferred_.clear();
  muted_ = true;
  muted_until_ = t + ticks;
  ++stats_.overflows;
  plan_overflow();
  plan_stop();
}

/// OVF, and FUP with where the flow goes on when tracing is on. What follows is compressed against nothing that was
/// lost: neither IPs nor RETs (SDM 36.3.8). The cycle counter ran on, so the OVF's CYC covers the loss.
void PtEncoder::end_loss(uint64_t t) {
  muted_ = false;
  stamp(t);
  writer_.ovf();
  writer_.forget_last_ip();
  forget_returns();
  if (on_) writer_.fup(next_ip_);
  next_mtc_after(t);
  plan_stop();
}

/// The blocks contradict each other, so some are missing. Said as what it is to a reader: packets were lost here.
void PtEncoder::lose_track(uint64_t t, uint64_t next_ip) {
  ++stats_.mismatches;
  next_ip_ = next_ip;
  if (muted_) return;
  flush();
  end_loss(t);
}

void PtEncoder::plan_overflow() {
  ovf_at_ = config_.ovf_per_kib > 0
                ? writer_.written() + 64 + static_cast<uint64_t>(ovf_random_.exponential(1024 / config_.ovf_per_kib))
                : kNever;
}

// ---- what is due besides the flow

void PtEncoder::next_mtc_after(uint64_t t) {
  if (!mtc_on_) return;
  const unsigned period = config_.pt.mtc_period;
  next_mtc_ctc_ = ((clock_.ctc(t) >> period) + 1) << period;
  next_mtc_at_ = clock_.tsc_of_ctc(next_mtc_ctc_);
}

void PtEncoder::plan_stop() {
  attention_at_ = std::min(psb_at_, ovf_at_);
  if (asleep_) {
    stop_at_ = kNever;
  } else if (writer_.written() >= attention_at_) {
    stop_at_ = 0;
  } else {
    stop_at_ = std::min(next_mtc_at_, clock_.next_update());
    if (muted_ && !on_) stop_at_ = std::min(stop_at_, muted_until_);
  }
}

/// Timing packets due up to t, in order. While off also what the flow would do while on: PSB and the end of a loss.
void PtEncoder::timing(uint64_t t) {
  while (!asleep_) {
    const uint64_t update = clock_.next_update();
    uint64_t due = std::min(next_mtc_at_, update);
    if (muted_ && !on_ && muted_until_ <= due) due = std::max(muted_until_, now_);
    if (due > t) break;
    at(due);
    if (muted_ && !on_ && muted_until_ <= due) {
      end_loss(due);
    } else if (due == update) {
      if (clock_.update(due) && !muted_) {
        flush();
        writer_.cbr(clock_.cbr());
      }
    } else {
      // "There are cases in which MTC packets can be dropped", never so many that their 8 bits wrap (SDM 36.4.2.12).
      const bool drop = !mtc_dropped_ && mtc_random_.chance(config_.mtc_drop_rate);
      mtc_dropped_ = drop;
      if (!muted_ && !drop) {
        flush();
        stamp(due);
        writer_.mtc(static_cast<uint8_t>(next_mtc_ctc_ >> config_.pt.mtc_period));
      }
      next_mtc_ctc_ += uint64_t{1} << config_.pt.mtc_period;
      next_mtc_at_ = clock_.tsc_of_ctc(next_mtc_ctc_);
    }
    if (!on_ && !muted_) {
      if (writer_.written() >= ovf_at_)
        begin_loss(due, ovf_random_.between(1, 20) * (config_.tsc_hz / 1000000));
      else if (writer_.written() >= psb_at_)
        psb(due);
    }
  }
  plan_stop();
}

void PtEncoder::start() {
  started_ = true;
  last_cyc_ = clock_.cycles(now_);
  next_mtc_after(now_);
  psb(now_);
}

void PtEncoder::advance(uint64_t t) {
  if (!started_) start();
  timing(t);
  at(t);
}

void PtEncoder::sleep(uint64_t t) {
  advance(t);
  HC_CHECK(!on_);
  if (asleep_) return;
  if (muted_) end_loss(now_);
  clock_.sleep(now_);
  asleep_ = true;
  plan_stop();
}

/// TSC "after any event that causes the processor clocks or Intel PT timing packets to stop" (SDM 36.4.2.11), and CBR.
void PtEncoder::wake(uint64_t t) {
  advance(t);
  if (!asleep_) return;
  asleep_ = false;
  clock_.wake(now_);
  next_mtc_after(now_);
  put_tsc(now_);
  writer_.cbr(clock_.cbr());
  plan_stop();
}

// ---- the flow

void PtEncoder::enter(uint64_t t, uint64_t ip) {
  advance(t);
  HC_CHECK(!on_);
  if (asleep_) wake(now_);
  // A mode that was never announced must not get lost: the loss ends before, while off.
  if (muted_ && !mode_known_) end_loss(now_);
  on_ = true;
  next_ip_ = ip;
  if (!muted_) {
    if (!mode_known_) {  // "if no MODE.Exec since last PSB" (SDM table of packet generation scenarios)
      stamp(now_);
      writer_.mode_exec(64);
      mode_known_ = true;
    }
    stamp(now_);
    writer_.tip_pge(ip);
  }
  plan_stop();
}

void PtEncoder::lose(uint64_t t, uint64_t next_ip) {
  advance(t);
  if (asleep_) wake(now_);
  if (on_) {
    lose_track(now_, next_ip);
  } else if (!muted_) {
    ++stats_.mismatches;
    end_loss(now_);
  }
}

void PtEncoder::interrupt(uint64_t t) {
  advance(t);
  HC_CHECK(on_);
  if (!muted_) {
    flush();
    writer_.fup(next_ip_);
    stamp(now_);
    writer_.tip_pgd();
  }
  on_ = false;
  plan_stop();
}

/// stays: a far transfer led to user code at once (LRET and the like), not to the kernel.
inline void PtEncoder::terminate(const BlockInfo& b, uint64_t t, uint64_t next_ip, bool stays) {
  switch (b.kind) {
    case Terminator::cond: {
      const bool taken = next_ip == b.target;
      if (!taken && next_ip != b.fall()) [[unlikely]]
        return lose_track(t, next_ip);
      put_bit(t, taken);
      return;
    }
    case Terminator::none:
      if (next_ip != b.fall() && next_ip != b.target) [[unlikely]]
        lose_track(t, next_ip);
      return;
    case Terminator::call:
      push(b.fall());
      [[fallthrough]];
    case Terminator::jump:
    case Terminator::call_zero:
      if (next_ip != b.target) [[unlikely]]
        lose_track(t, next_ip);
      return;
    case Terminator::ret:
      if (compress_return(next_ip)) return put_bit(t, true);  // a taken TNT bit
      return put_tip(t, next_ip, false);
    case Terminator::indirect_call:
      push(b.fall());
      return put_tip(t, next_ip, true);
    case Terminator::indirect_jump:
      return put_tip(t, next_ip, true);
    case Terminator::far:
      if (stays) return put_tip(t, next_ip, false);
      flush();
      stamp(t);
      writer_.tip_pgd();  // the target is the kernel: out of context, so no IP (SDM 36.4.2.5)
      on_ = false;
      sent();
      return;
  }
}

/// Something is due within the block that p stands at, of which `instructions` run now: timing packets, a PSB at some
/// instruction of it, or the begin of a loss.
void PtEncoder::visit(const Run& run, const Progress& p, uint32_t instructions, uint64_t t_end) {
  if (writer_.written() >= ovf_at_) {
    timing(p.t0 + (p.acc >> kStepShift));
    begin_loss(now_, ovf_random_.between(1, 20) * (config_.tsc_hz / 1000000));
    return;
  }
  if (writer_.written() >= psb_at_) {
    const BlockInfo& b = run.blocks[run.ids[p.k]];
    const uint32_t j = static_cast<uint32_t>(psb_random_.between(0, instructions - 1));
    const uint64_t t = p.t0 + ((p.acc + j * p.step) >> kStepShift);
    timing(t);
    at(t);
    next_ip_ = b.ip_of((p.k == 0 ? run.first_skip : 0) + j);
    psb(now_);
    if (muted_) return;
  }
  timing(t_end);
}

/// Blocks run while packets are lost, until the loss is over or the run is.
void PtEncoder::run_muted(const Run& run, Progress& p) {
  while (p.k < run.count) {
    const BlockInfo& b = run.blocks[run.ids[p.k]];
    const bool last = p.k + 1 == run.count;
    uint32_t n = b.instructions;
    if (last && run.last_stop) n = run.last_stop;
    if (p.k == 0) n -= run.first_skip;
    p.acc += n * p.step;
    ++p.k;
    const uint64_t t = last ? p.t1 : p.t0 + (p.acc >> kStepShift);
    const bool ends = !(last && run.last_stop);
    next_ip_ = last ? run.next_ip : run.blocks[run.ids[p.k]].ip;
    if (last && ends && b.kind == Terminator::far) {
      on_ = false;
      timing(t);
      return;
    }
    if (t >= muted_until_) {
      timing(t);
      end_loss(t);
      return;
    }
  }
}

void PtEncoder::run(const Run& run) {
  HC_CHECK(on_ && run.count > 0);
  Progress p;
  p.t0 = std::max(run.t0, now_);
  p.t1 = std::max(run.t1, p.t0);
  p.step = run.instructions ? ((p.t1 - p.t0) << kStepShift) / run.instructions : 0;
  advance(p.t0);
  stats_.blocks += run.count;
  stats_.instructions += run.instructions;

  const BlockInfo* const blocks = run.blocks;
  const uint32_t* const ids = run.ids;
  const uint64_t first_ip = blocks[ids[0]].ip_of(run.first_skip);
  if (first_ip != next_ip_) lose_track(p.t0, first_ip);

  while (p.k + 1 < run.count) {
    if (muted_) [[unlikely]] {
      run_muted(run, p);
      continue;
    }
    const BlockInfo& b = blocks[ids[p.k]];
    const uint32_t n = p.k == 0 ? b.instructions - run.first_skip : b.instructions;
    const uint64_t acc = p.acc + n * p.step;
    const uint64_t t = p.t0 + (acc >> kStepShift);
    if (t >= stop_at_) [[unlikely]] {
      visit(run, p, n, t);
      if (muted_) continue;
    }
    p.acc = acc;
    ++p.k;
    terminate(b, t, blocks[ids[p.k]].ip, true);
  }
  if (muted_ && p.k < run.count) run_muted(run, p);
  if (p.k < run.count) {
    const BlockInfo& b = blocks[ids[p.k]];
    const uint32_t n = (run.last_stop ? run.last_stop : b.instructions) - (p.k == 0 ? run.first_skip : 0);
    if (p.t1 >= stop_at_ && n > 0) visit(run, p, n, p.t1);
    if (muted_) {
      run_muted(run, p);
    } else if (!run.last_stop) {
      terminate(b, p.t1, run.next_ip, false);
    }
  }
  if (on_) next_ip_ = run.next_ip;
  at(p.t1);
  if (stop_at_ <= now_) plan_stop();
}

}  // namespace hindcast::sim
