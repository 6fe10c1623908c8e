// The blocks of one guest process by id, read out of the memory that its plugin shares.
#pragma once

#include <memory>
#include <vector>

#include "capture/sim/block_info.h"
#include "hindcast/bytes.h"
#include "hindcast/fd.h"
#include "hindcast/result.h"

namespace hindcast::sim {

/// Ids are dense; those that were never defined have no instructions. Entries never move or change once there.
/// One thread.
class BlockTable {
 public:
  static constexpr uint32_t kMaxBlocks = 1u << 25;

  /// An empty table to add() to.
  BlockTable() = default;
  /// The table in a memfd as channel.h describes it ("defs"), which must be sealed against shrinking. parent: whose ids
  /// below the header's first_id it goes on from, or null.
  static Result<BlockTable> open(const Fd& defs, const BlockTable* parent);

  /// Reads what was defined since. Errors: entries that break channel.h's rules; the table stays as it was before them.
  Result<void> refresh();

  /// lengths: borrowed for the table's life.
  void add(uint32_t id, const BlockInfo& info);

  uint32_t size() const { return static_cast<uint32_t>(blocks_.size()); }
  const BlockInfo* data() const { return blocks_.data(); }

 private:
  std::vector<BlockInfo> blocks_;
  std::vector<std::shared_ptr<const Mapping>> memory_;  // ours last, then those of the parents
  uint64_t parsed_ = 0;                                 // bytes of entries
};

}  // namespace hindcast::sim
