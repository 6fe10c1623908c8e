// One plain stretch, walked: lexes as it goes, crosses what stands between its branches, and ends where the trace does.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "decode/fast/packet_order.h"
#include "decode/fast/tnt_cursor.h"
#include "decode/fast/walker.h"
#include "decode/pt_trace.h"
#include "decode/trace_bytes.h"

namespace hindcast::decode {

/// Instructions of a block that did not run to its end.
struct BlockPart {
  uint64_t ip = 0, last_ip = 0;
  uint32_t count = 0;
};

/// Borrows the trace, the memo and the graph. The return stack lives through all stretches of a CPU.
class StretchWalk {
 public:
  enum class Found : uint8_t {
    blocks,  // some ran, and there may be more
    psb,     // none ran: all trace before a PSB is used, and cross_psb() says what ran up to it
    event,   // the same for a PacketEvent, and cross_event()
    end,  // some ran, and the stretch's TNTs and TIPs are used up: finish() says what ran behind them. Of a stretch that
          // ends in a handover: what it does next takes trace of the one behind it, and hand_over() goes on there
    stuck,  // some ran, and the walk cannot go on: `stuck()`
  };
  struct Stuck {
    GapCause cause = GapCause::desync;
    uint64_t offset = 0;         // of the packet that does not fit
    uint64_t ip = 0;             // where the walk stands, or whose code is missing
    BlockId entered = kNoBlock;  // the blocks of this superblock ran too,
    bool to_its_end = false;     // the last one as well, though nobody knows what came behind it
  };

  StretchWalk(const PtTrace& trace, bool ret_compression, RunMemo& memo)
      : bytes_(trace.bytes, trace.parts), ret_compression_(ret_compression), memo_(memo) {}

  /// At its begin. False when the packet there cannot be read, and stuck() says why.
  bool begin(const Stretch& stretch, BlockGraph& graph);
  /// At a PSB inside. False when its FUP gives no address, and stuck() says why.
  bool begin_at_psb(const Stretch& stretch, BlockGraph& graph, uint64_t psb);

  /// Ids of the next superblocks, as many as fit. What Replay reads of them is gone with the next call.
  Found next(std::span<BlockId> out, size_t& n);
  /// Behind `psb`: goes on at the address that its FUP gives, as a walk does that begins there. What ran up to it as finish()
  /// tells it. False: the walk cannot come by there, and stuck() says where it stands.
  bool cross_psb(std::vector<uint32_t>& out, std::optional<BlockPart>& part);
  /// Behind `event`: goes on where it led, in the graph that it was in. `at` becomes the PTWRITE's address. What ran up to its
  /// place, and false, as finish().
  bool cross_event(PacketEvent& event, std::vector<uint32_t>& out, std::optional<BlockPart>& part);
  /// Behind `end`: blocks, by index, that ran whole without using trace, and a part of one. False: the packet that ended the
  /// stretch does not fit, and stuck() says why; `out` holds what ran before.
  bool finish(std::vector<uint32_t>& out, std::optional<BlockPart>& part);
  /// Behind `end` of a stretch that ends in a handover: in the next one, from the same address on in the code of that one.
  void hand_over(const Stretch& next, BlockGraph& graph);
  const Stuck& stuck() const { return stuck_; }
  /// What it reads from: who covers others of them can ask nothing more of what was walked last.
  TraceBytes& bytes() { return bytes_; }

  /// The packet that was used last; nothing when the superblocks of the last next() used none.
  std::optional<uint64_t> last_used() const;
  uint64_t offset() const { return lexer_->offset(); }  // of the first packet that is not in the lanes

  ReturnStack& stack() { return stack_; }
  uint64_t last_psb() const { return psb_; }               // that was crossed; 0: none in this stretch
  uint8_t psb_bits() const { return lexer_->psb_bits(); }  // mode of execution that it gave; 0: none
  /// Goes on at the same address in another graph.
  void move_to(BlockGraph& graph);

  /// Which packets the superblocks of the last next() used: asked for each of them in order.
  class Replay {
   public:
    /// The packet that the next use of trace reads.
    uint64_t next_offset(const StretchWalk& w) const {
      if (bits_.bit() < bit_limit(w.lanes_, bits_.bit(), tip_)) return bits_.offset();
      if (tip_ < w.lanes_.tips) return w.lanes_.base + w.lanes_.tip_offset[tip_];
      return w.lexer_->offset();
    }
    /// Passes over the branch at the end of a superblock. The packet that it used; nothing when it used none.
    std::optional<uint64_t> pass(const StretchWalk& w, BlockId id) {
      switch (kind_of(id)) {
        case SuperKind::ret:
          if (!w.ret_compression_ || !is_compressed(bits_.bit(), bit_limit(w.lanes_, bits_.bit(), tip_))) break;
          [[fallthrough]];
        case SuperKind::branch: {
          const uint64_t offset = bits_.offset();
          bits_.step(w.lanes_, w.bytes_.all());
          return offset;
        }
        case SuperKind::tip:
          break;
        default:
          return std::nullopt;
      }
      return w.lanes_.base + w.lanes_.tip_offset[tip_++];
    }

   private:
    friend class StretchWalk;
    TntCursor bits_;
    size_t tip_ = 0;
  };
  /// At the first superblock of the last next().
  Replay replay() const { return replay_at(first_bit_, first_tip_); }
  /// Behind the last one.
  uint64_t next_offset() const { return replay_at(walk_.bit, walk_.tip).next_offset(*this); }

  /// The superblocks of the last next() used packets in the order in which they stand, each the one behind the use before it,
  /// but for these, which used none. Then they need no Replay:
  bool in_order() const {
    // Where it is stuck, a bit may be used for a superblock that is not among them.
    const bool goes_on = why_ == WalkStop::out_full || why_ == WalkStop::used_all || why_ == WalkStop::wants_tip;
    return goes_on && !walk_.deferred;
  }
  std::span<const uint32_t> cuts() const { return walk_.cuts; }
  /// As write_offsets(), of packets from base() on.
  void write_offsets(std::span<uint32_t> out) const {
    decode::write_offsets(lanes_, bytes_.all(), first_bit_, first_tip_, out);
  }
  uint64_t base() const { return lanes_.base; }

 private:
  void start(const Stretch& stretch, BlockGraph& graph);
  void lex(const Stretch& stretch, uint64_t from, uint64_t ip);
  void restart();
  bool fill();
  bool run_to(uint64_t ip, std::vector<uint32_t>& out, std::optional<BlockPart>& part);
  void run_to_branch(std::vector<uint32_t>& out);
  bool run_behind(PacketEvent& event, std::vector<uint32_t>& out, std::optional<BlockPart>& part);
  bool run_to_exit(uint64_t to, std::vector<uint32_t>& out);
  void begin_anew(uint64_t ip);
  bool does_not_fit(uint32_t at);
  void stop_at(BlockId id);
  void ran_free(uint32_t at, std::vector<uint32_t>& out);
  void find_targets(size_t known);
  Found get_stuck(WalkStop why);
  Found get_lost();
  Replay replay_at(uint32_t bit, size_t tip) const {
    Replay r;
    r.bits_.seek(lanes_, bytes_.all(), bit);
    r.tip_ = tip;
    return r;
  }

  TraceBytes bytes_;
  const bool ret_compression_;
  RunMemo& memo_;
  const Stretch* stretch_ = nullptr;
  BlockGraph* graph_ = nullptr;
  std::optional<LaneLexer> lexer_;
  Lanes lanes_;
  std::vector<BlockId> targets_;  // where each TIP of the lanes leads, and one more
  Walk walk_;
  ReturnStack stack_;
  bool wants_more_ = false;
  WalkStop why_ = WalkStop::used_all;  // it wants more
  uint64_t psb_ = 0;
  bool left_ = false;  // the branch that leaves the trace ran
  Stuck stuck_;
  uint32_t first_bit_ = 0;  // of what the last next() walked
  size_t first_tip_ = 0;
};

}  // namespace hindcast::decode
