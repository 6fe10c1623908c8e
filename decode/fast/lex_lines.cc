#include "decode/fast/lex_lines.h"

#include <algorithm>
#include <bit>

#include "decode/fast/lines.h"
#include "decode/packet_reader.h"

namespace hindcast::decode {
namespace {

constexpr uint64_t from_bit(uint64_t i) { return ~uint64_t{0} << i; }

/// Which bytes are second bytes, when a byte of `twos` that is none begins two. In a run of twos every other one does; a
/// subtraction carries through all runs at once. As simdjson finds escaped characters.
HC_LINES inline uint64_t second_bytes(uint64_t twos) {
  constexpr uint64_t kOdd = 0xaaaaaaaaaaaaaaaa;
  return ((twos << 1 | kOdd) - twos) ^ kOdd ^ twos;
}

/// Of a packet that is neither in a lane nor a TIP: its size. 0 when lines cannot hold it.
[[gnu::noinline]] uint64_t size_of_other(ByteSpan trace, uint64_t at) {
  if (is_cyc(trace[at])) return behind_cyc(trace, at) - at;
  PacketReader reader(trace);
  reader.seek(at);
  Packet p;
  return reader.next(p) == Step::ok && is_timing(p.kind) ? p.size : 0;
}

/// Step 2: the only one that goes from packet to packet, and only from one of `others` to the next. Leaves in `tnts` what is a
/// packet that begins before `to`. Where the next one begins, as lex_lines().
HC_LINES uint64_t find_packets(ByteSpan trace, uint64_t at, uint64_t to, Lines& x) {
  uint64_t from = 0;  // where in the line its first packet begins
  uint16_t* tips = x.tips;
  for (uint64_t i = 0; at < to; ++i, at += kLineBytes) {
    Line& line = x.lines[i];
    const uint64_t size = std::min(to - at, kLineBytes);
    if (from >= size) [[unlikely]] {
      line.tnts = 0;
      if (size < kLineBytes) break;
      from -= kLineBytes;
      continue;
    }
    const uint64_t in_line = ~uint64_t{0} >> (kLineBytes - size);
    const uint64_t twos = line.twos & in_line;
    uint64_t inside = ~from_bit(from) | second_bytes(twos & from_bit(from));  // bytes that begin no packet
    uint64_t to_see = line.others & in_line & ~inside;
    uint64_t others = to_see;  // from the next packet on
    for (;;) {
      if (others == 0) {
        // The last byte is one of two bytes and begins them: the other one is in the next line.
        from = size + (twos >> (size - 1) & ~(inside >> (size - 1)) & 1);
        break;
      }
      const auto place = static_cast<uint64_t>(std::countr_zero(others));
      uint64_t next = x.behind[i * kLineBytes + place];
      if (next < Lines::kNoTip) [[likely]] {
        *tips++ = static_cast<uint16_t>(i * kLineBytes + place);
      } else {
        const uint64_t bytes = size_of_other(trace, at + place);
        if (bytes == 0) {
          line.tnts &= ~(inside | from_bit(place));
          x.tip_count = static_cast<uint64_t>(tips - x.tips);
          return at + place;
        }
        next = place + bytes;
      }
      if (next >= size) {
        inside |= from_bit(place);
        from = next;
        break;
      }
      // What was found holds on from `next` if a packet begins there in it too.
      if (inside >> next & 1) [[unlikely]] {
        inside = (inside & ~from_bit(next)) | second_bytes(twos & from_bit(next));
        to_see = line.others & in_line & ~inside;
      }
      others = to_see & from_bit(next);
      inside |= from_bit(place) & ~from_bit(next);
    }
    line.tnts &= in_line & ~inside;
    if (size < kLineBytes) break;
    from -= kLineBytes;
  }
  x.tip_count = static_cast<uint64_t>(tips - x.tips);
  return at + from;
}

}  // namespace

// PEXT takes hundreds of cycles on AMD's first two Zens.
bool can_lex_lines() {
  static const bool can = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") &&
                          __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("popcnt") &&
                          !__builtin_cpu_is("znver1") && !__builtin_cpu_is("znver2");
  return can;
}

HC_LINES uint64_t lex_lines(ByteSpan trace, uint64_t at, uint64_t to, LastIp& last_ip, Lanes& lanes) {
  Lines x;
  classify_lines(trace, at, to, x);
  const uint64_t next = find_packets(trace, at, to, x);
  write_tnts(trace, at, std::min(next, to), x, lanes);
  write_tips(trace, at, x, last_ip, lanes);
  return next;
}

}  // namespace hindcast::decode
