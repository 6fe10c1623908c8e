// Which packets a walk used, when it used them in the order in which they stand.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "decode/fast/lanes.h"
#include "decode/fast/tnt_cursor.h"

namespace hindcast::decode {

/// So many more than it is asked for write_offsets() may write.
inline constexpr size_t kOffsetsBehind = 8;

/// From a bit and a TIP on, of which the first is used next, where the packets of the next uses are: each bit is one, and each
/// TIP. Offsets are from lanes.base. As many as there are, and as fit in front of the last kOffsetsBehind of `out`. Cost: 2 to
/// 5 ns a packet.
inline void write_offsets(const Lanes& lanes, ByteSpan trace, uint32_t bit, size_t tip, std::span<uint32_t> out) {
  TntCursor bits;
  bits.seek(lanes, trace, bit);
  uint32_t* o = out.data();
  uint32_t* const end = o + out.size() - kOffsetsBehind;
  for (;;) {
    const uint32_t limit = tip < lanes.tips ? lanes.tip_bits[tip] : lanes.bits;
    while (bits.bit() < limit && o < end) {
      const auto offset = static_cast<uint32_t>(bits.offset() - lanes.base);
      const uint32_t n = bits.packet_end() - bits.bit();
      std::fill_n(o, kOffsetsBehind, offset);
      for (uint32_t i = kOffsetsBehind; i < n && o + i < end; ++i) o[i] = offset;
      o += n;
      bits.pass_packet(lanes, trace);
    }
    if (o >= end || tip == lanes.tips) break;
    *o++ = lanes.tip_offset[tip++];
  }
}

}  // namespace hindcast::decode
