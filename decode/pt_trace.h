// One PT stream and what its packets alone say of it: what every decoder of flow begins with.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "decode/pt_time.h"
#include "decode/stretches.h"
#include "hindcast/bytes.h"
#include "hindcast/stream_bytes.h"

namespace hindcast::decode {

/// One PT stream with what a packet-level scan says of it. Borrowed bytes; immutable once scanned.
struct PtTrace {
  ByteSpan bytes;
  StreamBytes* parts = nullptr;  // who brings them into memory for a TraceBytes; nullptr: they are there
  std::vector<uint64_t> cuts;    // ascending, inside the bytes
  TimeMap times;
  StretchMap map;

  /// O(bytes). Cuts outside the bytes are ignored.
  ///   holes  SharedBytes::holes: read like cuts, but what is missing there is a gap `cut`.
  static PtTrace scan(TraceBytes& bytes, const PtTimeConfig& time, std::vector<uint64_t> cuts = {},
                      std::span<const uint64_t> holes = {});
  static PtTrace scan(ByteSpan bytes, const PtTimeConfig& time, std::vector<uint64_t> cuts = {},
                      std::span<const uint64_t> holes = {}) {
    TraceBytes all(bytes);
    return scan(all, time, std::move(cuts), holes);
  }
  /// Those inside the bytes, in order.
  void set_cuts(std::vector<uint64_t> all);
  /// The last stretch that begins at or before offset; stretches.size() when there is none.
  size_t stretch_at(uint64_t offset) const;
  /// The first stretch that begins at offset or behind it; stretches.size() when there is none.
  size_t first_stretch_from(uint64_t offset) const;

  /// The last PSB at or before offset; 0 when there is none.
  uint64_t last_psb(uint64_t offset) const;
  /// The first PSB at offset or behind it; limit when there is none before it.
  uint64_t first_psb(uint64_t offset, uint64_t limit) const;
  /// The first of those whose bytes are still what was written. What `from` covered can be read no more.
  uint64_t first_whole_psb(TraceBytes& from, uint64_t offset, uint64_t limit) const;
};

}  // namespace hindcast::decode
