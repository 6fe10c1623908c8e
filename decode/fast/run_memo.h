// Runs of blocks that were walked before: from a block and the next eight TNT bits to the ids that follow, written at once.
#pragma once

#include <array>
#include <cstdint>
#include <utility>
#include <vector>

#include "decode/fast/block_graph.h"

namespace hindcast::decode {

/// One cache line. What a run holds depends on its key alone, so it never has to be forgotten, only overwritten.
struct alignas(64) Run {
  static constexpr size_t kMostBlocks = 12;

  uint64_t key = 0;  // 0: none
  BlockId next = kNoBlock;
  uint8_t bits = 0;     // used: 1 to 8
  uint8_t blocks = 0;   // 1 to kMostBlocks
  uint16_t pushes = 0;  // bit i: ids[i] is a call that does not return inside the run
  std::array<BlockId, kMostBlocks> ids{};
};
static_assert(sizeof(Run) == 64);

/// A table of 2 MiB that knows whether it is worth asking: code whose branches look like chance finds nothing in it.
class RunMemo {
 public:
  /// A run begins at a conditional branch and uses a bit of `bits` (8 of them, the oldest highest) for each one, and with
  /// ret_compression for each return to a call inside the run. It ends behind the last bit, or in front of a block that needs
  /// anything else. nullptr: not worth asking now.
  const Run* find(BlockGraph& graph, BlockId at, uint8_t bits, bool ret_compression) {
    if (resting_ != 0) {
      --resting_;
      return nullptr;
    }
    const uint64_t key = uint64_t{ret_compression} << 63 | uint64_t{graph.serial()} << 40 | uint64_t{bits} << 32 | at;
    Run& run = runs_[key * 0x9e3779b97f4a7c15u >> (64 - kLog2Runs)];
    if (++asked_ == kTrial) judge();
    if (run.key != key) {
      ++missed_;
      build(graph, at, bits, ret_compression, run);
      run.key = key;
    }
    return &run;
  }

 private:
  static constexpr unsigned kLog2Runs = 15;
  static constexpr uint32_t kTrial = 1 << 13;  // questions between two looks at how many were answered
  static constexpr uint32_t kRest = 1 << 17;

  void judge() {
    if (missed_ > kTrial / 3 && !std::exchange(young_, false)) resting_ = kRest;
    asked_ = missed_ = 0;
  }
  static void build(BlockGraph& graph, BlockId at, uint8_t bits, bool ret_compression, Run& run);

  std::vector<Run> runs_ = std::vector<Run>(size_t{1} << kLog2Runs);
  uint32_t asked_ = 0, missed_ = 0, resting_ = 0;
  bool young_ = true;  // the first questions cannot be answered
};

}  // namespace hindcast::decode
