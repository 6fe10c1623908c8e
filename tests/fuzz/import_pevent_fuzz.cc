// perf records from a stranger: one file of a CPU, one shared.
//
// Opinions: what is accepted is a whole number of records by a walk of its own, is stored as it was, and can be written;
// which clock and which images are found does not depend on where the records are split between two shared files.
#include "server/import/pevent.h"
#include "tests/fuzz/fuzz_support.h"
#include "tests/unit/server/import_support.h"
#include "transport/snapshot_rules.h"

using namespace hindcast;          // NOLINT
using namespace hindcast::server;  // NOLINT

namespace {

const MemoryFolder& root() {
  static const MemoryFolder f = [] {
    MemoryFolder m;
    m.files["bin/a"] = SmallElf().bytes();
    m.files["b"] = {1};
    return m;
  }();
  return f;
}

/// Offsets of all records and the end; empty when they do not fill the bytes exactly.
std::vector<size_t> boundaries(ByteSpan bytes) {
  std::vector<size_t> out{0};
  while (out.back() != bytes.size()) {
    const size_t at = out.back();
    if (bytes.size() - at < 8) return {};
    const size_t n = bytes[at + 6] | bytes[at + 7] << 8;
    if (n < 8 || n > bytes.size() - at) return {};
    out.push_back(at + n);
  }
  return out;
}

Result<Imported> import(std::vector<uint8_t> own, std::vector<std::vector<uint8_t>> shared, uint64_t type) {
  Imported out;
  std::vector<PeventCpu> cpus;
  cpus.push_back({{9, 9}, std::move(own)});
  HC_TRY_VOID(add_pevent(std::move(cpus), std::move(shared), type, root(), out));
  return out;
}

}  // namespace

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned random) {
  static const std::vector<uint8_t> seed = [] {
    std::vector<uint8_t> s{0, 0x48};  // sample_type as is; the CPU's own part ends after 72 bytes
    RecordFile f;
    f.switch_in(3).time_conv(31, 7, 9).mmap2("/bin/a", 4, 3).mmap2("/b", 4, 3).mmap2("[vdso]", 4, 3);
    s.insert(s.end(), f.bytes().begin(), f.bytes().end());
    return s;
  }();
  return mutate_from_template(seed, data, size, max_size, random);
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  static constexpr uint64_t kTypes[] = {0x10086, 0x6, 0, 0x102c6};
  const uint64_t type = kTypes[data[0] % 4];
  const ByteSpan records{data + 2, size - 2};
  const size_t split = std::min<size_t>(data[1], records.size());
  const std::vector<uint8_t> own(records.begin(), records.begin() + static_cast<ptrdiff_t>(split));
  const std::vector<uint8_t> shared(records.begin() + static_cast<ptrdiff_t>(split), records.end());
  const auto r = import(own, {shared}, type);
  if (!r.ok()) {
    MUST(!r.error().what.empty());
    return 0;
  }
  MUST(!boundaries(own).empty() && !boundaries(shared).empty());
  MUST(transport::broken_rules(r->info).empty());
  MUST(r->streams[0] == (std::vector<uint8_t>{9, 9}));
  if (!own.empty()) MUST(r->streams[1] == own && r->info.streams[1].cpu == r->info.streams[0].cpu);
  MUST(r->streams.back() == shared);

  const auto cuts = boundaries(shared);
  const size_t middle = cuts[cuts.size() / 2];
  const auto again = import(own,
                            {{shared.begin(), shared.begin() + static_cast<ptrdiff_t>(middle)},
                             {shared.begin() + static_cast<ptrdiff_t>(middle), shared.end()}},
                            type);
  MUST(again.ok());
  MUST(again->images == r->images && again->info.notes == r->info.notes);
  MUST(again->info.clock.known == r->info.clock.known && again->info.clock.zero == r->info.clock.zero &&
       again->info.clock.mult == r->info.clock.mult);
  return 0;
}
