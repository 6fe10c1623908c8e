#include "decode/image_bytes.h"

#include <algorithm>
#include <cstring>

namespace hindcast::decode {
namespace {

size_t pieces_of(uint64_t size, uint64_t piece) { return static_cast<size_t>((size + piece - 1) / piece); }

}  // namespace

ImageBytes::ImageBytes(std::shared_ptr<StreamBytes> bytes, Check check)
    : bytes_(std::move(bytes)),
      check_(std::move(check)),
      held_(std::make_unique<std::atomic<bool>[]>(pieces_of(size(), kPiece))) {}

ImageBytes::~ImageBytes() {
  for (uint64_t from = 0; from < size(); from += kPiece)
    if (held_[from / kPiece]) bytes_->release(from, std::min(from + kPiece, size()));
}

size_t ImageBytes::read(uint64_t offset, std::span<uint8_t> out) const {
  if (offset >= size()) return 0;
  out = out.first(std::min<uint64_t>(out.size(), std::min((offset / kPiece + 1) * kPiece, size()) - offset));
  if (out.empty()) return 0;
  if (!held_[offset / kPiece].load(std::memory_order_acquire)) return bring(offset, out);
  std::memcpy(out.data(), bytes_->bytes().data() + offset, out.size());
  return out.size();
}

/// out ends in the piece of offset.
size_t ImageBytes::bring(uint64_t offset, std::span<uint8_t> out) const {
  if (!is_right()) return 0;
  std::atomic<bool>& held = held_[offset / kPiece];
  const uint64_t piece = offset / kPiece * kPiece, end = std::min(piece + kPiece, size());
  const bool whole = bytes_->hold(piece, end) == end;
  const uint64_t n = std::min<uint64_t>(out.size(), whole ? out.size() : bytes_->hold(offset, end) - offset);
  if (n != 0) std::memcpy(out.data(), bytes_->bytes().data() + offset, n);
  if (!whole) bytes_->release(offset, end);
  if (!whole || held.exchange(true, std::memory_order_acq_rel)) bytes_->release(piece, end);
  return n;
}

bool ImageBytes::is_right() const {
  std::call_once(checked_, [this] {
    if (!check_) return;
    for (const uint64_t n : {std::min(kPiece, size()), size()}) {
      const uint64_t known = bytes_->hold(0, n);
      const std::optional<bool> verdict = check_(bytes_->bytes().first(known));
      bytes_->release(0, n);
      if (!verdict) continue;
      right_ = *verdict;
      return;
    }
  });
  return right_;
}

}  // namespace hindcast::decode
