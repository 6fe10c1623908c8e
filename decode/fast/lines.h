// Inside lex_lines(): what its steps hand to each other.
#pragma once

#include <immintrin.h>

#include "decode/fast/lex_lines.h"

// Only these functions may use what not every machine has: what the headers define is shared with all others.
#define HC_LINES __attribute__((target("avx2,bmi,bmi2,popcnt")))

namespace hindcast::decode {

/// A line's bytes by what begins there if a packet begins there; bit i is byte i. No bit: one byte that leaves nothing.
struct Line {
  uint64_t tnts;    // one byte
  uint64_t twos;    // two bytes that leave nothing: MTC, CYC
  uint64_t others;  // to be looked at
};

constexpr uint64_t kLines = kMostInLines / kLineBytes;

/// What is known of some lines.
struct Lines {
  static constexpr uint8_t kNoTip = 128;  // or more

  Line lines[kLines];
  /// Where in its line the packet behind a TIP begins (it may be the next line), if there is a TIP at this byte; else kNoTip.
  alignas(32) uint8_t behind[kLines * kLineBytes];
  // Words of eight bytes, the first one highest: as the TNT lane wants them.
  alignas(32) uint64_t bytes[kLines * 8];
  alignas(32) uint64_t tnt_bits[kLines * 8];  // which bits of `bytes` are TNT bits
  uint32_t bits_before[kLines * 8];
  uint16_t tips[kLines * kLineBytes];  // where there are TIPs
  uint64_t tip_count = 0;
};

/// Step 1: what may begin at each byte. Fills lines and behind.
void classify_lines(ByteSpan trace, uint64_t at, uint64_t to, Lines& x);
/// Step 3: the TNT packets' bits and places, when the lines know where packets are. Fills what write_tips() needs.
void write_tnts(ByteSpan trace, uint64_t at, uint64_t to, Lines& x, Lanes& lanes);
/// Step 4.
void write_tips(ByteSpan trace, uint64_t at, const Lines& x, LastIp& last_ip, Lanes& lanes);

// Helpers that take and give vectors are functions: a lambda would not have HC_LINES.
HC_LINES inline __m256i load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
HC_LINES inline __m256i all(int b) { return _mm256_set1_epi8(static_cast<char>(b)); }
HC_LINES inline uint32_t top_bits(__m256i v) { return static_cast<uint32_t>(_mm256_movemask_epi8(v)); }
/// The table's entry for each byte's lower or upper half.
HC_LINES inline __m256i by_low_half(__m256i table, __m256i v) {
  return _mm256_shuffle_epi8(table, _mm256_and_si256(v, all(0x0f)));
}
HC_LINES inline __m256i by_high_half(__m256i table, __m256i v) { return by_low_half(table, _mm256_srli_epi16(v, 4)); }

}  // namespace hindcast::decode
