// A simulated AUX ring in overwrite mode: one CPU's newest PT bytes.
#pragma once

#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "hindcast/bytes.h"
#include "hindcast/result.h"

namespace hindcast::sim {

/// Like the AUX area that the kernel maps read-only: writing never stops, the oldest bytes go first. Memory is touched
/// only as far as it was written. One thread.
class AuxRing {
 public:
  static constexpr size_t kMaxPut = 64;  // bytes of one put()

  explicit AuxRing(uint64_t bytes) : size_(bytes), buf_(static_cast<uint8_t*>(std::calloc(1, bytes + kMaxPut))) {
    HC_CHECK(bytes >= kMaxPut);
    HC_CHECK(buf_ != nullptr);
  }

  uint64_t capacity() const { return size_; }
  /// Bytes written since the start; never wraps.
  uint64_t written() const { return written_; }
  bool wrapped() const { return written_ > size_; }

  /// Appends n <= kMaxPut bytes.
  void put(const void* src, size_t n) {
    std::memcpy(buf_.get() + pos_, src, n);
    advance(n);
  }
  void put_byte(uint8_t b) {
    buf_.get()[pos_] = b;
    advance(1);
  }
  /// Appends the n (1..8) low bytes of v.
  void put_low(uint64_t v, size_t n) {
    const uint64_t keep = n == 8 ? 0 : ~uint64_t{0} << (8 * n);  // the bytes behind are the ring's oldest: keep them
    uint64_t old;
    std::memcpy(&old, buf_.get() + pos_, 8);
    v = (v & ~keep) | (old & keep);
    std::memcpy(buf_.get() + pos_, &v, 8);
    advance(n);
  }

  /// What the ring holds, oldest byte first. O(capacity).
  std::vector<uint8_t> contents() const {
    std::vector<uint8_t> out;
    if (!wrapped()) {
      out.assign(buf_.get(), buf_.get() + written_);
      return out;
    }
    out.reserve(size_);
    out.insert(out.end(), buf_.get() + pos_, buf_.get() + size_);
    out.insert(out.end(), buf_.get(), buf_.get() + pos_);
    return out;
  }

 private:
  void advance(size_t n) {
    pos_ += n;
    written_ += n;
    if (pos_ >= size_) {  // what was put into the slack behind the end belongs to the start
      pos_ -= size_;
      std::memcpy(buf_.get(), buf_.get() + size_, pos_);
    }
  }

  struct Free {
    void operator()(uint8_t* p) const { std::free(p); }
  };
  uint64_t size_;
  uint64_t pos_ = 0;
  uint64_t written_ = 0;
  std::unique_ptr<uint8_t, Free> buf_;
};

}  // namespace hindcast::sim
