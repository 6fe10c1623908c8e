// Scans that somebody kept: whatever a file says, it is refused, or what it gives can be used: each question about times has an
// answer, it packs to the same bytes again, and both engines come to an end with it, though it may be of another trace.
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "decode/fast/fast_engine.h"
#include "decode/kept_scan.h"
#include "tests/fuzz/packet_stream.h"
#include "tests/support/tiny_image.h"

namespace {

using namespace hindcast;
using namespace hindcast::decode;

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "violated: %s\n", what);
  std::abort();
}

struct Selector final : ImageSelector {
  std::shared_ptr<const CodeImage> image = std::make_shared<test::TinyImage>();
  std::shared_ptr<const CodeImage> image_at(uint64_t, Ip) override { return image; }
};

void decode_all(FlowDecoder& decoder, size_t bytes) {
  std::vector<Event> events(64);
  size_t all = 0;
  while (const size_t n = decoder.next(events)) {
    all += n;
    require(all < 10000 + 1000 * bytes, "the flow ends");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  test::FuzzInput in(data, size);
  const bool is_real = in.take(1) & 1;
  std::vector<std::pair<uint64_t, uint8_t>> changes;  // of a real one
  for (uint64_t n = in.take(1) % 8; n > 0; --n) {
    const uint64_t at = in.take(2);
    changes.emplace_back(at, static_cast<uint8_t>(in.take(1)));
  }
  std::vector<uint8_t> packed;
  for (uint64_t n = is_real ? 0 : in.take(2) % 2000; n > 0; --n) packed.push_back(static_cast<uint8_t>(in.take(1)));
  const std::vector<uint8_t> bytes = test::packet_stream(in);

  PtTimeConfig config;
  config.tsc_ctc_num = 308;
  config.tsc_ctc_den = 2;
  config.mtc_period = 3;
  const PtTrace scanned = PtTrace::scan(bytes, config);
  const std::vector<uint8_t> real = pack_scan(scanned, config);
  if (is_real) packed = real;
  // What is wrong in what the scan depends on is seen at once: the rest is to be tried.
  constexpr size_t kConditions = 8 + 8 + 8 + 4 + 4 + 1 + 8 + 8 + 8 + 1;
  if (!is_real) packed.insert(packed.begin(), real.begin(), real.begin() + kConditions);
  for (const auto& [at, bits] : changes)
    if (packed.size() > kConditions) packed[kConditions + at % (packed.size() - kConditions)] ^= bits;

  PtTrace kept;
  kept.bytes = scanned.bytes;
  if (!unpack_scan(packed, config, kept)) {
    require(packed != real, "what a scan found is taken");
    return 0;
  }
  require(pack_scan(kept, config) == packed, "it packs to the same bytes");
  for (uint64_t at = 0; at <= bytes.size(); at += 1 + bytes.size() / 64) {
    const TscInterval t = kept.times.window(at, bytes.size());
    kept.times.last_before(t.latest);
  }
  Selector images;
  const auto code = std::make_shared<IptCode>();
  BlockGraphs graphs;
  EngineCounts counts;
  const auto fast = make_fast_decoder(kept, {}, images, code, graphs, counts);
  const auto libipt = make_libipt_decoder(kept, {}, images, code);
  require(fast.ok() && libipt.ok(), "there are decoders");
  decode_all(**fast, bytes.size());
  decode_all(**libipt, bytes.size());
  (*fast)->seek(bytes.size() / 2);
  decode_all(**fast, bytes.size());
  return 0;
}
