// Intel PT packets as bytes, one call a packet: the layer under the encoder, and what tests build traces with.
//
// It keeps one piece of state, the last IP; what to send when is the encoder's business. Encodings: Intel SDM Vol. 3C,
// "Intel Processor Trace", section "Packet Definitions" (36.4.2 in edition 325384-067).
#pragma once

#include <bit>
#include <cstdint>

#include "capture/sim/aux_ring.h"

namespace hindcast::sim {

/// The IPBytes field of TIP, FUP, TIP.PGE, TIP.PGD (SDM table "FUP/TIP IP Reconstruction").
enum class IpBytes : uint8_t { none = 0, update16 = 1, update32 = 2, sext48 = 3, update48 = 4, full = 6 };

class PacketWriter {
 public:
  explicit PacketWriter(AuxRing& ring) : ring_(ring) {}

  AuxRing& ring() { return ring_; }
  uint64_t written() const { return ring_.written(); }

  void pad() { ring_.put_byte(0x00); }
  /// 16 bytes. Resets the last IP; the next IP is sent whole, as hardware does (SDM "IP Compression").
  void psb() {
    ring_.put_low(0x8202820282028202u, 8);
    ring_.put_low(0x8202820282028202u, 8);
    forget_last_ip();
  }
  void psbend() { ring_.put_low(0x2302, 2); }
  void ovf() { ring_.put_low(0xf302, 2); }
  void trace_stop() { ring_.put_low(0x8302, 2); }

  /// Short TNT: n of 1..6 results, the oldest in the highest bit; 1 = taken.
  void tnt8(uint64_t bits, unsigned n) {
    ring_.put_byte(static_cast<uint8_t>(((uint64_t{1} << n) | (bits & ((uint64_t{1} << n) - 1))) << 1));
  }
  /// Long TNT: n of 1..47 results.
  void tnt64(uint64_t bits, unsigned n) {
    ring_.put_low((((uint64_t{1} << n) | (bits & ((uint64_t{1} << n) - 1))) << 16) | 0xa302, 8);
  }
  void tnt(uint64_t bits, unsigned n) { n <= 6 ? tnt8(bits, n) : tnt64(bits, n); }

  // The four packets with an IP, compressed as far as the last IP allows ...
  void tip(uint64_t ip) { ip_packet(0x0d, ip); }
  void tip_pge(uint64_t ip) { ip_packet(0x11, ip); }
  void tip_pgd(uint64_t ip) { ip_packet(0x01, ip); }
  void fup(uint64_t ip) { ip_packet(0x1d, ip); }
  // ... with the IP out of context (the last IP stays) ...
  void tip_pgd() { ring_.put_byte(0x01); }
  void tip() { ring_.put_byte(0x0d); }
  void fup() { ring_.put_byte(0x1d); }
  // ... or with a form chosen by the caller. base: 0x0d TIP, 0x11 TIP.PGE, 0x01 TIP.PGD, 0x1d FUP.
  void ip_packet_as(uint8_t base, IpBytes form, uint64_t ip) {
    constexpr uint8_t kPayload[8] = {0, 2, 4, 6, 6, 0, 8, 0};
    const unsigned n = kPayload[static_cast<unsigned>(form)];
    ring_.put_byte(static_cast<uint8_t>(base | (static_cast<unsigned>(form) << 5)));
    if (n == 0) return;
    ring_.put_low(ip, n);
    switch (form) {
      case IpBytes::update16:
        last_ip_ = (last_ip_ & ~uint64_t{0xffff}) | (ip & 0xffff);
        break;
      case IpBytes::update32:
        last_ip_ = (last_ip_ & ~uint64_t{0xffffffff}) | (ip & 0xffffffff);
        break;
      case IpBytes::update48:
        last_ip_ = (last_ip_ & ~((uint64_t{1} << 48) - 1)) | (ip & ((uint64_t{1} << 48) - 1));
        break;
      case IpBytes::sext48:
        last_ip_ = static_cast<uint64_t>(static_cast<int64_t>(ip << 16) >> 16);
        break;
      default:
        last_ip_ = ip;
    }
    last_ip_known_ = true;
  }
  /// The next IP packet is not compressed against what was sent before (after PSB and after lost packets).
  void forget_last_ip() {
    last_ip_ = 0;
    last_ip_known_ = false;
  }

  /// cr3 as in the register; bits 4:0 are not sent.
  void pip(uint64_t cr3, bool non_root) { ring_.put_low((((cr3 >> 5) << 1) | (non_root ? 1u : 0u)) << 16 | 0x4302, 8); }
  void vmcs(uint64_t base) { ring_.put_low((base >> 12) << 16 | 0xc802, 7); }
  /// 16, 32 or 64.
  void mode_exec(unsigned bits) { ring_.put_low(0x99u | (bits == 64 ? 1u : bits == 32 ? 2u : 0u) << 8, 2); }
  void mode_tsx(bool in_tx, bool aborted) {
    ring_.put_low(0x99u | (0x20u | (in_tx ? 1u : 0u) | (aborted ? 2u : 0u)) << 8, 2);
  }

  void tsc(uint64_t ticks) { ring_.put_low(ticks << 8 | 0x19, 8); }
  void mtc(uint8_t ctc) { ring_.put_low(uint64_t{ctc} << 8 | 0x59, 2); }
  /// ctc: low 16 bits of the crystal clock; fc: TSC ticks since it ticked, 9 bits.
  void tma(uint16_t ctc, uint16_t fc) {
    ring_.put_low(0x7302u | uint64_t{ctc} << 16 | uint64_t{fc & 0xffu} << 40 | uint64_t{(fc >> 8) & 1u} << 48, 7);
  }
  void cbr(uint8_t ratio) { ring_.put_low(0x0302u | uint64_t{ratio} << 16, 4); }
  /// Core cycles since the CYC before; any value, 1 to 10 bytes.
  void cyc(uint64_t cycles) {
    uint64_t low = 0x03 | (cycles & 0x1f) << 3;
    cycles >>= 5;
    if (cycles == 0) return ring_.put_byte(static_cast<uint8_t>(low));
    low |= 0x04;
    unsigned n = 1;
    for (; n < 8 && cycles; ++n, cycles >>= 7) low |= ((cycles & 0x7f) << 1 | (cycles > 0x7f ? 1u : 0u)) << (8 * n);
    ring_.put_low(low, n);
    for (; cycles; cycles >>= 7) ring_.put_byte(static_cast<uint8_t>((cycles & 0x7f) << 1 | (cycles > 0x7f ? 1u : 0u)));
  }

  void mnt(uint64_t payload) {
    ring_.put_low(0x88c302, 3);
    ring_.put_low(payload, 8);
  }
  void ptw(uint64_t payload, bool eight_bytes, bool fup_follows) {
    ring_.put_low(0x1202u | (fup_follows ? 0x8000u : 0u) | (eight_bytes ? 0x2000u : 0u), 2);
    ring_.put_low(payload, eight_bytes ? 8 : 4);
  }
  void exstop(bool fup_follows) { ring_.put_low(0x6202u | (fup_follows ? 0x8000u : 0u), 2); }
  void mwait(uint8_t hints, uint8_t extensions) {
    ring_.put_low(0xc202, 2);
    ring_.put_low(uint64_t{hints} | uint64_t{extensions & 3u} << 32, 8);
  }
  void pwre(uint8_t c_state, uint8_t sub_state, bool hardware) {
    ring_.put_low(0x2202u | (hardware ? 0x800000u : 0u) |
                      uint64_t{static_cast<uint8_t>((c_state & 0xfu) << 4 | (sub_state & 0xfu))} << 24,
                  4);
  }
  /// reason: bit 0 interrupt, 2 store to the monitored address, 3 hardware autonomous condition.
  void pwrx(uint8_t last, uint8_t deepest, uint8_t reason) {
    ring_.put_low(0xa202u | uint64_t{static_cast<uint8_t>((last & 0xfu) << 4 | (deepest & 0xfu))} << 16 |
                      uint64_t{reason & 0xfu} << 24,
                  7);
  }
  /// Bytes as they are; for malformed and future packets. n <= 8.
  void raw(uint64_t low_bytes, unsigned n) { ring_.put_low(low_bytes, n); }

 private:
  void ip_packet(uint8_t base, uint64_t ip) {
    const uint64_t diff = ip ^ last_ip_;
    if (last_ip_known_ && diff >> 16 == 0) {
      ring_.put_low((base | 1u << 5) | ip << 8, 3);
    } else if (last_ip_known_ && diff >> 32 == 0) {
      ring_.put_low((base | 2u << 5) | ip << 8, 5);
    } else if (static_cast<uint64_t>(static_cast<int64_t>(ip << 16) >> 16) == ip) {
      ring_.put_low((base | 3u << 5) | ip << 8, 7);
    } else {
      ring_.put_byte(static_cast<uint8_t>(base | 6u << 5));
      ring_.put_low(ip, 8);
    }
    last_ip_ = ip;
    last_ip_known_ = true;
  }

  AuxRing& ring_;
  uint64_t last_ip_ = 0;
  bool last_ip_known_ = false;
};

}  // namespace hindcast::sim
