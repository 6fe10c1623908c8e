// The fast way through plain packets: 64 bytes at a time, a line, on machines that have AVX2 and a quick PEXT.
#pragma once

#include <algorithm>
#include <cstdint>

#include "decode/fast/lanes.h"

namespace hindcast::decode {

inline constexpr uint64_t kLineBytes = 64;
inline constexpr uint64_t kMostLines = 32;  // at once: what is known of them stays in the first-level cache

bool can_lex_lines();

/// How many lines from `at` on can be lexed up to `until`: the packet that begins in the last one is behind them, at most.
inline uint64_t lines_before(uint64_t at, uint64_t until, uint64_t end) {
  const uint64_t to = std::min(until, end - std::min(end, uint64_t{kMaxPacketBytes}));
  return to > at ? (to - at) / kLineBytes : 0;
}

/// From a packet at `at`, n lines (1 to kMostLines; see lines_before): the lanes get what is in them, and must have room for
/// it. Where the next packet begins: behind the lines, or in them when that packet is a long TNT, PSB, FUP, or cannot be read.
uint64_t lex_lines(ByteSpan trace, uint64_t at, uint64_t n, LastIp& last_ip, Lanes& lanes);

constexpr bool is_cyc(uint8_t b) { return (b & 3) == 3; }
/// Behind a CYC of several bytes.
inline uint64_t behind_cyc(ByteSpan trace, uint64_t at) {
  for (++at; at < trace.size() && (trace[at] & 1);) ++at;
  return at + 1;
}

}  // namespace hindcast::decode
