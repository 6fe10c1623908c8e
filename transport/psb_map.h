// Where the PSB packets of a PT stream are: the map that the server gets before the territory.
#pragma once

#include <array>
#include <cstring>
#include <vector>

#include "hindcast/bytes.h"

namespace hindcast::transport {

inline constexpr size_t kPsbBytes = 16;
inline constexpr size_t kAfterPsb = 64;  // bytes kept after a PSB: PSB+ with its timing packets fits

struct PsbEntry {
  uint64_t offset;           // in the stream, of the PSB's first byte
  uint8_t after[kAfterPsb];  // the bytes that follow the PSB, unread; zeros beyond the stream's end
};
static_assert(sizeof(PsbEntry) == 72);

struct PsbMap {
  std::vector<PsbEntry> entries;  // ascending offsets
  uint64_t mapped_bytes = 0;      // every PSB that begins before this is in entries
};

/// Finds PSBs by their 16 bytes while a stream is fed in pieces of any size; the split does not matter. Stops at
/// kMaxEntries: a stream made of little else must not make a map larger than itself.
class PsbScanner {
 public:
  static constexpr size_t kMaxEntries = size_t{1} << 18;

  void feed(ByteSpan bytes);
  PsbMap finish() &&;

 private:
  void scan(ByteSpan window, bool last);

  std::vector<uint8_t> carry_;  // the end of what was fed, not yet decided
  uint64_t carry_offset_ = 0;   // in the stream, of carry_[0]
  bool full_ = false;
  PsbMap map_;
};

}  // namespace hindcast::transport
