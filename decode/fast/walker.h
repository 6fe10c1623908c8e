// Stage 2 of the fast engine: follows lanes through a block graph and writes down the ids of the blocks that ran.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>

#include "decode/circle_guard.h"
#include "decode/fast/block_graph.h"
#include "decode/fast/lanes.h"
#include "decode/fast/run_memo.h"

namespace hindcast::decode {

/// The stack that near RETs are compressed against; it belongs to the CPU. 64 deep, the oldest entry goes first.
/// Source: SDM Vol. 3C, "Indirect Transfer Compression for Returns (RET)".
class ReturnStack {
 public:
  void clear() { depth_ = 0; }
  void push(BlockId call) {
    top_ = (top_ + 1) % kDepth;
    entries_[top_] = {call, 0};
    depth_ = std::min(depth_ + 1, kDepth);
  }
  /// Where to go on in the graph; kNoBlock when the call was not seen.
  BlockId pop(BlockGraph& graph) {
    if (depth_ == 0) return kNoBlock;
    --depth_;
    const Entry e = entries_[top_];
    top_ = (top_ + kDepth - 1) % kDepth;
    return e.call != kNoBlock ? graph.return_of(e.call) : graph.at(e.ip);
  }
  /// Before another graph is walked: ids of this one become addresses.
  void leave(const BlockGraph& graph) {
    for (Entry& e : entries_)
      if (e.call != kNoBlock) e = {kNoBlock, graph.block(e.call).behind()};
  }

 private:
  static constexpr uint32_t kDepth = 64;
  struct Entry {
    BlockId call = kNoBlock;  // else
    uint64_t ip = 0;
  };
  std::array<Entry, kDepth> entries_{};
  uint32_t top_ = 0, depth_ = 0;
};

/// Where a walk stands: the block that is entered, and what of the lanes is used. A block is written down when the branch at
/// its end is known to have gone somewhere.
struct Walk {
  BlockId at = kNoBlock;
  uint32_t bit = 0;
  size_t tip = 0;
  CircleGuard free;   // of blocks that use nothing
  uint64_t used = 0;  // bits and TIPs, when the guard was asked last

  bool used_all(const Lanes& lanes) const { return bit == lanes.bits && tip == lanes.tips; }
};

enum class WalkStop : uint8_t {
  out_full,     // no room for more blocks
  used_all,     // nothing is left in the lanes; not one block was walked since
  wants_tip,    // an indirect branch, and no TIP in the lanes though bits are left
  wants_bit,    // a conditional branch, and a TIP comes next
  bad_return,   // a compressed RET whose bit says "not taken"
  unseen_call,  // a compressed RET and no call that it could belong to; its bit is used
  no_code,      // the block at `at` leads to where no code is known
  circle,       // code that goes round without using trace; the block at `at` is part of it
};

/// True for a near RET that takes a TNT bit here.
inline bool is_compressed(uint32_t bit, uint32_t limit) { return bit < limit; }
/// Bits up to the next TIP: those behind it are for branches after it.
inline uint32_t bit_limit(const Lanes& lanes, uint32_t bit, size_t tip) {
  return tip < lanes.tips ? std::max(lanes.tip_bits[tip], bit) : lanes.bits;
}

/// Walks until it has to stop, writing ids from out[n] on. With ret_compression off every near RET takes a TIP.
/// Cost: 1 to 3 ns a block that is known.
WalkStop walk_blocks(BlockGraph& graph, RunMemo& memo, const Lanes& lanes, bool ret_compression, Walk& walk,
                     ReturnStack& stack, std::span<BlockId> out, size_t& n);

}  // namespace hindcast::decode
