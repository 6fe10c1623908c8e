#include "capture/aux_history.h"

#include <algorithm>

namespace hindcast::capture {

namespace {

constexpr size_t kLookedAt =
    4096;                      // bytes at the ring's end, and of the copy: PSB periods put a PSB or a TSC into most
constexpr size_t kTells = 64;  // fewer bytes say nothing: no packet has so many zeros, but some may well be padding
constexpr size_t kMostCuts = 1000;

/// Whether an earlier round wrote behind `at`, the head of the first round or of a later one.
bool older_bytes_behind(ByteSpan ring, size_t at) {
  const size_t n = std::min(kLookedAt, ring.size() - at);
  const ByteSpan tail = ring.last(n);
  if (std::any_of(tail.begin(), tail.end(), [](uint8_t b) { return b != 0; })) return true;
  return at > 0 && n < kTells;
}

}  // namespace

/// Whether a whole round or more was written since the last stop.
bool AuxHistory::gone_round(ByteSpan ring, size_t at) const {
  const size_t size = ring.size(), written = (at + size - last_) % size;  // or so many rounds more
  const size_t n = std::min(reference_.size(), size - written);           // of the copy, what lies outside of that
  if (n < kTells) return true;
  for (size_t i = 1; i <= n; ++i)
    if (ring[(last_ + size - i) % size] != reference_[reference_.size() - i]) return true;
  return false;
}

AuxHistory::Copy AuxHistory::take(ByteSpan ring, uint64_t head) {
  Copy out;
  const size_t size = ring.size();
  if (size == 0) return out;
  const size_t at = head % size;
  if (stopped_before_ && gone_round(ring, at)) {
    wrapped_ = true;
    cuts_.clear();
  } else if (stopped_before_) {
    wrapped_ |= at < last_;
    const size_t written = (at + size - last_) % size;
    std::erase_if(cuts_, [&](size_t c) {
      const size_t beyond = (c + size - last_) % size;
      return beyond > 0 && beyond <= written;
    });
  }
  wrapped_ |= older_bytes_behind(ring, at);

  out.wrapped = wrapped_;
  const auto head_at = ring.begin() + static_cast<ptrdiff_t>(at);
  out.bytes.reserve(wrapped_ ? size : at);
  if (wrapped_) out.bytes.assign(head_at, ring.end());
  out.bytes.insert(out.bytes.end(), ring.begin(), head_at);
  for (const size_t c : cuts_) {
    const size_t offset = wrapped_ ? (c + size - at) % size : c;
    if (offset > 0 && offset < out.bytes.size()) out.cuts.push_back(offset);
  }
  std::sort(out.cuts.begin(), out.cuts.end());

  if (cuts_.empty() || cuts_.back() != at) cuts_.push_back(at);
  if (cuts_.size() > kMostCuts) cuts_.erase(cuts_.begin());
  stopped_before_ = true;
  last_ = at;
  const size_t n = std::min(kLookedAt, size);
  reference_.resize(n);
  for (size_t i = 0; i < n; ++i) reference_[i] = ring[(at + size - n + i) % size];
  return out;
}

}  // namespace hindcast::capture
