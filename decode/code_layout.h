// What lies at which address of a process: pieces that cover one another.
#pragma once

#include <cstdint>
#include <functional>
#include <map>

#include "hindcast/units.h"

namespace hindcast::decode {

/// The image of a piece that holds code, but nobody knows which.
inline constexpr uint32_t kUnknownImage = 0xffffffffu;

struct Segment {
  uint64_t end = 0;           // its start is the map's key
  uint32_t image = 0;         // 0: its bytes are not in the snapshot
  uint64_t image_offset = 0;  // of the segment's first byte
  uint64_t map_start = 0, map_length = 0;
  RecordTime time{0};  // it was there then
  uint32_t name = 0;   // as the map's owner counts names; 0: none
  uint32_t build_id = 0;
  bool file = false;    // a mapping put it there
  bool copied = false;  // out of memory in which it stood for the whole time that was asked about

  bool has_bytes() const { return image != 0 && image != kUnknownImage; }
};

using Layout = std::map<uint64_t, Segment>;

/// Makes [start, segment.end) the segment's; what it covers is cut or split. A segment without an image or a name only
/// covers. Beyond kMostSegments new ones only cover, too.
void cover(Layout& layout, uint64_t start, const Segment& segment);
inline constexpr size_t kMostSegments = size_t{1} << 20;

/// The part of a segment from `from` on.
Segment part_of(uint64_t start, const Segment& segment, uint64_t from, uint64_t to);

/// Tells [start, end) in pieces, from low to high: each with what lies there, or with nullptr. The layout must not change
/// meanwhile.
void for_each_piece(
    const Layout& layout, uint64_t start, uint64_t end,
    const std::function<void(uint64_t from, uint64_t to, uint64_t segment_start, const Segment*)>& told);

}  // namespace hindcast::decode
