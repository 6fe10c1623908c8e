#include <array>
#include <bit>
#include <cstring>

#include "decode/fast/lane_writer.h"
#include "decode/fast/lines.h"

namespace hindcast::decode {
namespace {

/// Half a line's bytes as words, and which of their bits are TNT bits. In a byte they are those between the
/// highest one that is set and bit 0.
HC_LINES inline void mask_bits(const uint8_t* p, uint32_t tnts, uint64_t* bytes, uint64_t* tnt_bits) {
  const __m256i turn =
      _mm256_set_epi64x(0x08090a0b0c0d0e0f, 0x0001020304050607, 0x08090a0b0c0d0e0f, 0x0001020304050607);
  const __m256i low = _mm256_setr_epi8(0, 0, 0, 0, 2, 2, 2, 2, 6, 6, 6, 6, 6, 6, 6, 6,  //
                                       0, 0, 0, 0, 2, 2, 2, 2, 6, 6, 6, 6, 6, 6, 6, 6);
  const __m256i high = _mm256_setr_epi8(0, 0x0e, 0x1e, 0x1e, 0x3e, 0x3e, 0x3e, 0x3e,     //
                                        0x7e, 0x7e, 0x7e, 0x7e, 0x7e, 0x7e, 0x7e, 0x7e,  //
                                        0, 0x0e, 0x1e, 0x1e, 0x3e, 0x3e, 0x3e, 0x3e,     //
                                        0x7e, 0x7e, 0x7e, 0x7e, 0x7e, 0x7e, 0x7e, 0x7e);
  const __m256i v = _mm256_shuffle_epi8(load(p), turn);
  // Bit i of tnts to all bits of byte i.
  const __m256i word_of = _mm256_set_epi64x(0x0303030303030303, 0x0202020202020202, 0x0101010101010101, 0);
  const __m256i bit_of = _mm256_set1_epi64x(0x0102040810204080);
  const __m256i spread = _mm256_shuffle_epi8(_mm256_set1_epi32(static_cast<int>(tnts)), word_of);
  const __m256i is_tnt = _mm256_cmpeq_epi8(_mm256_and_si256(spread, bit_of), bit_of);
  const __m256i bits = _mm256_max_epu8(by_low_half(low, v), by_high_half(high, v));
  _mm256_store_si256(reinterpret_cast<__m256i*>(bytes), v);
  _mm256_store_si256(reinterpret_cast<__m256i*>(tnt_bits), _mm256_and_si256(bits, is_tnt));
}

/// How a TIP's payload becomes an address, by its IPBytes; see LastIp::expand.
struct IpForm {
  uint64_t keep = ~uint64_t{0};  // of the last IP
  uint64_t payload = 0;          // of the eight bytes behind the first
  unsigned sign = 0;             // bits above the one that is copied into them
};
constexpr std::array<IpForm, 8> kIpForms = [] {
  std::array<IpForm, 8> forms{};
  for (size_t f = 0; f < forms.size(); ++f) {
    const uint8_t n = kIpPayloadBytes[f];
    if (n == 0 || n == 0xff) continue;
    forms[f].payload = ~uint64_t{0} >> (64 - 8 * n);
    const bool extends = f == static_cast<size_t>(IpBytes::sext48);
    forms[f].keep = extends ? 0 : ~forms[f].payload;
    forms[f].sign = extends ? 16 : 0;
  }
  return forms;
}();

}  // namespace

HC_LINES void write_tnts(ByteSpan trace, uint64_t at, uint64_t to, Lines& x, Lanes& lanes) {
  const uint8_t* const p = trace.data() + at;
  BitWriter writer(lanes.tnt.data(), lanes.bits);
  uint32_t bits = lanes.bits;
  Lanes::TntsAt* tnt_at = lanes.tnt_at.data() + lanes.tnts;
  for (uint64_t i = 0; i * kLineBytes < to - at; ++i) {
    const uint64_t tnts = x.lines[i].tnts;
    *tnt_at = {static_cast<int32_t>(bits), static_cast<uint32_t>(at + i * kLineBytes - lanes.base), tnts};
    tnt_at += tnts != 0;
    for (uint64_t half = 0; half < 2; ++half)
      mask_bits(p + i * kLineBytes + half * 32, static_cast<uint32_t>(tnts >> half * 32), x.bytes + i * 8 + half * 4,
                x.tnt_bits + i * 8 + half * 4);
    for (uint64_t w = i * 8; w < i * 8 + 8; w += 2) {
      const auto first = static_cast<unsigned>(std::popcount(x.tnt_bits[w]));
      const auto second = static_cast<unsigned>(std::popcount(x.tnt_bits[w + 1]));
      x.bits_before[w] = bits;
      x.bits_before[w + 1] = bits + first;
      const uint64_t bits_of_first = _pext_u64(x.bytes[w], x.tnt_bits[w]);
      const uint64_t bits_of_second = _pext_u64(x.bytes[w + 1], x.tnt_bits[w + 1]);
      if (first + second <= BitWriter::kMost) [[likely]] {
        writer.put(bits_of_first << second | bits_of_second, first + second);
      } else {  // no other packets between the TNTs
        writer.put(bits_of_first, first);
        writer.put(bits_of_second, second);
      }
      bits += first + second;
    }
  }
  lanes.bits = bits;
  lanes.tnts = static_cast<size_t>(tnt_at - lanes.tnt_at.data());
}

HC_LINES void write_tips(ByteSpan trace, uint64_t at, const Lines& x, LastIp& last_ip, Lanes& lanes) {
  const uint8_t* const p = trace.data() + at;
  uint64_t ip = last_ip.value();
  uint64_t* const tip = lanes.tip.data() + lanes.tips;
  uint32_t* const tip_bits = lanes.tip_bits.data() + lanes.tips;
  uint32_t* const tip_offset = lanes.tip_offset.data() + lanes.tips;
  const auto offset = static_cast<uint32_t>(at - lanes.base);
  for (uint64_t i = 0; i < x.tip_count; ++i) {
    const unsigned place = x.tips[i];
    const IpForm& form = kIpForms[p[place] >> 5];
    uint64_t payload;
    std::memcpy(&payload, p + place + 1, sizeof payload);
    payload = (payload & form.payload) << form.sign;
    ip = (ip & form.keep) | static_cast<uint64_t>(static_cast<int64_t>(payload) >> form.sign);
    tip[i] = ip;
    // The bytes of the word before this one are its upper ones; bit 0 is never a TNT bit.
    const uint64_t before = x.tnt_bits[place / 8] >> 1 >> (63 - place % 8 * 8);
    tip_bits[i] = x.bits_before[place / 8] + static_cast<uint32_t>(std::popcount(before));
    tip_offset[i] = offset + place;
  }
  lanes.tips += x.tip_count;
  last_ip.expand(IpBytes::full, ip);
}

}  // namespace hindcast::decode
