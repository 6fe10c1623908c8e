// A stream's bytes at one address, of which no more need be in memory than somebody holds.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "hindcast/bytes.h"

namespace hindcast {

/// Any thread may call it at any time.
class StreamBytes {
 public:
  explicit StreamBytes(ByteSpan bytes, std::vector<uint64_t> holes = {}) : bytes_(bytes), holes_(std::move(holes)) {}
  virtual ~StreamBytes() = default;
  StreamBytes(const StreamBytes&) = delete;
  StreamBytes& operator=(const StreamBytes&) = delete;

  /// Where they are, for the object's life. To read one that nobody holds ends the process.
  ByteSpan bytes() const { return bytes_; }
  /// As SharedBytes::holes: what was known to be missing when the stream was opened.
  const std::vector<uint64_t>& holes() const { return holes_; }

  /// Brings [from, to) into memory, where it stays until release() is called with the same range. How far the bytes are what
  /// was written: `to`, or where the first damage lies that was found since the stream was opened: the bytes behind it can be
  /// read, but mean nothing.
  virtual uint64_t hold(uint64_t from, uint64_t to) = 0;
  virtual void release(uint64_t from, uint64_t to) = 0;

 private:
  const ByteSpan bytes_;
  const std::vector<uint64_t> holes_;
};

}  // namespace hindcast
