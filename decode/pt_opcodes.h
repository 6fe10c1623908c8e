// The packet table: every Intel PT packet's name, opcode, size and rules, once. Reader, text and tests read
// it.
//
// A packet is known by its first byte; 0x02 leads to a second opcode byte and 0x02 0xc3 to a third. Each of
// the three levels has its rows; the compiler rejects two rows that claim one byte. Source: Intel SDM Vol.
// 3C, "Intel Processor Trace", "Packet Definitions" (TRIG in recent editions only); the section names
// below are that chapter's.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace hindcast::decode {

enum class Kind : uint8_t {
  tnt,       // short TNT
  tnt_long,  // 64-bit TNT
  tip,
  tip_pge,
  tip_pgd,
  fup,
  pad,
  psb,
  psbend,
  pip,
  vmcs,
  mode_exec,
  mode_tsx,
  trace_stop,
  ovf,
  tsc,
  tma,
  mtc,
  cyc,
  cbr,
  mnt,
  ptw,
  exstop,
  mwait,
  pwre,
  pwrx,
  bbp,
  bip,
  bep,
  cfe,
  evd,
  trig,
};
inline constexpr size_t kKinds = static_cast<size_t>(Kind::trig) + 1;

/// What may stand between a BBP and its BIPs: only there is a byte of the form xxxxx100 a BIP and not a TNT.
enum class Block : uint8_t { keeps, ends };

struct OpcodeRow {
  std::string_view name;  // as the SDM writes it
  uint8_t match, mask;    // claims the bytes b with (b & mask) == match
  uint8_t bytes;          // of the whole packet; 0: computed from its contents
  Kind kind;
  Block block;
  std::string_view section;  // of the SDM
};

inline constexpr uint8_t kExtByte = 0x02;
inline constexpr uint8_t kExt2Byte = 0xc3;  // after kExtByte
inline constexpr uint8_t kMaxPacketBytes = 16;
inline constexpr uint8_t kPsbBytes = 16;

// Short TNT is the even bytes that are neither PAD nor the escape: one row for each place of the stop bit.
inline constexpr OpcodeRow kFirstByteRows[] = {
    {"TNT", 0x04, 0xfd, 1, Kind::tnt, Block::ends, "Taken/Not-taken (TNT) Packet"},
    {"TNT", 0x08, 0xf9, 1, Kind::tnt, Block::ends, "Taken/Not-taken (TNT) Packet"},
    {"TNT", 0x10, 0xf1, 1, Kind::tnt, Block::ends, "Taken/Not-taken (TNT) Packet"},
    {"TNT", 0x20, 0xe1, 1, Kind::tnt, Block::ends, "Taken/Not-taken (TNT) Packet"},
    {"TNT", 0x40, 0xc1, 1, Kind::tnt, Block::ends, "Taken/Not-taken (TNT) Packet"},
    {"TNT", 0x80, 0x81, 1, Kind::tnt, Block::ends, "Taken/Not-taken (TNT) Packet"},
    {"PAD", 0x00, 0xff, 1, Kind::pad, Block::keeps, "PAD Packet"},
    {"TIP", 0x0d, 0x1f, 0, Kind::tip, Block::ends, "Target IP (TIP) Packet"},
    {"TIP.PGE", 0x11, 0x1f, 0, Kind::tip_pge, Block::ends, "Packet Generation Enable (TIP.PGE) Packet"},
    {"TIP.PGD", 0x01, 0x1f, 0, Kind::tip_pgd, Block::ends, "Packet Generation Disable (TIP.PGD) Packet"},
    {"FUP", 0x1d, 0x1f, 0, Kind::fup, Block::keeps, "Flow Update (FUP) Packet"},
    {"MODE", 0x99, 0xff, 2, Kind::mode_exec, Block::ends, "MODE Packets"},  // the leaf makes it mode_tsx
    {"TSC", 0x19, 0xff, 8, Kind::tsc, Block::keeps, "Timestamp Counter (TSC) Packet"},
    {"MTC", 0x59, 0xff, 2, Kind::mtc, Block::keeps, "Mini Time Counter (MTC) Packet"},
    {"TRIG", 0xd9, 0xff, 0, Kind::trig, Block::ends, "Trigger (TRIG) Packet"},
    {"CYC", 0x03, 0x03, 0, Kind::cyc, Block::keeps, "Cycle Count (CYC) Packet"},
};

inline constexpr OpcodeRow kExtRows[] = {
    {"TNT64", 0xa3, 0xff, 8, Kind::tnt_long, Block::ends, "Taken/Not-taken (TNT) Packet"},
    {"PSB", 0x82, 0xff, kPsbBytes, Kind::psb, Block::ends, "Packet Stream Boundary (PSB) Packet"},
    {"PSBEND", 0x23, 0xff, 2, Kind::psbend, Block::ends, "PSBEND Packet"},
    {"PIP", 0x43, 0xff, 8, Kind::pip, Block::ends, "Paging Information (PIP) Packet"},
    {"VMCS", 0xc8, 0xff, 7, Kind::vmcs, Block::ends, "VMCS Packet"},
    {"TraceStop", 0x83, 0xff, 2, Kind::trace_stop, Block::ends, "TraceStop Packet"},
    {"OVF", 0xf3, 0xff, 2, Kind::ovf, Block::ends, "Overflow (OVF) Packet"},
    {"TMA", 0x73, 0xff, 7, Kind::tma, Block::keeps, "TSC/MTC Alignment (TMA) Packet"},
    {"CBR", 0x03, 0xff, 4, Kind::cbr, Block::keeps, "Core:Bus Ratio (CBR) Packet"},
    {"PTW", 0x12, 0x1f, 0, Kind::ptw, Block::ends, "PTWRITE (PTW) Packet"},
    {"EXSTOP", 0x62, 0x7f, 2, Kind::exstop, Block::keeps, "Execution Stop (EXSTOP) Packet"},
    {"MWAIT", 0xc2, 0xff, 10, Kind::mwait, Block::ends, "MWAIT Packet"},
    {"PWRE", 0x22, 0xff, 4, Kind::pwre, Block::keeps, "Power Entry (PWRE) Packet"},
    {"PWRX", 0xa2, 0xff, 7, Kind::pwrx, Block::keeps, "Power Exit (PWRX) Packet"},
    {"BBP", 0x63, 0xff, 3, Kind::bbp, Block::ends, "Block Begin Packet (BBP)"},
    {"BEP", 0x33, 0x7f, 2, Kind::bep, Block::ends, "Block End Packet (BEP)"},
    {"CFE", 0x13, 0xff, 4, Kind::cfe, Block::ends, "Control Flow Event (CFE) Packet"},
    {"EVD", 0x53, 0xff, 11, Kind::evd, Block::ends, "Event Data (EVD) Packet"},
};

inline constexpr OpcodeRow kExt2Rows[] = {
    {"MNT", 0x88, 0xff, 11, Kind::mnt, Block::keeps, "Maintenance (MNT) Packet"},
};

/// Claims xxxxx100 inside a block only, so it is in no level's table. bytes: 1 + the BBP's item size.
inline constexpr OpcodeRow kBipRow = {"BIP", 0x04, 0x07, 0, Kind::bip, Block::keeps, "Block Item Packet (BIP)"};

inline constexpr uint8_t kNoRow = 0xff;
using RowIndex = std::array<uint8_t, 256>;

/// Row number by byte. Two rows for one byte do not compile (a throw is no constant).
template <size_t N>
constexpr RowIndex index_rows(const OpcodeRow (&rows)[N]) {
  RowIndex index{};
  index.fill(kNoRow);
  for (size_t r = 0; r < N; ++r) {
    for (size_t b = 0; b < 256; ++b) {
      if ((b & rows[r].mask) != rows[r].match) continue;
      if (index[b] != kNoRow) throw "two rows claim one byte";
      index[b] = static_cast<uint8_t>(r);
    }
  }
  return index;
}

inline constexpr RowIndex kRowOfFirstByte = index_rows(kFirstByteRows);
inline constexpr RowIndex kRowOfExtByte = index_rows(kExtRows);
inline constexpr RowIndex kRowOfExt2Byte = index_rows(kExt2Rows);
static_assert(kRowOfFirstByte[kExtByte] == kNoRow, "the escape byte is no packet");
static_assert(kRowOfExtByte[kExt2Byte] == kNoRow, "the second escape is no packet");

/// How an IP payload updates the last IP: the IPBytes field, bits 7:5 of TIP, TIP.PGE, TIP.PGD and FUP.
enum class IpBytes : uint8_t {
  suppressed = 0,  // no payload
  update16 = 1,
  update32 = 2,
  sext48 = 3,
  update48 = 4,
  full = 6,
};
/// Payload bytes by IPBytes; 0xff: reserved, so the packet is bad.
inline constexpr std::array<uint8_t, 8> kIpPayloadBytes{0, 2, 4, 6, 6, 0xff, 8, 0xff};

/// Payload bytes by PTW's PayloadBytes field (bits 6:5 of its second byte); 0xff: reserved.
inline constexpr std::array<uint8_t, 4> kPtwPayloadBytes{4, 8, 0xff, 0xff};

constexpr bool is_ip(Kind k) { return k == Kind::tip || k == Kind::tip_pge || k == Kind::tip_pgd || k == Kind::fup; }
/// What only says when, or nothing: it may stand between any two packets.
constexpr bool is_timing(Kind k) {
  return k == Kind::tsc || k == Kind::tma || k == Kind::mtc || k == Kind::cyc || k == Kind::cbr || k == Kind::mnt ||
         k == Kind::pad;
}
/// What says how the processor sleeps and wakes up.
constexpr bool is_power(Kind k) { return k == Kind::exstop || k == Kind::mwait || k == Kind::pwre || k == Kind::pwrx; }
constexpr bool is_tnt(Kind k) { return k == Kind::tnt || k == Kind::tnt_long; }

/// The SDM's name; MODE with its leaf.
constexpr std::string_view to_string(Kind kind) {
  if (kind == Kind::mode_exec) return "MODE.Exec";
  if (kind == Kind::mode_tsx) return "MODE.TSX";
  if (kind == Kind::bip) return kBipRow.name;
  for (const OpcodeRow& row : kFirstByteRows)
    if (row.kind == kind) return row.name;
  for (const OpcodeRow& row : kExtRows)
    if (row.kind == kind) return row.name;
  for (const OpcodeRow& row : kExt2Rows)
    if (row.kind == kind) return row.name;
  return {};
}

constexpr bool every_kind_has_a_name() {
  for (size_t k = 0; k < kKinds; ++k)
    if (to_string(static_cast<Kind>(k)).empty()) return false;
  return true;
}
static_assert(every_kind_has_a_name());

}  // namespace hindcast::decode
