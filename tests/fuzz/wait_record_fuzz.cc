// Records of waits and clock samples from anybody: reading stays inside the bytes and ends, every record is told in words
// and as JSON, and times are intervals the right way round.
#include <cstdlib>
#include <ctime>

#include "decode/sampled_clock.h"
#include "hindcast/wait_record.h"
#include "server/views/cli/wait_words.h"

using namespace hindcast;

namespace {

void check(ByteSpan bytes, const decode::SampledClock& clock) {
  wait::Reader reader(bytes);
  wait::Record record;
  uint64_t end = 0;
  while (reader.next(record)) {
    if (record.offset != end || record.bytes.size() != record.header.size) abort();
    end += record.bytes.size();
    if (server::cli::wait_text(record).empty() || server::cli::wait_kind(record).empty()) abort();
    server::cli::wait_fields(record);
    const TscInterval i = clock.to_tsc(record.header.time);
    if (i.latest < i.earliest) abort();
  }
  if (reader.offset() != end || end > bytes.size() || reader.malformed() != (end != bytes.size())) abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return 0;
  // the first byte: how many samples come before the records
  const size_t samples = std::min<size_t>(size_t{data[0]} % 8 * kClockSampleBytes, size - 1);
  const ByteSpan all(data + 1, size - 1);
  const decode::SampledClock clock(read_clock_samples(all.first(samples), CLOCK_MONOTONIC), 100);
  check(all.subspan(samples), clock);
  return 0;
}
