// The bytes of one image, brought into memory where code is first read and kept there.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>

#include "hindcast/stream_bytes.h"

namespace hindcast::decode {

/// Any number of threads may read. Memory: what was read, in pieces of 64 KiB or of what the stream brings at once.
class ImageBytes {
 public:
  /// Whether the image is the one that is wanted, as the first of its bytes say; nothing when they do not say it.
  using Check = std::function<std::optional<bool>(ByteSpan first)>;

  /// check: asked before the first byte is handed out, with some of them, and with all when it cannot tell; when it still
  /// cannot, the image is taken to be the one. Of another image there are no bytes.
  explicit ImageBytes(std::shared_ptr<StreamBytes> bytes, Check check = {});
  ~ImageBytes();
  ImageBytes(const ImageBytes&) = delete;
  ImageBytes& operator=(const ImageBytes&) = delete;

  uint64_t size() const { return bytes_->bytes().size(); }
  /// Copies bytes from offset on, up to out.size(); how many: more may follow, unless it is 0. Damaged ones are not there.
  size_t read(uint64_t offset, std::span<uint8_t> out) const;

 private:
  size_t bring(uint64_t offset, std::span<uint8_t> out) const;
  bool is_right() const;

  static constexpr uint64_t kPiece = uint64_t{64} << 10;

  const std::shared_ptr<StreamBytes> bytes_;
  const Check check_;
  mutable std::once_flag checked_;
  mutable bool right_ = true;
  const std::unique_ptr<std::atomic<bool>[]> held_;  // of each piece: it is, until the end, and was not damaged
};

}  // namespace hindcast::decode
