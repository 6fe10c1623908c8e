// A search for 16 bytes that forgets nothing at the seams between pieces.
#include "transport/psb_map.h"

#include <algorithm>

#include "hindcast/result.h"

namespace hindcast::transport {
namespace {

constexpr uint8_t kPsb[kPsbBytes] = {2, 0x82, 2, 0x82, 2, 0x82, 2, 0x82, 2, 0x82, 2, 0x82, 2, 0x82, 2, 0x82};

}  // namespace

void PsbScanner::scan(ByteSpan window, bool last) {
  // A PSB is decided once all of it and of what is kept after it is there.
  constexpr size_t kNeeded = kPsbBytes + kAfterPsb;
  size_t at = 0;
  while (!full_ && window.size() - at >= (last ? kPsbBytes : kNeeded)) {
    const void* hit = ::memmem(window.data() + at, window.size() - at, kPsb, kPsbBytes);
    if (!hit) {
      at = window.size() - (kPsbBytes - 1);
      break;
    }
    at = static_cast<size_t>(static_cast<const uint8_t*>(hit) - window.data());
    if (!last && window.size() - at < kNeeded) break;
    if (map_.entries.size() == kMaxEntries) {
      full_ = true;
      map_.mapped_bytes = carry_offset_ + at;
      break;
    }
    PsbEntry e{carry_offset_ + at, {}};
    const ByteSpan after = window.subspan(at + kPsbBytes);
    std::memcpy(e.after, after.data(), std::min(after.size(), kAfterPsb));
    map_.entries.push_back(e);
    at += kPsbBytes;
  }
  const std::vector<uint8_t> rest(window.begin() + static_cast<ptrdiff_t>(at), window.end());
  carry_offset_ += at;
  carry_ = rest;
}

void PsbScanner::feed(ByteSpan bytes) {
  if (full_ || bytes.empty()) return;
  // The piece's own beginning completes what was carried; the rest is scanned where it lies.
  if (!carry_.empty()) {
    const size_t n = std::min(bytes.size(), kPsbBytes + kAfterPsb);
    std::vector<uint8_t> seam = std::move(carry_);
    const size_t carried = seam.size();
    seam.insert(seam.end(), bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(n));
    scan(seam, false);
    if (full_) return;
    if (n == bytes.size()) return;  // all of it is in the seam
    // What is kept for later is shorter than what the seam added, so all that was carried before is decided now.
    const size_t consumed = seam.size() - carry_.size();
    HC_CHECK(consumed >= carried);
    bytes = bytes.subspan(consumed - carried);
    carry_.clear();
  }
  scan(bytes, false);
}

PsbMap PsbScanner::finish() && {
  if (!full_) {
    const std::vector<uint8_t> rest = std::move(carry_);
    const uint64_t end = carry_offset_ + rest.size();
    scan(rest, true);
    if (!full_) map_.mapped_bytes = end;
  }
  return std::move(map_);
}

}  // namespace hindcast::transport
