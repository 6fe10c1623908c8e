// A trace's bytes for one reader, who has as much of them in memory as he is reading.
#pragma once

#include <algorithm>
#include <cstdint>

#include "hindcast/bytes.h"
#include "hindcast/stream_bytes.h"

namespace hindcast::decode {

/// Borrows the stream.
class TraceBytes {
 public:
  /// stream: nullptr when all bytes are in memory.
  TraceBytes(ByteSpan all, StreamBytes* stream) : all_(all), stream_(stream) {}
  explicit TraceBytes(ByteSpan all) : TraceBytes(all, nullptr) {}
  ~TraceBytes() { release(); }
  TraceBytes(const TraceBytes&) = delete;
  TraceBytes& operator=(const TraceBytes&) = delete;

  /// Of these, only what cover() was asked for last can be read.
  ByteSpan all() const { return all_; }

  /// Makes [from, to), which lies in the trace, readable, and what was before no more. How far the bytes are what was
  /// written: StreamBytes::hold().
  uint64_t cover(uint64_t from, uint64_t to) {
    if (!stream_) return to;
    if (from < from_ || to > to_ || from > true_to_) {
      const uint64_t ahead = std::min<uint64_t>(std::max(to, from + kAhead), all_.size());
      const uint64_t true_to = stream_->hold(from, ahead);
      release();
      from_ = from;
      to_ = ahead;
      true_to_ = true_to;
      met_loss_ |= true_to != ahead;
    }
    return std::min(to, true_to_);
  }
  /// Some of what was held was not what was written any more.
  bool met_loss() const { return met_loss_; }
  void release() {
    if (to_ > from_) stream_->release(from_, to_);
    from_ = to_ = true_to_ = 0;
  }

 private:
  /// Held at once, so that it is not asked for each piece.
  static constexpr uint64_t kAhead = uint64_t{256} << 10;

  const ByteSpan all_;
  StreamBytes* const stream_;
  uint64_t from_ = 0, to_ = 0;  // held
  uint64_t true_to_ = 0;
  bool met_loss_ = false;
};

}  // namespace hindcast::decode
