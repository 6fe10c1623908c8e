// Where the PSBs of a stream are: the only places from which packets can be read when nothing else is known.
//
// A PSB is eight pairs 02 82. Where more pairs stand together than one PSB has (a payload that ends in 02 82, PSBs back to
// back), the PSBs are those that end where the run of pairs ends: only so the packet behind them is read right.
#pragma once

#include <cstdint>
#include <optional>

#include "hindcast/bytes.h"

namespace hindcast::decode {

/// Offset of the first PSB that begins at or after from; nothing when there is none. Memory speed, but it reads the run of
/// pairs that the PSB is part of to its end: who asks many times asks a PsbSearch.
std::optional<uint64_t> next_psb(ByteSpan bytes, uint64_t from);

/// Offset of the last PSB that begins at or before `at`; nothing when there is none. Memory speed, as next_psb().
std::optional<uint64_t> last_psb(ByteSpan bytes, uint64_t at);

/// next_psb() over the same borrowed bytes, again and again: while `from` does not go back, all calls together read each byte
/// once. An answer holds for all that lies between the question and it, and a run of pairs is read to its end once.
class PsbSearch {
 public:
  explicit PsbSearch(ByteSpan bytes) : bytes_(bytes) {}

  std::optional<uint64_t> next(uint64_t from);
  ByteSpan bytes() const { return bytes_; }

 private:
  ByteSpan bytes_;
  uint64_t from_ = ~uint64_t{0}, to_ = 0;  // known: the first PSB at or after from_ is found_, and its run ends at to_
  std::optional<uint64_t> found_;
};

}  // namespace hindcast::decode
