#include "decode/fast/lines.h"

namespace hindcast::decode {
namespace {

/// By a first byte's upper half: the size of its TIP with an IP.
HC_LINES inline __m256i tip_sizes() {
  constexpr auto kBad = static_cast<char>(Lines::kNoTip);
  return _mm256_setr_epi8(kBad, 0, 3, 0, 5, 0, 7, 0, 7, 0, kBad, 0, 9, 0, kBad, 0,  //
                          kBad, 0, 3, 0, 5, 0, 7, 0, 7, 0, kBad, 0, 9, 0, kBad, 0);
}

/// For half a line. first: its first byte's number in the line.
HC_LINES inline void classify(const uint8_t* p, int first, Line& line, uint8_t* behind) {
  const __m256i v = load(p);
  const __m256i odd = _mm256_slli_epi16(v, 7), next_odd = _mm256_slli_epi16(load(p + 1), 7);  // in the top bits
  const __m256i no_branch = _mm256_cmpeq_epi8(_mm256_and_si256(v, all(0xfd)), all(0));        // 0x00 and 0x02
  line.tnts |= uint64_t{~top_bits(_mm256_or_si256(odd, no_branch))} << first;

  const __m256i long_cyc = _mm256_cmpeq_epi8(_mm256_and_si256(v, all(7)), all(7));
  const __m256i mtc = _mm256_cmpeq_epi8(v, all(0x59));
  line.twos |= uint64_t{top_bits(_mm256_or_si256(mtc, _mm256_andnot_si256(next_odd, long_cyc)))} << first;

  const __m256i ends_in_01 = _mm256_cmpeq_epi8(_mm256_and_si256(v, all(3)), all(1));
  const __m256i other = _mm256_or_si256(_mm256_andnot_si256(mtc, ends_in_01), _mm256_cmpeq_epi8(v, all(kExtByte)));
  line.others |= uint64_t{top_bits(_mm256_or_si256(other, _mm256_and_si256(next_odd, long_cyc)))} << first;

  const __m256i tip = _mm256_cmpeq_epi8(_mm256_and_si256(v, all(0x1f)), all(0x0d));
  const __m256i place =
      _mm256_add_epi8(all(first), _mm256_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19,
                                                   20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31));
  const __m256i next = _mm256_add_epi8(place, by_high_half(tip_sizes(), v));
  _mm256_store_si256(reinterpret_cast<__m256i*>(behind), _mm256_or_si256(next, _mm256_andnot_si256(tip, all(0xff))));
}

}  // namespace

HC_LINES void classify_lines(ByteSpan trace, uint64_t at, uint64_t to, Lines& x) {
  const uint8_t* const p = trace.data() + at;
  for (uint64_t i = 0; i * kLineBytes < to - at; ++i) {
    const uint8_t* const line = p + i * kLineBytes;
    x.lines[i] = {0, 0, 0};
    classify(line, 0, x.lines[i], x.behind + i * kLineBytes);
    classify(line + 32, 32, x.lines[i], x.behind + i * kLineBytes + 32);
  }
  // A TIP that goes on behind the trace's end is none.
  const uint64_t whole = trace.size() - at;
  for (uint64_t i = to - at; i > 0 && i + kMaxPacketBytes > whole;) {
    --i;
    if (i / kLineBytes * kLineBytes + x.behind[i] > whole) x.behind[i] = Lines::kNoTip;
  }
}

}  // namespace hindcast::decode
