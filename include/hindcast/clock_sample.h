// Readings of a clock between two readings of the TSC, and the `clocks` stream that they are kept in.
//
// The stream is 32 bytes after 32 bytes, little-endian, oldest first:
//   u32 clock; u32 reserved; u64 tsc_before; u64 ns; u64 tsc_after;     clock: number as clock_gettime(2) takes it
#pragma once

#include <vector>

#include "hindcast/bytes.h"

namespace hindcast {

/// The clock stood at ns at some moment from tsc_before to tsc_after.
struct ClockSample {
  uint64_t tsc_before = 0;
  uint64_t ns = 0;
  uint64_t tsc_after = 0;
};

inline constexpr size_t kClockSampleBytes = 32;
/// No counter gets there from a machine's start on: at 4 GHz after 36 years. Products of two differences fit 128 bits below it.
inline constexpr uint64_t kMostCounted = uint64_t{1} << 62;

inline void append_clock_sample(std::vector<uint8_t>& out, uint32_t clock, const ClockSample& sample) {
  ByteWriter w(out);
  w.u32(clock);
  w.u32(0);
  w.u64(sample.tsc_before);
  w.u64(sample.ns);
  w.u64(sample.tsc_after);
}

/// The samples of one clock, in the order of the stream. Those that contradict themselves or an earlier one are left out:
/// both counters only go forward, and stay below kMostCounted. Bytes that make no whole sample are ignored.
inline std::vector<ClockSample> read_clock_samples(ByteSpan stream, uint32_t clock) {
  std::vector<ClockSample> out;
  ByteReader r(stream);
  while (r.left() >= kClockSampleBytes) {
    const uint32_t which = r.u32();
    r.skip(4);
    ClockSample s;
    s.tsc_before = r.u64();
    s.ns = r.u64();
    s.tsc_after = r.u64();
    if (which != clock || s.tsc_after < s.tsc_before || s.tsc_after >= kMostCounted || s.ns >= kMostCounted) continue;
    if (!out.empty() && (s.tsc_before < out.back().tsc_after || s.ns < out.back().ns)) continue;
    out.push_back(s);
  }
  return out;
}

}  // namespace hindcast
