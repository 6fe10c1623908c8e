// Runs of superblocks that were walked before: from a superblock and the next TNT bits to the ids that follow, written at once.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <unordered_map>
#include <utility>

#include "decode/fast/block_graph.h"
#include "decode/fast/growing_array.h"

namespace hindcast::decode {

/// One cache line. What a run holds depends on its key alone.
struct alignas(64) Run {
  static constexpr unsigned kMostBits = 8;
  static constexpr unsigned kMostIds = 8;
  static constexpr unsigned kMostPushes = 4;
  /// What comes behind it.
  enum class End : uint8_t {
    next,  // the superblock `next`
    ret,   // the newest entry of the return stack, which goes
    tip,   // where the next TIP leads
  };

  uint64_t key = 0;  // 0: none
  BlockId next = kNoBlock;
  uint8_t bits = 0;    // used
  uint8_t count = 0;   // of ids; 0: there is no run with this key
  uint8_t pushes = 0;  // onto the return stack, oldest first
  End end = End::next;
  std::array<BlockId, kMostIds> ids{};
  std::array<BlockId, kMostPushes> push{};
};
static_assert(sizeof(Run) == 64);

/// A table of 2 MiB that knows whether it is worth asking: code whose branches look like chance finds nothing in it. A walk
/// that is short has none.
class RunMemo {
 public:
  static constexpr uint64_t kFirstRest = 1 << 17;  // ids: walked in the time that it takes to make the table
  /// rest: so many ids are written before runs are looked for.
  explicit RunMemo(uint64_t rest = kFirstRest) : resting_(rest) {
    if (rest == 0) make_table();
  }

  /// Before a graph is walked.
  void use(const BlockGraph& graph) {
    if (graph.serial() != serial_) set_graph(graph.serial());
  }

  /// Of a superblock, the bits that come before the next TIP (the oldest highest; `before` of them, 8 when there are more) and
  /// how near RETs are sent.
  uint64_t key(bool ret_compression, BlockId at, uint8_t bits, unsigned before) const {
    const uint32_t rest = uint32_t{tag_} << 16 | uint32_t{ret_compression} << 15 | before << 8 | bits;
    return uint64_t{rest} << 32 | at;
  }
  Run& slot(uint64_t key) { return runs_[key * 0x9e3779b97f4a7c15u >> (64 - kLog2Runs)]; }

  /// Fills a slot. May add to the graph.
  static void build(BlockGraph& graph, bool ret_compression, BlockId at, uint8_t bits, unsigned before, Run& run);

  /// To be told when a run was asked for and not there.
  void missed() { ++missed_; }
  /// To be told of the ids that were written since: how many by how many runs, or with runs == 0 without.
  void wrote(uint64_t ids, uint64_t runs) {
    if (runs == 0) {
      resting_ -= std::min(resting_, ids);
      if (resting_ == 0 && runs_.size() == 0) [[unlikely]]
        make_table();
      return;
    }
    ids_ += ids;
    runs_taken_ += runs;
    if (runs_taken_ < kTrial) return;
    const bool pays = ids_ >= kIdsARun * runs_taken_ && missed_ <= ids_ / kIdsAMiss;
    // The first questions cannot be answered.
    if (!pays && !std::exchange(young_, false)) resting_ = kRest;
    ids_ = runs_taken_ = missed_ = 0;
  }
  bool resting() const { return resting_ != 0; }

 private:
  static constexpr unsigned kLog2Runs = 15;
  static constexpr uint64_t kTrial = 1 << 12;  // runs between two judgements
  static constexpr uint64_t kRest = 1 << 20;   // ids
  // Measured: a run costs as much as four or five superblocks walked one by one, making one as much as twenty.
  static constexpr uint64_t kIdsARun = 5, kIdsAMiss = 20;

  void set_graph(uint64_t serial);
  void make_table() { runs_.make_zeros(size_t{1} << kLog2Runs); }

  uint64_t serial_ = 0;
  uint16_t tag_ = 0;                             // what stands for it in keys
  std::unordered_map<uint64_t, uint16_t> tags_;  // of all graphs since the runs were forgotten last
  GrowingArray<Run> runs_;                       // empty: it still rests
  uint64_t resting_;
  uint64_t ids_ = 0, runs_taken_ = 0, missed_ = 0;
  bool young_ = true;
};

}  // namespace hindcast::decode
