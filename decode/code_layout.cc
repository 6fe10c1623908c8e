#include "decode/code_layout.h"

#include <algorithm>

namespace hindcast::decode {

void cover(Layout& layout, uint64_t start, const Segment& segment) {
  const uint64_t end = segment.end;
  auto it = layout.lower_bound(start);
  if (it != layout.begin()) --it;
  while (it != layout.end() && it->first < end) {
    const uint64_t old_start = it->first;
    const Segment old = it->second;
    if (old.end <= start) {
      ++it;
      continue;
    }
    it = layout.erase(it);
    if (old_start < start) layout.emplace(old_start, part_of(old_start, old, old_start, start));
    if (old.end > end) {
      it = layout.emplace(end, part_of(old_start, old, end, old.end)).first;
      break;
    }
  }
  if (segment.image == 0 && segment.name == 0) return;
  if (layout.size() < kMostSegments) layout[start] = segment;
}

Segment part_of(uint64_t start, const Segment& segment, uint64_t from, uint64_t to) {
  Segment part = segment;
  part.image_offset += from - start;
  part.end = to;
  return part;
}

void for_each_piece(const Layout& layout, uint64_t start, uint64_t end,
                    const std::function<void(uint64_t, uint64_t, uint64_t, const Segment*)>& told) {
  uint64_t at = start;
  auto it = layout.upper_bound(start);
  if (it != layout.begin()) --it;
  for (; it != layout.end() && it->first < end && at < end; ++it) {
    if (it->second.end <= at) continue;
    if (it->first > at) told(at, it->first, 0, nullptr);
    const uint64_t from = std::max(at, it->first), to = std::min(end, it->second.end);
    told(from, to, it->first, &it->second);
    at = to;
  }
  if (at < end) told(at, end, 0, nullptr);
}

}  // namespace hindcast::decode
