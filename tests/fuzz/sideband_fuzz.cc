// Sideband from anybody: whatever the bytes, parsing ends, stays inside them and keeps time in order; what is read twice
// is the same; slices keep their order.
#include <cstdlib>

#include "decode/attribution.h"
#include "decode/sideband.h"

using namespace hindcast;
using namespace hindcast::decode;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  StreamInfo info;
  info.id = 1;
  info.cpu = CpuId(0);
  // The trailers that imports and our own streams have, and odd ones.
  constexpr uint64_t kTypes[] = {
      perf::kOurSampleType, 0x10086, perf::kSampleTid | perf::kSampleTime, 0, 0x102c6, ~0ull};
  info.sample_type = kTypes[data[0] % std::size(kTypes)];
  const ByteSpan bytes(data + 1, size - 1);

  Sideband all;
  all.add(info, {nullptr, bytes});
  all.finish();
  SliceBuilder slices(CpuId(0));
  RecordTime last{0};
  for (size_t i = 0; i < all.size(); ++i) {
    const SidebandRecord r = all.record(i);
    if (r.time < last || r.offset >= bytes.size()) abort();
    last = r.time;
    slices.add(r);
  }
  RecordTime in{0}, out{0};
  for (const Slice& s : slices.finish()) {
    if (s.in < in || s.out < out) abort();
    in = s.in;
    out = s.out;
  }
  return 0;
}
