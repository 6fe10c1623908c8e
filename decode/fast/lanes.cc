#include "decode/fast/lanes.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "decode/packet_reader.h"

namespace hindcast::decode {
namespace {

/// Bytes lexed in one go: what comes out of them stays in the second-level cache.
constexpr uint64_t kPiece = uint64_t{32} << 10;
/// The most bits and TIPs that one byte of packets can give: a TNT of one byte has six, a TIP at least one byte.
constexpr uint64_t kBitsPerByte = 6;

/// How a first byte is passed over: its packet's size and the TNT bits in it. size 0: looked at by itself.
struct Lex {
  uint8_t size = 0;
  uint8_t bits = 0;
  uint8_t payload = 0;
};

constexpr std::array<Lex, 256> lex_table() {
  std::array<Lex, 256> t{};
  for (size_t b = 0; b < t.size(); ++b) {
    const FirstByte& f = kFirstBytes[b];
    if (f.size == 0 || is_ip(f.kind)) continue;
    t[b].size = f.size;
    if (f.kind != Kind::tnt) continue;
    t[b].bits = f.detail;
    t[b].payload = f.payload_bits;
  }
  return t;
}
constexpr std::array<Lex, 256> kLex = lex_table();

template <class T>
void drop_front(std::vector<T>& lane, size_t n, size_t size) {
  std::copy(lane.begin() + static_cast<ptrdiff_t>(n), lane.begin() + static_cast<ptrdiff_t>(size), lane.begin());
}

template <class T>
void make_room(std::vector<T>& lane, size_t n) {
  if (lane.size() < n) lane.resize(n);
}

/// Appends bits to the TNT lane.
class BitWriter {
 public:
  BitWriter(uint8_t* lane, uint32_t bits) : out_(lane + (bits >> 3)), pending_(bits & 7) {
    acc_ = uint64_t{*out_} << 56 & ~(~uint64_t{0} >> pending_);
  }
  /// n <= 48 bits, right-aligned; the oldest is the highest.
  void put(uint64_t bits, unsigned n) {
    acc_ |= n == 0 ? 0 : bits << (64 - pending_ - n);
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

}  // namespace

LaneLexer::LaneLexer(ByteSpan trace, uint64_t from, uint64_t end, uint64_t ip)
    : trace_(trace.first(end)), at_(from), end_(end) {
  last_ip_.expand(IpBytes::full, ip);
}

LaneLexer::Stop LaneLexer::more(Lanes& lanes, uint32_t bit, size_t tip) {
  const uint32_t bytes = bit >> 3;
  const uint32_t gone = bytes * 8;
  if (gone != 0) {
    drop_front(lanes.tnt, bytes, (lanes.bits + 7) / 8);
    size_t tnt = 0;
    while (tnt < lanes.tnts && lanes.tnt_at[tnt].end <= bit) ++tnt;
    drop_front(lanes.tnt_at, tnt, lanes.tnts);
    lanes.tnts -= tnt;
    for (size_t i = 0; i < lanes.tnts; ++i) lanes.tnt_at[i].end -= gone;
    lanes.bits -= gone;
  }
  if (tip != 0) {
    drop_front(lanes.tip, tip, lanes.tips);
    drop_front(lanes.tip_bits, tip, lanes.tips);
    drop_front(lanes.tip_offset, tip, lanes.tips);
    lanes.tips -= tip;
  }
  if (gone != 0)
    for (size_t i = 0; i < lanes.tips; ++i) lanes.tip_bits[i] -= std::min(gone, lanes.tip_bits[i]);
  if (stop_ != Stop::full) return stop_;

  // Offsets are kept in 32 bits: the base moves on as what was used goes.
  uint64_t base = at_;
  if (lanes.tnts != 0) base = std::min(base, lanes.base + lanes.tnt_at[0].offset);
  if (lanes.tips != 0) base = std::min(base, lanes.base + lanes.tip_offset[0]);
  const auto moved = static_cast<uint32_t>(base - lanes.base);
  for (size_t i = 0; i < lanes.tnts; ++i) lanes.tnt_at[i].offset -= moved;
  for (size_t i = 0; i < lanes.tips; ++i) lanes.tip_offset[i] -= moved;
  lanes.base = base;

  const uint64_t until = std::min(at_ + kPiece, end_);
  const uint64_t piece = until - at_ + kMaxPacketBytes;
  make_room(lanes.tnt, (lanes.bits + piece * kBitsPerByte) / 8 + 16);
  make_room(lanes.tnt_at, lanes.tnts + piece);
  make_room(lanes.tip, lanes.tips + piece);
  make_room(lanes.tip_bits, lanes.tips + piece);
  make_room(lanes.tip_offset, lanes.tips + piece);
  lex(lanes, until);
  return stop_;
}

void LaneLexer::lex(Lanes& lanes, uint64_t until) {
  const uint8_t* const bytes = trace_.data();
  uint64_t at = at_;
  const auto base = lanes.base;
  BitWriter writer(lanes.tnt.data(), lanes.bits);
  uint32_t bits = lanes.bits;
  Lanes::TntAt* tnt_at = lanes.tnt_at.data() + lanes.tnts;
  size_t tips = lanes.tips;

  while (at < until) {
    const Lex lex = kLex[bytes[at]];
    if (lex.size != 0) [[likely]] {
      writer.put(lex.payload, lex.bits);
      bits += lex.bits;
      *tnt_at = {bits, static_cast<uint32_t>(at - base)};
      tnt_at += lex.bits != 0;
      at += lex.size;
      continue;
    }
    if ((bytes[at] & 3) == 3) {  // CYC of several bytes
      uint64_t end = at + 1;
      while (end < end_ && (bytes[end] & 1)) ++end;
      at = end + 1;
      continue;
    }
    PacketReader reader(trace_);
    reader.seek(at);
    Packet p;
    if (reader.next(p) != Step::ok) {  // the packet scan found none of these in the stretch
      stop_ = Stop::end;
      break;
    }
    if (p.kind == Kind::tip) {
      lanes.tip[tips] = last_ip_.expand(p.ip_bytes(), p.payload);
      lanes.tip_bits[tips] = bits;
      lanes.tip_offset[tips] = static_cast<uint32_t>(at - base);
      ++tips;
    } else if (p.kind == Kind::tnt_long) {
      writer.put(p.payload, p.detail);
      bits += p.detail;
      *tnt_at++ = {bits, static_cast<uint32_t>(at - base)};
    } else if (p.kind == Kind::psb) {
      stop_ = Stop::psb;
      break;
    } else if (p.kind == Kind::fup) {  // of the event that ended the stretch
      stop_ = Stop::end;
      break;
    }
    at += p.size;
  }
  if (at >= end_ && stop_ == Stop::full) stop_ = Stop::end;
  at_ = at;
  lanes.bits = bits;
  lanes.tips = tips;
  lanes.tnts = static_cast<size_t>(tnt_at - lanes.tnt_at.data());
}

uint64_t LaneLexer::cross_psb(Lanes& lanes) {
  lanes.bits = 0;
  lanes.tips = lanes.tnts = 0;
  const uint64_t psb = at_;
  PacketReader reader(trace_);
  reader.seek(psb);
  last_ip_.reset();
  uint64_t ip = 0;
  Packet p;
  // Another PSB is one of its own: each byte is read once, however many there are.
  while (reader.next(p) == Step::ok && p.kind != Kind::psbend && !is_tnt(p.kind) && p.kind != Kind::tip &&
         (p.kind != Kind::psb || p.offset == psb)) {
    const uint64_t to = expand_ip(last_ip_, p);
    if (p.kind == Kind::fup) ip = to;
    at_ = reader.offset();
  }
  if (p.kind == Kind::psbend) at_ = reader.offset();
  stop_ = at_ >= end_ ? Stop::end : Stop::full;
  return ip;
}

}  // namespace hindcast::decode
