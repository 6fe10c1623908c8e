// A perf.data file from a stranger.
//
// Opinions: what is accepted can be written as a bundle; its PT bytes are no more than the file's; its records can be walked
// and each has its trailer; reading it again gives the same.
#include "server/import/perf_data.h"

#include <zstd.h>

#include "tests/fuzz/fuzz_support.h"
#include "tests/support/perf_file_bytes.h"
#include "tests/unit/server/import_support.h"
#include "transport/snapshot_rules.h"

using namespace hindcast;          // NOLINT
using namespace hindcast::server;  // NOLINT

namespace {

const MemoryFolder& root() {
  static const MemoryFolder f = [] {
    MemoryFolder m;
    m.files["bin/a"] = SmallElf().bytes();
    m.files[".build-id/ab/cdef/elf"] = SmallElf().bytes();
    m.files["b"] = {1};
    return m;
  }();
  return f;
}

/// A record of the kernel's as `perf record -z` packs it.
std::vector<uint8_t> packed_record() {
  test::PerfFileBytes f;
  f.switch_in(2, 70);
  const std::vector<uint8_t> file = f.bytes();
  const size_t from = f.layout().data, size = f.layout().table - from;
  std::vector<uint8_t> packed(ZSTD_compressBound(size));
  packed.resize(ZSTD_compress(packed.data(), packed.size(), file.data() + from, size, 1));
  return packed;
}

}  // namespace

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned random) {
  static const std::vector<uint8_t> seed = [] {
    test::PerfFileBytes f;
    f.info({{perf::kInfoTimeKnown, 1}, {perf::kInfoTimeMult, 3}, {perf::kInfoSnapshotMode, 1}});
    f.trace(1, 0, {1, 2, 3}).switch_in(1, 50).mmap2("/bin/a", 4).mmap2("/b", 4, {0xab, 0xcd, 0xef});
    f.trace(1, 3, {4, 5}).trace(0, 9, {9}).record(perf::kComm, std::vector<uint8_t>(24), 0, 0, 0);
    f.text(perf::kFeatureHostname, "h").text(perf::kFeatureCpuId, "GenuineIntel,6,85,4");
    f.event(perf::kCompressed, packed_record());
    f.text(perf::kFeatureHindcast, "{\"root_pids\":[1]}");
    return f.bytes();
  }();
  return mutate_from_template(seed, data, size, max_size, random);
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto r = read_perf_data({data, size}, root(), root());
  if (!r.ok()) {
    MUST(!r.error().what.empty());
    return 0;
  }
  MUST(is_perf_data({data, size}));
  MUST(transport::broken_rules(r->info).empty());
  size_t trace = 0;
  for (size_t i = 0; i < r->streams.size(); ++i) {
    if (r->info.streams[i].kind == StreamKind::pt) {
      trace += r->streams[i].size();
      continue;
    }
    perf::RecordReader reader(r->streams[i]);
    perf::Record record;
    while (reader.next(record)) MUST(perf::read_sample_id(record, r->info.streams[i].sample_type));
    MUST(!reader.malformed());
  }
  MUST(trace <= size);
  const auto again = read_perf_data({data, size}, root(), root());
  MUST(again.ok() && again->streams == r->streams && again->images == r->images && again->info.notes == r->info.notes);
  return 0;
}
