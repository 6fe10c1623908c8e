#include "decode/packet_reader.h"

#include <cstring>

#include "decode/psb_search.h"

namespace hindcast::decode {
namespace {

constexpr uint32_t kPsbPairs = 0x82028202;  // 02 82 02 82, little-endian

uint32_t load32(const uint8_t* p) {
  uint32_t v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

bool is_psb(const uint8_t* p) {
  for (size_t i = 0; i < kPsbBytes; i += 4)
    if (load32(p + i) != kPsbPairs) return false;
  return true;
}

/// n (0..8) little-endian bytes; `readable` bytes may be touched from p on.
uint64_t load_le(const uint8_t* p, size_t n, size_t readable) {
  uint64_t v = 0;
  if (readable >= 8) [[likely]] {
    std::memcpy(&v, p, 8);
    return n == 8 ? v : v & ((uint64_t{1} << (8 * n)) - 1);
  }
  for (size_t i = 0; i < n; ++i) v |= uint64_t{p[i]} << (8 * i);
  return v;
}

}  // namespace

bool PacketReader::resync() noexcept {
  const auto psb = next_psb(bytes(), pos_);
  set_item_bytes(0);
  pos_ = psb ? *psb : size_;
  return psb.has_value();
}

Step PacketReader::done(Kind kind, size_t size, uint8_t detail, uint64_t payload, Packet& out) noexcept {
  out.kind = kind;
  out.size = static_cast<uint8_t>(size);
  out.detail = detail;
  out.payload = payload;
  out.offset = pos_;
  pos_ += size;
  return Step::ok;
}

Step PacketReader::next_other(Packet& out) noexcept {
  if (pos_ >= size_) return Step::end;
  const uint8_t* const p = begin_ + pos_;
  if (item_bytes_ != 0 && (p[0] & kBipRow.mask) == kBipRow.match) return read_bip(p, out);

  const OpcodeRow* row = nullptr;
  if (p[0] != kExtByte) {
    const uint8_t r = kRowOfFirstByte[p[0]];
    if (r == kNoRow) return Step::bad;
    row = &kFirstByteRows[r];
  } else {
    if (left() < 2) return Step::truncated;
    const bool ext2 = p[1] == kExt2Byte;
    if (ext2 && left() < 3) return Step::truncated;
    const uint8_t r = ext2 ? kRowOfExt2Byte[p[2]] : kRowOfExtByte[p[1]];
    if (r == kNoRow) return Step::bad;
    row = ext2 ? &kExt2Rows[r] : &kExtRows[r];
  }

  Step step;
  switch (row->kind) {
    case Kind::tip:
    case Kind::tip_pge:
    case Kind::tip_pgd:
    case Kind::fup:
      step = read_ip(*row, p, out);
      break;
    case Kind::cyc:
      step = read_cyc(p, out);
      break;
    case Kind::ptw:
      step = read_ptw(p, out);
      break;
    case Kind::trig:
      step = read_trig(p, out);
      break;
    default:
      step = row->bytes > left() ? Step::truncated : read_fixed(*row, p, out);
      break;
  }
  if (item_bytes_ != 0 && step == Step::ok && row->block == Block::ends) set_item_bytes(0);
  if (step == Step::ok && out.kind == Kind::bbp) set_item_bytes(out.detail);
  return step;
}

Step PacketReader::read_fixed(const OpcodeRow& row, const uint8_t* p, Packet& out) noexcept {
  const size_t size = row.bytes;
  const auto payload_after = [&](size_t opcode) { return load_le(p + opcode, size - opcode, left() - opcode); };
  switch (row.kind) {
    case Kind::pad:
      return done(Kind::pad, 1, 0, 0, out);
    case Kind::tnt: {  // inside a block and near the end: next() reads the others
      const int n = std::bit_width(p[0]) - 2;
      return done(Kind::tnt, 1, static_cast<uint8_t>(n), (p[0] >> 1) & ((1u << n) - 1), out);
    }
    case Kind::tnt_long: {
      const uint64_t raw = payload_after(2);
      const int n = std::bit_width(raw) - 1;
      if (n < 1) return Step::bad;  // no stop bit, or no branch before it
      return done(Kind::tnt_long, size, static_cast<uint8_t>(n), raw & ~(uint64_t{1} << n), out);
    }
    case Kind::psb:
      return is_psb(p) ? done(Kind::psb, size, 0, 0, out) : Step::bad;
    case Kind::pip: {
      const uint64_t raw = payload_after(2);
      return done(Kind::pip, size, raw & 1, (raw >> 1) << 5, out);
    }
    case Kind::vmcs:
      return done(Kind::vmcs, size, 0, payload_after(2) << 12, out);
    case Kind::mode_exec: {
      const uint8_t leaf = p[1] >> 5, bits = p[1] & 0x1f;
      if (leaf > 1) return Step::bad;
      return done(leaf == 0 ? Kind::mode_exec : Kind::mode_tsx, size, 0, leaf == 0 ? bits & 7 : bits & 3, out);
    }
    case Kind::tsc:
    case Kind::mtc:
      return done(row.kind, size, 0, payload_after(1), out);
    case Kind::tma: {
      const uint64_t raw = payload_after(2);  // CTC 16, reserved 8, fast counter 9, reserved 7
      if (((raw >> 16) & 0xff) != 0 || (raw >> 33) != 0) return Step::bad;
      return done(Kind::tma, size, 0, (raw & 0xffff) | ((raw >> 24) & 0x1ff) << 16, out);
    }
    case Kind::cbr:
      return done(Kind::cbr, size, 0, p[2], out);
    case Kind::mnt:
      return done(Kind::mnt, size, 0, payload_after(3), out);
    case Kind::exstop:
    case Kind::bep:
      return done(row.kind, size, p[1] >> 7, 0, out);
    case Kind::bbp:
      return done(Kind::bbp, size, p[2] & 0x80 ? 4 : 8, p[2] & 0x1f, out);
    case Kind::cfe:
      return done(Kind::cfe, size, p[2] >> 7, (p[2] & 0x1f) | uint64_t{p[3]} << 8, out);
    case Kind::evd:
      return done(Kind::evd, size, p[2] & 0x3f, load_le(p + 3, 8, left() - 3), out);
    default:
      return done(row.kind, size, 0, payload_after(2), out);  // mwait, pwre, pwrx and those without payload
  }
}

Step PacketReader::read_ip(const OpcodeRow& row, const uint8_t* p, Packet& out) noexcept {
  const uint8_t form = p[0] >> 5, n = kIpPayloadBytes[form];
  if (n == 0xff) return Step::bad;
  if (left() < size_t{n} + 1) return Step::truncated;
  return done(row.kind, size_t{n} + 1, form, load_le(p + 1, n, left() - 1), out);
}

// Five bits in the first byte, seven in each further one while its predecessor has the Exp bit.
Step PacketReader::read_cyc(const uint8_t* p, Packet& out) noexcept {
  uint64_t cycles = p[0] >> 3;
  bool more = (p[0] & 0x04) && !(left() > 2 && ends_at_ovf(p));
  size_t n = 1;
  for (unsigned shift = 5; more; shift += 7, ++n) {
    if (n >= left()) return Step::truncated;
    const uint64_t bits = p[n] >> 1;
    if (shift >= 64 || (bits << shift) >> shift != bits) return Step::bad;  // beyond any cycle counter
    cycles |= bits << shift;
    more = p[n] & 1;
  }
  return done(Kind::cyc, n, 0, cycles, out);
}

Step PacketReader::read_ptw(const uint8_t* p, Packet& out) noexcept {
  const uint8_t n = kPtwPayloadBytes[(p[1] >> 5) & 3];
  if (n == 0xff) return Step::bad;
  if (left() < size_t{n} + 2) return Step::truncated;
  return done(Kind::ptw, size_t{n} + 2, p[1] >> 7, load_le(p + 2, n, left() - 2), out);
}

Step PacketReader::read_trig(const uint8_t* p, Packet& out) noexcept {
  if (left() < 3) return Step::truncated;
  const size_t n = p[1] & 0x40 ? 4 : 2;  // ICNTV: an instruction count follows
  if (left() < n + 1) return Step::truncated;
  return done(Kind::trig, n + 1, 0, load_le(p + 1, n, left() - 1), out);
}

Step PacketReader::read_bip(const uint8_t* p, Packet& out) noexcept {
  const size_t n = item_bytes_;
  if (left() < n + 1) return Step::truncated;
  return done(Kind::bip, n + 1, p[0] >> 3, load_le(p + 1, n, left() - 1), out);
}

}  // namespace hindcast::decode
