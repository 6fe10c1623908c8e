// Appends to lanes that have room for it.
#pragma once

#include <cstring>

#include "decode/fast/lanes.h"

namespace hindcast::decode {

/// Appends bits to the TNT lane.
class BitWriter {
 public:
  BitWriter(uint8_t* lane, uint32_t bits) : out_(lane + (bits >> 3)), pending_(bits & 7) {
    acc_ = uint64_t{*out_} << 56 & ~(~uint64_t{0} >> pending_);
  }
  static constexpr unsigned kMost = 56;
  /// n <= kMost bits, right-aligned; the oldest is the highest.
  void put(uint64_t bits, unsigned n) {
    acc_ |= bits << 1 << (63 - pending_ - n);
    const uint64_t big_endian = __builtin_bswap64(acc_);
    std::memcpy(out_, &big_endian, sizeof big_endian);
    pending_ += n;
    out_ += pending_ >> 3;
    acc_ <<= pending_ & ~7u;
    pending_ &= 7;
  }

 private:
  uint8_t* out_;
  unsigned pending_;  // bits of the byte at out_ that are set
  uint64_t acc_;      // they, from the top
};

/// Appends packets. What they need of room is the caller's business; close() says in the lanes what is in them.
class LaneWriter {
 public:
  explicit LaneWriter(Lanes& lanes)
      : lanes_(lanes), writer_(lanes.tnt.data(), lanes.bits), bits_(lanes.bits), tips_(lanes.tips), tnts_(lanes.tnts) {
    close_near(0);
  }

  /// A packet of one byte with n bits, or (n = 0) one that leaves nothing.
  void short_tnt(uint64_t at, uint64_t payload, unsigned n) {
    const uint32_t offset = offset_of(at);
    if (offset - near_.offset >= 64) close_near(offset);
    near_.mask |= uint64_t{n != 0} << (offset - near_.offset);
    put(payload, n);
  }
  void long_tnt(uint64_t at, uint64_t payload, unsigned n) {
    close_near(offset_of(at));
    lanes_.tnt_at[tnts_++] = near_;
    put(payload, n);
    near_.first_bit = static_cast<int32_t>(bits_);
    near_.offset += 8;
  }
  void tip(uint64_t at, uint64_t ip) {
    lanes_.tip[tips_] = ip;
    lanes_.tip_bits[tips_] = bits_;
    lanes_.tip_offset[tips_++] = offset_of(at);
  }

  void close() {
    close_near(0);
    lanes_.bits = bits_;
    lanes_.tips = tips_;
    lanes_.tnts = tnts_;
  }

 private:
  uint32_t offset_of(uint64_t at) const { return static_cast<uint32_t>(at - lanes_.base); }
  void put(uint64_t bits, unsigned n) {
    writer_.put(bits, n);
    bits_ += n;
  }
  void close_near(uint32_t next) {
    lanes_.tnt_at[tnts_] = near_;
    tnts_ += near_.mask != 0;
    near_ = {static_cast<int32_t>(bits_), next, 0};
  }

  Lanes& lanes_;
  BitWriter writer_;
  uint32_t bits_;
  size_t tips_, tnts_;
  Lanes::TntsAt near_{0, 0, 0};
};

}  // namespace hindcast::decode
