// The fast way through plain packets: 64 bytes at a time, a line, on machines that have AVX2 and a quick PEXT.
#pragma once

#include <cstdint>

#include "decode/fast/lanes.h"

namespace hindcast::decode {

inline constexpr uint64_t kLineBytes = 64;
inline constexpr uint64_t kMostInLines = 32 * kLineBytes;  // at once: what is known of them fits the first-level cache
/// Lines are read whole, and a little more.
inline constexpr uint64_t kReadBehindLines = kLineBytes + kMaxPacketBytes;

bool can_lex_lines();

/// From a packet at `at` on, all that begin before `to`, kMostInLines behind it or less: the lanes get what is in them, and must
/// have room for it. trace ends where the stretch does, but kReadBehindLines bytes from `to` on can be read.
/// Where the next packet begins: at `to` or behind it; before it when that packet is a long TNT, PSB, FUP, or cannot be read.
uint64_t lex_lines(ByteSpan trace, uint64_t at, uint64_t to, LastIp& last_ip, Lanes& lanes);

constexpr bool is_cyc(uint8_t b) { return (b & 3) == 3; }
/// Behind a CYC of several bytes.
inline uint64_t behind_cyc(ByteSpan trace, uint64_t at) {
  for (++at; at < trace.size() && (trace[at] & 1);) ++at;
  return at + 1;
}

}  // namespace hindcast::decode
