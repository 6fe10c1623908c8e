// Fuzz input to a PT stream: either the bytes as they are, or each byte a packet form with its payload from the next
// ones, so that mutations rearrange packets and not only bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "tests/support/pt_bytes.h"

namespace hindcast::test {

class FuzzInput {
 public:
  FuzzInput(const uint8_t* data, size_t size) : data_(data), size_(size) {}
  bool empty() const { return at_ == size_; }
  /// Zeros behind the end.
  uint64_t take(size_t bytes) {
    uint64_t v = 0;
    for (size_t i = 0; i < bytes && at_ < size_; ++i) v |= uint64_t{data_[at_++]} << (8 * i);
    return v;
  }
  std::vector<uint8_t> rest() { return {data_ + at_, data_ + size_}; }

 private:
  const uint8_t* data_;
  size_t size_;
  size_t at_ = 0;
};

inline void append_packet(FuzzInput& in, PtBytes& t) {
  const auto form = [&] {
    constexpr int kForms[] = {0, 1, 2, 3, 4, 6};
    return kForms[in.take(1) % 6];
  };
  const uint64_t command = in.take(1);
  switch (command % 40) {
    case 0:
      t.psb();
      break;
    case 1:
      t.psb().psbend();
      break;
    case 2:
      t.psb().tsc(in.take(4)).tma(static_cast<uint16_t>(in.take(2)), in.take(2) & 0x1ff).psbend();
      break;
    case 3:
      t.psb().mode_exec().fup(in.take(6)).psbend();
      break;
    case 4:
      t.psb().tsc(in.take(7)).fup(in.take(3));
      break;
    case 5:
      t.psbend();
      break;
    case 6:
      t.ovf();
      break;
    case 7:
      t.trace_stop();
      break;
    case 8:
      t.tip(in.take(8), form());
      break;
    case 9:
      t.tip_pge(in.take(8), form());
      break;
    case 10:
      t.tip_pgd(in.take(8), form());
      break;
    case 11:
      t.fup(in.take(8), form());
      break;
    case 12:
      t.tip_pge(in.take(2), 1);
      break;
    case 13:
      t.tip_pgd();
      break;
    case 14:
      t.fup(in.take(2), 1).tip_pgd();
      break;
    case 15:
      t.tsc(in.take(7));
      break;
    case 16:
      t.tsc(in.take(3));
      break;
    case 17:
      t.tma(static_cast<uint16_t>(in.take(2)), in.take(2) & 0x1ff);
      break;
    case 18:
    case 19:
      t.mtc(static_cast<uint8_t>(in.take(1)));
      break;
    case 20:
      t.cyc(in.take(2));
      break;
    case 21:
      t.cyc(in.take(8));
      break;
    case 22:
      t.cbr(static_cast<uint8_t>(in.take(1)));
      break;
    case 23:
      t.mode_exec(static_cast<int>(in.take(1) & 0xff));
      break;
    case 24:
      t.mode_tsx(static_cast<int>(in.take(1) & 3));
      break;
    case 25:
      t.pip(in.take(6), in.take(1) & 1);
      break;
    case 26:
      t.vmcs(in.take(6));
      break;
    case 27:
      t.raw({0x02, 0xa3}).le(in.take(6), 6);
      break;
    case 28:
      t.raw({0x02, 0xc3, 0x88}).le(in.take(8), 8);
      break;
    case 29:
      t.raw({0x02, static_cast<int>(0x12 | (in.take(1) & 0xa0))}).le(in.take(8), 8);
      break;
    case 30:
      t.raw({0x02, in.take(1) & 1 ? 0xe2 : 0x62});
      break;
    case 31:
      t.raw({0x02, 0xc2}).le(in.take(8), 8);
      break;
    case 32:
      t.raw({0x02, 0x22}).le(in.take(2), 2);
      break;
    case 33:
      t.raw({0x02, 0xa2}).le(in.take(5), 5);
      break;
    case 34:
      t.raw({0x02, 0x63}).le(in.take(1), 1).le(in.take(1) << 3 | 4, 1).le(in.take(8), 8);
      break;
    case 35:
      t.raw({0x02, in.take(1) & 1 ? 0xb3 : 0x33});
      break;
    case 36:
      t.raw({0x02, 0x13}).le(in.take(2), 2);
      break;
    case 37:
      t.raw({0x02, 0x53}).le(in.take(8), 8).le(in.take(1), 1);
      break;
    case 38:
      t.raw({0xd9}).le(in.take(4), in.take(1) & 1 ? 2 : 4);
      break;
    default:
      t.le(in.take(1), 1);
      break;  // a short TNT mostly
  }
}

/// At most 64 KiB, or the input where it asks to be taken literally.
inline std::vector<uint8_t> packet_stream(FuzzInput& in) {
  if (in.take(1) & 1) return in.rest();
  PtBytes t;
  while (!in.empty() && t.size() < 65536) append_packet(in, t);
  return t.bytes();
}

}  // namespace hindcast::test
