// Any stream, any clock ratio: bounds that never decrease nor cross, in the memory that was promised.
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "decode/stretches.h"
#include "tests/fuzz/packet_stream.h"

namespace {

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "violated: %s\n", what);
  std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hindcast;
  test::FuzzInput in(data, size);
  decode::PtTimeConfig config;
  config.mtc_period = static_cast<uint8_t>(in.take(1));
  config.tsc_ctc_num = static_cast<uint32_t>(in.take(4));
  config.tsc_ctc_den = static_cast<uint32_t>(in.take(2));
  config.near = Tsc(in.take(7));
  std::vector<uint64_t> cuts;
  for (uint64_t n = in.take(1) % 4; n > 0; --n) cuts.push_back(in.take(2));
  const std::vector<uint8_t> bytes = test::packet_stream(in);

  const decode::TimeMap map = decode::scan_packets(bytes, config, cuts).times;
  require(map.memory_bytes() <= 56 * map.readings(), "56 bytes for each timing packet");
  TscInterval before = map.at(0);
  for (uint64_t offset = 0; offset <= bytes.size(); ++offset) {
    const TscInterval at = map.at(offset);
    require(before.earliest <= at.earliest, "lower bounds never decrease");
    require(before.latest <= at.latest, "upper bounds never decrease");
    require(at.earliest <= at.latest, "bounds never cross");
    before = at;
  }
  return 0;
}
