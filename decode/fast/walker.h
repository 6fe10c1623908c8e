// Stage 2 of the fast engine: follows lanes through a block graph and writes down the ids of the superblocks that ran.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "decode/circle_guard.h"
#include "decode/fast/lanes.h"
#include "decode/fast/return_stack.h"
#include "decode/fast/run_memo.h"

namespace hindcast::decode {

/// Where a walk stands: the superblock that is entered, and what of the lanes is used. A superblock is written down when the
/// branch at its end is known to have gone somewhere.
struct Walk {
  BlockId at = kNoBlock;
  uint32_t bit = 0;
  size_t tip = 0;
  CircleGuard free;       // of cuts: they use nothing
  uint64_t used = 0;      // bits and TIPs, when the guard was asked last
  bool took_tip = false;  // when something was used last, it was a TIP
  // Of the ids that walk_blocks() wrote last:
  bool deferred = false;       // a TIP was used before bits that were sent before it
  std::vector<uint32_t> cuts;  // which of them are cuts, and used nothing

  bool used_all(const Lanes& lanes) const { return bit == lanes.bits && tip == lanes.tips; }
};

enum class WalkStop : uint8_t {
  out_full,     // no room for more
  used_all,     // nothing is left in the lanes
  wants_tip,    // an indirect branch, and no TIP in the lanes though bits are left
  wants_bit,    // a conditional branch, and a TIP comes next
  bad_return,   // a compressed RET whose bit says "not taken"
  unseen_call,  // a compressed RET and no call that it could belong to; its bit is used
  no_code,      // `at` leads to where no code is known
  circle,       // `at` leads into code that goes round without using trace
};

/// True for a near RET that takes a TNT bit here.
inline bool is_compressed(uint32_t bit, uint32_t limit) { return bit < limit; }
/// Bits up to the next TIP: those behind it are for branches after it.
inline uint32_t bit_limit(const Lanes& lanes, uint32_t bit, size_t tip) {
  return tip < lanes.tips ? std::max(lanes.tip_bits[tip], bit) : lanes.bits;
}

/// Walks until it has to stop, writing ids from out[n] on. targets: where each TIP of the lanes leads, in this graph; one more
/// may be read. With ret_compression off every near RET takes a TIP. Cost: 10 to 20 cycles a superblock that is known,
/// without a branch that could be predicted wrongly.
WalkStop walk_blocks(BlockGraph& graph, RunMemo& memo, const Lanes& lanes, std::span<const BlockId> targets,
                     bool ret_compression, Walk& walk, ReturnStack& stack, std::span<BlockId> out, size_t& n);

}  // namespace hindcast::decode
