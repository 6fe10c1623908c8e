#include "decode/fast/lex_lines.h"

#include <immintrin.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "decode/fast/lane_writer.h"
#include "decode/packet_reader.h"

// Only these functions may use what not every machine has: what the headers define is shared with all others.
#define HC_LINES __attribute__((target("avx2,bmi,bmi2,popcnt")))

namespace hindcast::decode {
namespace {

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

constexpr uint64_t from_bit(uint64_t i) { return ~uint64_t{0} << i; }

// Helpers that take and give vectors are functions: a lambda would not have HC_LINES.
HC_LINES inline __m256i load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
HC_LINES inline __m256i all(int b) { return _mm256_set1_epi8(static_cast<char>(b)); }
HC_LINES inline uint32_t top_bits(__m256i v) { return static_cast<uint32_t>(_mm256_movemask_epi8(v)); }
/// The table's entry for each byte's lower or upper half.
HC_LINES inline __m256i by_low_half(__m256i table, __m256i v) {
  return _mm256_shuffle_epi8(table, _mm256_and_si256(v, all(0x0f)));
}
HC_LINES inline __m256i by_high_half(__m256i table, __m256i v) { return by_low_half(table, _mm256_srli_epi16(v, 4)); }

/// By a first byte's upper half: the size of its TIP.
HC_LINES inline __m256i tip_sizes() {
  constexpr auto kBad = static_cast<char>(Lines::kNoTip);
  return _mm256_setr_epi8(1, 0, 3, 0, 5, 0, 7, 0, 7, 0, kBad, 0, 9, 0, kBad, 0,  //
                          1, 0, 3, 0, 5, 0, 7, 0, 7, 0, kBad, 0, 9, 0, kBad, 0);
}

/// Step 1, for half a line. first: its first byte's number in the line.
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
  if (reader.next(p) != Step::ok || is_tnt(p.kind) || p.kind == Kind::tip || p.kind == Kind::psb || p.kind == Kind::fup)
    return 0;
  return p.size;
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

/// Step 3, for half a line: its bytes as words, and which of their bits are TNT bits. In a byte they are those between the
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

HC_LINES void write_tnts(const uint8_t* p, uint64_t at, uint64_t to, Lines& x, Lanes& lanes) {
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

HC_LINES void write_tips(const uint8_t* p, uint64_t at, const Lines& x, LastIp& last_ip, Lanes& lanes) {
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

}  // namespace

// PEXT takes hundreds of cycles on AMD's first two Zens.
bool can_lex_lines() {
  static const bool can = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") &&
                          __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("popcnt") &&
                          !__builtin_cpu_is("znver1") && !__builtin_cpu_is("znver2");
  return can;
}

HC_LINES uint64_t lex_lines(ByteSpan trace, uint64_t at, uint64_t to, LastIp& last_ip, Lanes& lanes) {
  const uint8_t* const p = trace.data() + at;
  Lines x;
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
  const uint64_t next = find_packets(trace, at, to, x);
  write_tnts(p, at, std::min(next, to), x, lanes);
  write_tips(p, at, x, last_ip, lanes);
  return next;
}

}  // namespace hindcast::decode
