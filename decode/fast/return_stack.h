// The stack that near RETs are compressed against; it belongs to the CPU.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "decode/fast/block_graph.h"

namespace hindcast::decode {

/// 64 deep, the oldest entry goes first. Entries are superblocks: where a call returns to.
/// Source: SDM Vol. 3C, "Indirect Transfer Compression for Returns (RET)".
class ReturnStack {
 public:
  static constexpr uint32_t kDepth = 64;

  void clear() { top_ = kBottom; }
  void push(BlockId to) {
    if (!has_room(top_, 1)) top_ = make_room(top_);
    entries_[++top_] = to;
    entries_[top_ - kDepth] = kNoBlock;
  }

  /// Before another graph is walked: ids of this one become addresses.
  void leave(const BlockGraph& graph) {
    std::array<uint64_t, kDepth> ips{};
    for (uint32_t i = 0; i < kDepth && entries_[top_ - i] != kNoBlock; ++i) ips[i] = ip_of(graph, entries_[top_ - i]);
    foreign_ = ips;
    for (uint32_t i = 0; i < kDepth && entries_[top_ - i] != kNoBlock; ++i)
      entries_[top_ - i] = make_id(i, 0, SuperKind::foreign);
  }
  /// Looks up an entry that was pending or foreign.
  BlockId find(BlockGraph& graph, BlockId entry) const { return graph.at(ip_of(graph, entry)); }

  // For the walk, which keeps the top in a register: entries()[top()] is the newest. Behind a push the entry kDepth below the
  // new top must become kNoBlock; what stands above the top means nothing. kSlack entries below the oldest may be written.
  static constexpr uint32_t kSlack = 4;
  BlockId* entries() { return entries_.data(); }
  uint32_t top() const { return top_; }
  void set_top(uint32_t top) { top_ = top; }
  bool has_room(uint32_t top, uint32_t n) const { return top + n + kSlack < kSize; }
  /// Moves the newest ones down. The new top.
  uint32_t make_room(uint32_t top) {
    std::copy_n(entries_.begin() + top + 1 - kDepth, kDepth, entries_.begin() + kBottom + 1);
    std::fill_n(entries_.begin(), kBottom + 1, kNoBlock);
    return kBottom + kDepth;
  }

 private:
  static constexpr uint32_t kBottom = kDepth + kSlack;  // the top when it is empty
  static constexpr uint32_t kSize = 1024;

  uint64_t ip_of(const BlockGraph& graph, BlockId entry) const {
    switch (kind_of(entry)) {
      case SuperKind::foreign:
        return foreign_[index_of(entry)];
      case SuperKind::pending:
        return graph.block(index_of(entry)).behind();
      default:
        return graph.block(index_of(entry)).ip;
    }
  }

  std::array<BlockId, kSize> entries_{};
  std::array<uint64_t, kDepth> foreign_{};
  uint32_t top_ = kBottom;
};

}  // namespace hindcast::decode
