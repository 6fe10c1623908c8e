// One plain stretch, walked: lexes as it goes, crosses PSBs, and ends where the trace does.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "decode/fast/tnt_cursor.h"
#include "decode/fast/walker.h"
#include "decode/stretches.h"

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
    end,     // some ran, and the stretch's TNTs and TIPs are used up: finish() says what ran behind them
    stuck,   // some ran, and the walk cannot go on: `stuck()`
  };
  struct Stuck {
    GapCause cause = GapCause::desync;
    uint64_t offset = 0;     // of the packet that does not fit
    uint64_t ip = 0;         // where the walk stands, or whose code is missing
    BlockId ran = kNoBlock;  // this block ran too, but nobody knows what came behind it
  };

  StretchWalk(ByteSpan trace, bool ret_compression, RunMemo& memo)
      : trace_(trace), ret_compression_(ret_compression), memo_(memo) {}

  /// At its begin. False when the packet there cannot be read.
  bool begin(const Stretch& stretch, BlockGraph& graph);
  /// At a PSB inside. False when its FUP gives no address.
  bool begin_at_psb(const Stretch& stretch, BlockGraph& graph, uint64_t psb);

  /// Ids of the next blocks, as many as fit. What Replay reads of them is gone with the next call.
  Found next(std::span<BlockId> out, size_t& n);
  /// Behind `end`: blocks that ran whole without using trace, and a part of one. False: the packet that ended the stretch
  /// does not fit, and stuck() says why; `out` holds what ran before.
  bool finish(std::vector<BlockId>& out, std::optional<BlockPart>& part);
  const Stuck& stuck() const { return stuck_; }

  ReturnStack& stack() { return stack_; }
  uint64_t last_psb() const { return psb_; }  // that was crossed; 0: none in this stretch
  /// Goes on in another graph of the same code.
  void move_to(BlockGraph& graph);

  /// Which packets the blocks of the last next() used: asked for each of them in order.
  class Replay {
   public:
    /// The packet that the next use of trace reads.
    uint64_t next_offset(const StretchWalk& w) const {
      if (bits_.bit() < bit_limit(w.lanes_, bits_.bit(), tip_)) return bits_.offset();
      if (tip_ < w.lanes_.tips) return w.lanes_.base + w.lanes_.tip_offset[tip_];
      return w.lexer_->offset();
    }
    /// Passes over the branch at the end of a block. The packet that it used; nothing when it used none.
    std::optional<uint64_t> pass(const StretchWalk& w, BlockId id) {
      switch (kind_of(id)) {
        case BlockKind::jump:
        case BlockKind::call:
        case BlockKind::stop:
          return std::nullopt;
        case BlockKind::ret:
          if (!w.ret_compression_ || !is_compressed(bits_.bit(), bit_limit(w.lanes_, bits_.bit(), tip_))) break;
          [[fallthrough]];
        case BlockKind::branch: {
          const uint64_t offset = bits_.offset();
          bits_.step(w.lanes_, w.trace_);
          return offset;
        }
        case BlockKind::indirect:
        case BlockKind::indirect_call:
        case BlockKind::far:
          break;
      }
      return w.lanes_.base + w.lanes_.tip_offset[tip_++];
    }

   private:
    friend class StretchWalk;
    TntCursor bits_;
    size_t tip_ = 0;
  };
  /// At the first block of the last next().
  Replay replay() const { return replay_at(first_bit_, first_tip_); }

 private:
  void start(const Stretch& stretch, BlockGraph& graph);
  void restart();
  bool fill();
  bool cross_psb();
  bool can_be_at(uint64_t ip) const;
  bool step_free(CircleGuard& guard, std::vector<BlockId>& out);
  bool run_to(uint64_t ip, std::vector<BlockId>& out, std::optional<BlockPart>& part);
  bool run_to_exit(uint64_t to, std::vector<BlockId>& out);
  Found get_stuck(WalkStop why);
  Replay replay_at(uint32_t bit, size_t tip) const {
    Replay r;
    r.bits_.seek(lanes_, trace_, bit);
    r.tip_ = tip;
    return r;
  }

  ByteSpan trace_;
  const bool ret_compression_;
  RunMemo& memo_;
  const Stretch* stretch_ = nullptr;
  BlockGraph* graph_ = nullptr;
  std::optional<LaneLexer> lexer_;
  Lanes lanes_;
  Walk walk_;
  ReturnStack stack_;
  bool wants_more_ = false;
  WalkStop why_ = WalkStop::used_all;  // it wants more
  uint64_t psb_ = 0;
  Stuck stuck_;
  uint32_t first_bit_ = 0;  // of what the last next() walked
  size_t first_tip_ = 0;
};

}  // namespace hindcast::decode
