// Our own engine behind the FlowDecoder interface: lanes, block graph, walk.
//
// It takes plain stretches (Stretch::plain). The others, and what shares a return stack with them, it leaves to the libipt
// engine, stretch by stretch, and counts them.
#pragma once

#include <memory>

#include "decode/fast/block_graphs.h"
#include "decode/fast/walked_times.h"
#include "decode/host_trace.h"
#include "decode/libipt_engine.h"

namespace hindcast::decode {

/// What a skip() passed on its way.
struct Skipped {
  uint64_t instructions = 0;
  uint64_t part = 0;  // where it stopped for a PSB: of the block that runs across, those before it; not counted
  size_t first = 0;   // a stretch, set by the caller
  std::vector<uint64_t> before;  // instructions before it began, and before each one after it
};

/// Some of what ran, in few words: superblocks and their times, or (`ids` is empty) events. All of it is the decoder's.
struct Ran {
  std::span<const BlockId> ids;
  const BlockGraph* graph = nullptr;  // whose ids they are
  size_t first = 0;                   // what TimeFrom::first calls ids[0]
  std::span<const TimeFrom> times;    // the first one is of ids[0]; the last may begin behind them
  std::span<const Event> events;      // not empty when there are no ids
};

class FastDecoder : public FlowDecoder {
 public:
  using FlowDecoder::next;
  /// Tells what next() tells, but for offsets of blocks. `out` is good until the decoder is asked for something else. False
  /// at the end. All blocks of a superblock have its interval. A block among ids that ends with BlockEnd::none goes on in the
  /// one behind it, as go_on_from() says, which is among the same ids. Cost: skip()'s, and 10 to 20 ns for each interval.
  virtual bool next(Ran& out) = 0;
  /// Passes over events without telling them, several times as quickly as next() does:
  ///   most    their instructions are no more
  ///   before  a packet before it decided them
  /// `skipped` is added to. Cost: 2 to 10 ns a branch when the code is known.
  virtual void skip(uint64_t most, uint64_t before, Skipped& skipped) = 0;
  /// A seek() to a PSB before it that skip() came by need not give the same blocks.
  virtual uint64_t seekable_from() const = 0;
};

/// As make_libipt_decoder(), which says what the events mean; `graphs` and `counts` are borrowed too.
///   A block that ends at a branch is said to have run when a packet shows where the branch went. Where the trace ends early
///   the last one is therefore missing that libipt gives.
///   A PSB+ whose FUP lies where the walk cannot be is a gap desync: trace was lost in front of it.
/// Errors: as make_libipt_decoder(). Cost: 5 to 15 ns a branch when the code is known.
Result<std::unique_ptr<FastDecoder>> make_fast_decoder(const PtTrace& trace, const DecodeConfig& config,
                                                       ImageSelector& images, std::shared_ptr<IptCode> code,
                                                       BlockGraphs& graphs, EngineCounts& counts);

}  // namespace hindcast::decode
