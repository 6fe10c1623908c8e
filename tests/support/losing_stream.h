// A stream of which bytes are lost after it was opened.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "hindcast/stream_bytes.h"

namespace hindcast::test {

struct Lost {
  uint64_t from, to;
};

/// A base, so that they are there before StreamBytes is told where.
struct OwnBytes {
  std::vector<uint8_t> own;
};

/// Loses ranges when it is told to. What nobody holds is not checked here: a stream of a bundle faults.
class LosingStream final : OwnBytes, public StreamBytes {
 public:
  explicit LosingStream(std::vector<uint8_t> bytes) : OwnBytes{std::move(bytes)}, StreamBytes(own) {}
  void lose(const std::vector<Lost>& lost) {
    lost_ = lost;
    for (const Lost& l : lost)
      std::fill(own.begin() + static_cast<ptrdiff_t>(l.from), own.begin() + static_cast<ptrdiff_t>(l.to), 0x05);
  }
  uint64_t hold(uint64_t from, uint64_t to) override {
    ++held_;
    for (const Lost& l : lost_)
      if (l.to > from) return std::min(to, std::max(from, l.from));
    return to;
  }
  void release(uint64_t, uint64_t) override { --held_; }
  int held() const { return held_; }

 private:
  std::vector<Lost> lost_;  // ascending
  int held_ = 0;
};

}  // namespace hindcast::test
