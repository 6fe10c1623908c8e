// Writes PT packets for tests, one call a packet: a trace that reads like the stream it stands for.
//
// It shares no code with the reader or the simulator's encoder: opcodes are written out from the SDM once
// more.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <span>
#include <string_view>
#include <vector>

namespace hindcast::test {

class PtBytes {
 public:
  PtBytes& raw(std::initializer_list<int> bytes) {
    for (int b : bytes) bytes_.push_back(static_cast<uint8_t>(b));
    return *this;
  }
  PtBytes& le(uint64_t value, int n) {
    for (int i = 0; i < n; ++i) bytes_.push_back(static_cast<uint8_t>(value >> (8 * i)));
    return *this;
  }
  PtBytes& pad(int n = 1) {
    bytes_.insert(bytes_.end(), static_cast<size_t>(n), uint8_t{0});
    return *this;
  }
  PtBytes& psb() {
    for (int i = 0; i < 8; ++i) raw({0x02, 0x82});
    return *this;
  }
  PtBytes& psbend() { return raw({0x02, 0x23}); }
  PtBytes& ovf() { return raw({0x02, 0xf3}); }
  PtBytes& trace_stop() { return raw({0x02, 0x83}); }
  /// "TNT": oldest branch first; 1 to 6 of them.
  PtBytes& tnt(std::string_view bits) { return le(with_stop_bit(bits) << 1, 1); }
  /// 1 to 47 of them.
  PtBytes& tnt64(std::string_view bits) { return raw({0x02, 0xa3}).le(with_stop_bit(bits), 6); }

  PtBytes& tip(uint64_t ip, int form = 3) { return ip_packet(0x0d, ip, form); }
  PtBytes& tip_pge(uint64_t ip, int form = 3) { return ip_packet(0x11, ip, form); }
  PtBytes& tip_pgd(uint64_t ip = 0, int form = 0) { return ip_packet(0x01, ip, form); }
  PtBytes& fup(uint64_t ip, int form = 3) { return ip_packet(0x1d, ip, form); }

  PtBytes& pip(uint64_t cr3, bool non_root = false) {
    return raw({0x02, 0x43}).le((cr3 >> 5 << 1) | (non_root ? 1 : 0), 6);
  }
  PtBytes& mode_exec(int bits = 1) { return raw({0x99, bits}); }
  PtBytes& mode_tsx(int bits) { return raw({0x99, 0x20 | bits}); }
  PtBytes& tsc(uint64_t value) { return raw({0x19}).le(value, 7); }
  PtBytes& tma(uint16_t ctc, uint16_t fast_counter) { return raw({0x02, 0x73}).le(ctc, 2).pad().le(fast_counter, 2); }
  PtBytes& mtc(uint8_t ctc) { return raw({0x59, ctc}); }
  PtBytes& cbr(uint8_t ratio) { return raw({0x02, 0x03, ratio, 0}); }
  PtBytes& cyc(uint64_t cycles) {
    uint64_t rest = cycles >> 5;
    le((cycles & 31) << 3 | (rest ? 4 : 0) | 3, 1);
    for (; rest; rest >>= 7) le((rest & 127) << 1 | (rest >> 7 ? 1 : 0), 1);
    return *this;
  }
  PtBytes& vmcs(uint64_t base) { return raw({0x02, 0xc8}).le(base >> 12, 5); }

  PtBytes& append(const PtBytes& other) {
    bytes_.insert(bytes_.end(), other.bytes_.begin(), other.bytes_.end());
    return *this;
  }
  PtBytes& drop_last(size_t n) {
    bytes_.resize(bytes_.size() - n);
    return *this;
  }
  uint64_t size() const { return bytes_.size(); }
  const std::vector<uint8_t>& bytes() const { return bytes_; }

 private:
  static uint64_t with_stop_bit(std::string_view bits) {
    uint64_t v = 1;
    for (char c : bits) v = v << 1 | (c == 'T' ? 1 : 0);
    return v;
  }
  PtBytes& ip_packet(int opcode, uint64_t ip, int form) {
    constexpr int kBytes[8] = {0, 2, 4, 6, 6, 0, 8, 0};
    return raw({opcode | form << 5}).le(ip, kBytes[form]);
  }

  std::vector<uint8_t> bytes_;
};

}  // namespace hindcast::test
