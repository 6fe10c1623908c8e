// An engine's blocks against what a made-up CPU ran.
#pragma once

#include <cinttypes>
#include <cstdio>
#include <span>
#include <string>

#include "tests/support/random_program.h"
#include "tests/support/tiny_host.h"

namespace hindcast::test {

/// Compares the instructions of blocks with what ran.
class RanCheck {
 public:
  explicit RanCheck(std::span<const RandomCpu::Part> parts) : parts_(parts) {}

  void told(const Event& e) {
    if (e.kind == EventKind::overflow) {
      finish_part();
      ++part_;
      piece_ = done_ = 0;
    }
    if (e.kind == EventKind::gap && e.cause != GapCause::pt_overflow && e.cause != GapCause::not_captured)
      wrong(e, "nothing was lost");
    if (e.kind != EventKind::block) return;
    for (uint32_t n = e.count, at = 0; n > 0;) {
      if (part_ >= parts_.size() || piece_ >= parts_[part_].ran.size()) return wrong(e, "no more ran");
      const RandomCpu::Piece& p = parts_[part_].ran[piece_];
      if (at == 0 && e.ip != p.ip + done_) return wrong(e, "what ran begins at " + hex(p.ip + done_));
      const uint32_t some = std::min(n, p.count - done_);
      n -= some;
      at += some;
      done_ += some;
      if (n == 0 && p.ip + done_ - 1 != e.last_ip) return wrong(e, "what ran ends at " + hex(p.ip + done_ - 1));
      if (done_ == p.count) ++piece_, done_ = 0;
    }
  }
  /// Empty when all is the truth.
  std::string verdict() {
    finish_part();
    return wrong_;
  }

 private:
  void finish_part() {
    if (part_ < parts_.size() && piece_ < parts_[part_].shown && wrong_.empty())
      wrong_ = "from " + hex(parts_[part_].ran[piece_].ip) + " on what ran is missing";
  }
  void wrong(const Event& e, const std::string& why) {
    if (wrong_.empty()) wrong_ = text_of(e) + " at " + std::to_string(e.offset) + ": " + why;
  }
  static std::string hex(uint64_t v) {
    char text[24];
    std::snprintf(text, sizeof text, "%" PRIx64, v);
    return text;
  }

  std::span<const RandomCpu::Part> parts_;
  size_t part_ = 0, piece_ = 0;
  uint32_t done_ = 0;  // instructions of the piece
  std::string wrong_;
};

}  // namespace hindcast::test
