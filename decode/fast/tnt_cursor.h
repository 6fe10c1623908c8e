// Which packet each bit of the TNT lane came from.
#pragma once

#include <algorithm>
#include <bit>
#include <span>

#include "decode/fast/lanes.h"

namespace hindcast::decode {

/// Of a TNT packet of one byte: a stop bit above them, and bit 0 below.
inline int bits_of_tnt(uint8_t packet) { return std::bit_width(packet) - 2; }

/// Goes through the lane bit by bit. Good for as long as the lanes do not change; they and the trace they were lexed from are
/// handed in anew each time.
class TntCursor {
 public:
  /// To a bit: any number up to lanes.bits.
  void seek(const Lanes& lanes, ByteSpan trace, uint32_t bit) {
    bit_ = bit;
    if (bit >= lanes.bits) return;
    const std::span<const Lanes::TntsAt> all(lanes.tnt_at.data(), lanes.tnts);
    const auto behind = std::upper_bound(all.begin(), all.end(), int64_t{bit},
                                         [](int64_t b, const Lanes::TntsAt& t) { return b < t.first_bit; });
    enter(lanes, trace, static_cast<size_t>(behind - all.begin()) - 1);
    while (end_ <= bit_) next_packet(lanes, trace);
  }

  uint32_t bit() const { return bit_; }
  /// Of the packet that has the bit; nothing at the last one's end.
  uint64_t offset() const { return offset_; }
  /// Bits up to and with this packet's.
  uint32_t packet_end() const { return static_cast<uint32_t>(end_); }

  /// Goes one bit on.
  void step(const Lanes& lanes, ByteSpan trace) {
    if (++bit_ == end_ && bit_ < lanes.bits) next_packet(lanes, trace);
  }
  /// To the next packet's first bit.
  void pass_packet(const Lanes& lanes, ByteSpan trace) {
    bit_ = packet_end();
    if (bit_ < lanes.bits) next_packet(lanes, trace);
  }

 private:
  void next_packet(const Lanes& lanes, ByteSpan trace) {
    rest_ &= rest_ - 1;
    if (rest_ != 0)
      read_packet(trace);
    else
      enter(lanes, trace, at_ + 1);
  }
  void enter(const Lanes& lanes, ByteSpan trace, size_t at) {
    const Lanes::TntsAt& t = lanes.tnt_at[at];
    at_ = at;
    rest_ = t.mask;
    base_ = offset_ = lanes.base + t.offset;
    end_ = t.first_bit;
    if (rest_ != 0)
      read_packet(trace);
    else
      end_ = at + 1 < lanes.tnts ? lanes.tnt_at[at + 1].first_bit : int64_t{lanes.bits};
  }
  void read_packet(ByteSpan trace) {
    offset_ = base_ + static_cast<uint64_t>(std::countr_zero(rest_));
    end_ += bits_of_tnt(trace[offset_]);
  }

  size_t at_ = 0;
  uint64_t rest_ = 0;  // of its mask, this packet's bit lowest
  uint64_t base_ = 0, offset_ = 0;
  uint32_t bit_ = 0;
  int64_t end_ = 0;
};

}  // namespace hindcast::decode
