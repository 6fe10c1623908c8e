// PT bytes from anybody over a small program, with or without sideband, as a snapshot.
#pragma once

#include <algorithm>
#include <cstdint>

#include "tests/support/tiny_host.h"
#include "tests/support/tiny_program.h"

namespace hindcast::test {

/// False for inputs of a size that nobody wants.
inline bool fuzzed_host(const uint8_t* data, size_t size, TinyHost& h, uint32_t& stream) {
  if (size < 4 || size > 4096) return false;
  const size_t sideband_bytes = std::min<size_t>(data[0] * 4u, size - 4);
  h.snapshot.info.cpu.tsc_ctc_num = h.snapshot.info.cpu.tsc_ctc_den = 1;
  h.code(kNoPid, kTinyBase, tiny_program());
  // A PSB in front, since a fuzzer hardly finds one.
  PtBytes pt;
  pt.psb().tsc(1000).mode_exec();
  if (data[1] & 1) pt.fup(0x401000);
  pt.psbend();
  for (size_t i = 4 + sideband_bytes; i < size; ++i) {
    if (data[i] == 0x82 && i + 1 < size && data[i + 1] == 0x02) {
      pt.psb();
    } else {
      pt.raw({data[i]});
    }
  }
  stream = h.pt(CpuId(0), pt);
  h.snapshot.info.user_only = !(data[1] & 4);
  if (data[1] & 2) h.snapshot.info.streams[stream - 1].cuts = {data[2], data[3]};
  if (sideband_bytes != 0) {
    PerfBytes sideband;
    sideband.switch_in(900, 10, 10).raw({data + 4, data + 4 + sideband_bytes});
    h.sideband(CpuId(0), sideband);
  }
  return true;
}

}  // namespace hindcast::test
