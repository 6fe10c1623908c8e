// Does a decoded flow equal what was really executed? Exact outside gaps, and gaps may hide only what is missing.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "hindcast/event.h"
#include "hindcast/units.h"

namespace hindcast::server {

/// Addresses of executed instructions, in order.
class TruthSequence {
 public:
  virtual ~TruthSequence() = default;
  virtual bool next(uint64_t& ip) = 0;
  /// When the one that next() gave last ran. Unknown when the truth does not say.
  virtual TscInterval when() const { return TscInterval::unknown(); }
  /// An independent copy that goes on from here.
  virtual std::unique_ptr<TruthSequence> clone() const = 0;
  /// How many of the very last instructions may not have run after all: the thread was killed inside its last block.
  virtual uint64_t uncertain_tail() const { return 0; }
};

/// A piece of a decoded flow: addresses of instructions, or a gap.
struct DecodedPiece {
  bool gap = false;
  std::span<const uint64_t> ips;  // valid until the next call
  Event event;                    // what it comes from
};

class DecodedSequence {
 public:
  virtual ~DecodedSequence() = default;
  virtual bool next(DecodedPiece& out) = 0;
};

struct CompareResult {
  uint64_t decoded = 0, truth = 0;  // instructions
  uint64_t gaps = 0;
  uint64_t not_decoded = 0;  // of the truth, hidden by gaps
  uint64_t timed = 0;        // blocks whose time was compared
  uint64_t misplaced = 0;    // of these, those whose interval excludes the time at which they ran
  uint64_t worst_ticks = 0;  // how far outside the worst of them lies
  uint64_t worst_at = 0;     // its instruction's index in the truth
  bool equal = false;        // all instructions; says nothing about times
  std::string difference;    // the first one with its surroundings; empty when equal
};

/// The flow up to its first gap must be the truth from its start; each stretch behind a gap must be found whole in what is
/// left of the truth (the first place at its time is taken, or the first at all); and unless the flow ends
/// in a gap, its last stretch must end where the truth ends. Stretches are found by a 61-bit rolling hash. Times are
/// compared for every block up to the first gap, and for up to 65,536 of each stretch behind it.
/// Cost: O(decoded + truth); memory does not grow with either.
///   frozen  the trace was taken then and the program went on: what ran at or after it need not be decoded. max(): it ended
CompareResult compare_with_truth(DecodedSequence& decoded, const TruthSequence& truth, Tsc frozen = Tsc::max());

}  // namespace hindcast::server
