// The block graphs of a host's code images, most recently used first, within a bound of memory, and the runs through them.
#pragma once

#include <list>
#include <memory>

#include "decode/fast/run_memo.h"

namespace hindcast::decode {

/// Shared by all decoders of a HostTrace, which then share what they learned. One thread at a time.
class BlockGraphs {
 public:
  /// rest: as RunMemo's.
  explicit BlockGraphs(uint64_t rest = RunMemo::kFirstRest) : memo_(rest) {}

  /// The graph for this code, new when it is not known or has become full. What was returned stays valid while it is held.
  std::shared_ptr<BlockGraph> of(const std::shared_ptr<const CodeImage>& code, int bits) {
    for (auto it = recent_.begin(); it != recent_.end(); ++it) {
      if ((*it)->code() != code || (*it)->bits() != bits) continue;
      if ((*it)->full()) {
        recent_.erase(it);
        break;
      }
      recent_.splice(recent_.begin(), recent_, it);
      return recent_.front();
    }
    recent_.push_front(std::make_shared<BlockGraph>(code, bits));
    size_t blocks = 0, graphs = 0;
    for (auto it = recent_.begin(); it != recent_.end();) {
      blocks += (*it)->size();
      it = it != recent_.begin() && (blocks > BlockGraph::kMostBlocks || ++graphs > kMostGraphs) ? recent_.erase(it)
                                                                                                 : std::next(it);
    }
    return recent_.front();
  }

  RunMemo& memo() { return memo_; }

 private:
  static constexpr size_t kMostGraphs = 64;  // each holds its code, and a table even when it is small

  RunMemo memo_;
  std::list<std::shared_ptr<BlockGraph>> recent_;
};

}  // namespace hindcast::decode
