// Code that would run for ever without using up trace.
#pragma once

#include <cstdint>

namespace hindcast::decode {

/// Recognises code that goes in circles without using up trace (Brent's algorithm): what runs without trace depends on
/// nothing but where it is, so a place that comes again comes again for ever.
class CircleGuard {
 public:
  void reset() { steps_ = 0, limit_ = 64; }
  /// place: an address or a block's id. Each place of a circle is passed at most three times before it is noticed.
  bool is_circle(uint64_t place) {
    if (steps_ != 0 && place == mark_) return true;
    if (steps_++ == 0) mark_ = place;
    if (steps_ >= limit_) {
      mark_ = place;
      limit_ *= 2;
    }
    return false;
  }

 private:
  uint64_t mark_ = 0, steps_ = 0, limit_ = 64;
};

}  // namespace hindcast::decode
