// Bytes to packets: one at a time, no allocation; damage is reported, never guessed over.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>

#include "decode/last_ip.h"
#include "decode/pt_opcodes.h"
#include "hindcast/bytes.h"
#include "hindcast/pt_config.h"

namespace hindcast::decode {

/// One packet. What payload and detail hold depends on the kind:
///   tnt, tnt_long   payload: the bits, oldest highest (bit detail-1 .. 0; 1 = taken); detail: how
///   many, 1..47 tip* and fup    payload: the compressed IP, zero-extended; detail: its IpBytes psb, psbend,
///   pad, ovf, trace_stop   nothing pip             payload: CR3; detail: 1 in VMX non-root operation vmcs
///   payload: address of the VMCS mode_exec       payload: bit 0 CS.L (and LMA), bit 1 CS.D, bit 2 RFLAGS.IF
///   mode_tsx        payload: bit 0 in transaction, bit 1 aborted
///   tsc, mtc, cyc, cbr   payload: the low 56 bits of TSC, the 8 CTC bits, core cycles, core:bus ratio
///   tma             payload: CTC[15:0] in bits 15:0, FastCounter[8:0] in bits 24:16
///   mnt             payload: as sent
///   ptw             payload: the value; detail: 1 when a FUP with its IP follows (so for exstop, bep)
///   mwait           payload: hints in bits 31:0, extensions in bits 63:32
///   pwre            payload: bit 7 hardware, bits 15:12 C-state, bits 11:8 sub C-state
///   pwrx            payload: bits 7:4 last, bits 3:0 deepest core C-state, bits 11:8 wake reason
///   bbp             payload: block type; detail: bytes of each item, 4 or 8
///   bip             payload: the item; detail: its id
///   cfe             payload: type in bits 4:0, vector in bits 15:8; detail: 1 when a FUP follows
///   evd             payload: the data; detail: type
///   trig            payload: bit 7 IP, bit 6 ICNTV, bit 5 MULT, trigger bits 15:8, instruction count bits
///   31:16
struct Packet {
  Kind kind = Kind::pad;
  uint8_t size = 0;  // bytes, opcode included
  uint8_t detail = 0;
  uint64_t payload = 0;
  uint64_t offset = 0;  // of its first byte

  IpBytes ip_bytes() const { return static_cast<IpBytes>(detail); }
  bool has_ip() const { return is_ip(kind) && detail != 0; }
  uint16_t tma_ctc() const { return static_cast<uint16_t>(payload); }
  uint16_t tma_fast_counter() const { return static_cast<uint16_t>((payload >> 16) & 0x1ff); }
};

/// Of a MODE.Exec: 64, 32 or 16.
inline uint8_t bits_of_mode(const Packet& mode_exec) {
  return mode_exec.payload & 1 ? 64 : mode_exec.payload & 2 ? 32 : 16;
}

enum class Step : uint8_t {
  ok,
  end,        // no byte is left
  truncated,  // the packet is longer than what is left; nothing was consumed
  bad,        // an opcode or encoding that the SDM does not define; nothing was consumed: resync()
};

/// Packets whose size and meaning follow from their first byte: nearly all of a stream. They need no decision but the
/// table's, and a mispredicted one costs more than all the rest of reading a packet.
struct FirstByte {
  Kind kind = Kind::pad;
  uint8_t size = 0;  // of the packet; 0: not one of these
  uint8_t detail = 0;
  uint8_t payload_bits = 0;   // of the payload, those that are in the first byte
  uint64_t payload_mask = 0;  // and which of the eight bytes behind it
};

constexpr std::array<FirstByte, 256> first_bytes() {
  std::array<FirstByte, 256> table{};
  for (unsigned b = 0; b < 256; ++b) {
    if (kRowOfFirstByte[b] == kNoRow) continue;
    const OpcodeRow& row = kFirstByteRows[kRowOfFirstByte[b]];
    FirstByte& e = table[b];
    e.kind = row.kind;
    if (row.kind == Kind::tnt) {  // the payload lies between the stop bit and bit 0
      e.size = 1;
      e.detail = static_cast<uint8_t>(std::bit_width(b) - 2);
      e.payload_bits = static_cast<uint8_t>((b >> 1) & ((1u << e.detail) - 1));
    } else if (is_ip(row.kind) && kIpPayloadBytes[b >> 5] != 0xff) {
      e.size = static_cast<uint8_t>(1 + kIpPayloadBytes[b >> 5]);
      e.detail = static_cast<uint8_t>(b >> 5);
    } else if (row.kind == Kind::cyc && !(b & 4)) {
      e.size = 1;
      e.payload_bits = static_cast<uint8_t>(b >> 3);
    } else if (row.kind == Kind::pad || row.kind == Kind::tsc || row.kind == Kind::mtc) {
      e.size = row.bytes;
    }
    if (e.size > 1) e.payload_mask = ~uint64_t{0} >> (64 - 8 * (e.size - 1));
  }
  return table;
}
inline constexpr std::array<FirstByte, 256> kFirstBytes = first_bytes();

/// By first byte: the size of a packet that skip() passes over; 0: it does not. Of CYC those of one byte and of two.
using SkipSizes = std::array<uint8_t, 256>;
template <class... K>
constexpr SkipSizes skip_sizes(K... kinds) {
  SkipSizes sizes{};
  for (size_t b = 0; b < sizes.size(); ++b)
    if (((kFirstBytes[b].kind == kinds) || ...)) sizes[b] = kFirstBytes[b].size;
  return sizes;
}

/// Erratum SKD007 (Skylake, Kaby Lake, Comet Lake): an OVF may begin inside a CYC packet, of which one byte is left.
/// Two CYCs that would read as the same bytes are never sent one behind the other, unless the first one is full.
constexpr bool has_skd007(const PtCpu& cpu) {
  if (!cpu.intel || cpu.family != 6) return false;
  switch (cpu.model) {
    case 0x4e:
    case 0x5e:
    case 0x8e:
    case 0x9e:
    case 0xa5:
    case 0xa6:
      return true;
    default:
      return false;
  }
}

/// Reads packets from a borrowed span, starting at its first byte; a stream of unknown alignment begins with
/// resync(). Cheap to copy: a copy is a look-ahead.
class PacketReader {
 public:
  /// skd007: has_skd007() of the CPU; else such bytes are read as CYCs.
  explicit PacketReader(ByteSpan bytes, bool skd007 = false)
      : begin_(bytes.data()), size_(bytes.size()), skd007_(skd007) {
    set_item_bytes(0);
  }

  /// Reads the packet at offset() and moves behind it. out is whole only on ok; else offset() stays and out
  /// keeps its old or no meaning.
  Step next(Packet& out) noexcept {
    if (pos_ < fast_end_) [[likely]] {
      const uint8_t* const p = begin_ + pos_;
      const FirstByte& e = kFirstBytes[*p];
      if (e.size != 0) [[likely]] {
        uint64_t behind;
        std::memcpy(&behind, p + 1, sizeof behind);
        out.kind = e.kind;
        out.size = e.size;
        out.detail = e.detail;
        out.payload = e.payload_bits | (behind & e.payload_mask);
        out.offset = pos_;
        pos_ += e.size;
        return Step::ok;
      }
      if (e.kind == Kind::cyc && !(p[1] & 1) && !ends_at_ovf(p)) {  // the other common one: twelve bits in two bytes
        out.kind = Kind::cyc;
        out.size = 2;
        out.detail = 0;
        out.payload = (*p >> 3) | static_cast<uint64_t>(p[1] >> 1) << 5;
        out.offset = pos_;
        pos_ += 2;
        return Step::ok;
      }
    }
    return next_other(out);
  }

  /// Passes over packets that the caller has no use for, and over CYC of two bytes; stops in front of others, and somewhere
  /// near the end. Cost: 1 to 2 ns a packet.
  void skip(const SkipSizes& sizes) noexcept {
    size_t pos = pos_;
    while (pos < fast_end_) {
      const uint8_t first = begin_[pos];
      const uint8_t size = sizes[first];
      if (size != 0)
        pos += size;
      else if ((first & 7) == 7 && !(begin_[pos + 1] & 1) && !ends_at_ovf(begin_ + pos))
        pos += 2;
      else
        break;
    }
    pos_ = pos;
  }

  /// After bad, or to begin: moves to the first PSB at or behind offset(). False: there is none, and the
  /// reader is at the end.
  bool resync() noexcept;

  /// Moves to a packet boundary that the caller knows, such as a PSB.
  void seek(uint64_t offset) noexcept {
    pos_ = offset < size_ ? offset : size_;
    set_item_bytes(0);
  }
  /// More bytes behind those that it had.
  void see(ByteSpan longer) noexcept {
    begin_ = longer.data();
    size_ = longer.size();
    set_item_bytes(item_bytes_);
  }
  uint64_t offset() const { return pos_; }
  ByteSpan bytes() const { return {begin_, size_}; }

 private:
  Step next_other(Packet& out) noexcept;
  Step read_fixed(const OpcodeRow& row, const uint8_t* p, Packet& out) noexcept;
  Step read_ip(const OpcodeRow& row, const uint8_t* p, Packet& out) noexcept;
  Step read_cyc(const uint8_t* p, Packet& out) noexcept;
  Step read_ptw(const uint8_t* p, Packet& out) noexcept;
  Step read_trig(const uint8_t* p, Packet& out) noexcept;
  Step read_bip(const uint8_t* p, Packet& out) noexcept;
  Step done(Kind kind, size_t size, uint8_t detail, uint64_t payload, Packet& out) noexcept;
  size_t left() const { return size_ - pos_; }
  /// Of a CYC with two bytes behind its first.
  bool ends_at_ovf(const uint8_t* p) const { return skd007_ && p[1] == 0x02 && p[2] == 0xf3; }
  void set_item_bytes(uint8_t n) noexcept {
    item_bytes_ = n;
    fast_end_ = n == 0 && size_ >= sizeof(uint64_t) + 1 ? size_ - sizeof(uint64_t) : 0;
  }

  const uint8_t* begin_;
  size_t size_;
  size_t pos_ = 0;
  size_t fast_end_ = 0;  // before it eight bytes follow each first byte, and none is a BIP
  bool skd007_ = false;
  uint8_t item_bytes_ = 0;  // between BBP and BEP: bytes of a BIP's item; else 0
};

/// Keeps the last IP over a stream: feed every packet; the whole address for those that have one.
inline uint64_t expand_ip(LastIp& last_ip, const Packet& p) {
  if (p.kind == Kind::psb) last_ip.reset();
  return is_ip(p.kind) ? last_ip.expand(p.ip_bytes(), p.payload) : 0;
}

}  // namespace hindcast::decode
