#include "server/import/perf_trace.h"

#include <map>

#include "hindcast/bundle_format.h"
#include "server/import/perf_file.h"

namespace hindcast::server {
namespace {

/// perf pads what it takes out of a ring to 8 bytes; the next chunk's offset does not count them.
constexpr uint64_t kMostPadding = 7;

struct Joined {
  StreamInfo info;
  std::vector<uint8_t> bytes;
  uint64_t first = 0;    // ring offset of the first byte
  uint64_t skipped = 0;  // ring bytes that no chunk holds
};

Result<void> join(Joined& s, const perf::AuxtraceBody& record, ByteSpan trace, bool snapshot_mode) {
  const uint64_t expected = s.first + s.skipped + s.bytes.size();
  bool cut = snapshot_mode;
  if (record.offset < expected) {
    const uint64_t twice = expected - record.offset;
    if (twice > s.bytes.size())
      return bad_perf_file("its trace goes backwards",
                           "offset " + std::to_string(record.offset) + " after " + std::to_string(expected));
    if (snapshot_mode) {
      if (twice >= trace.size()) return {};
      trace = trace.subspan(twice);
    } else if (twice <= kMostPadding) {
      s.bytes.resize(s.bytes.size() - twice);
    } else {
      return bad_perf_file("two pieces of its trace overlap",
                           std::to_string(twice) + " bytes at offset " + std::to_string(record.offset));
    }
  } else if (record.offset - expected > kMostPadding) {
    s.skipped += record.offset - expected;
    s.info.lost_bytes = s.skipped;
    cut = true;
  }
  if (cut && !s.bytes.empty() && (s.info.cuts.empty() || s.info.cuts.back() != s.bytes.size())) {
    if (s.info.cuts.size() == bundle::kMaxCuts)
      return Error{Errc::too_large,
                   "cannot import the perf.data file: it holds too many snapshots of a ring",
                   "more than " + std::to_string(bundle::kMaxCuts),
                   {}};
    s.info.cuts.push_back(s.bytes.size());
  }
  s.bytes.insert(s.bytes.end(), trace.begin(), trace.end());
  return {};
}

}  // namespace

Result<void> PerfTrace::make_streams(bool snapshot_mode, Imported& out) const {
  std::map<std::pair<uint32_t, int32_t>, size_t> places;
  std::vector<Joined> streams;
  for (const Chunk& c : chunks_) {
    const bool of_a_cpu = c.record.cpu != kNoCpu.value();
    if (!of_a_cpu && c.record.tid < 0) return bad_perf_file("a piece of its trace belongs to no CPU and no thread");
    if (c.record.offset > UINT64_MAX / 2) return bad_perf_file("the offset of a piece of its trace is impossible");
    const auto [place, fresh] = places.emplace(std::pair{c.record.cpu, of_a_cpu ? -1 : c.record.tid}, streams.size());
    if (fresh) {
      if (streams.size() == bundle::kMaxStreams / 4)
        return Error{Errc::too_large,
                     "cannot import the perf.data file: it has too many traces",
                     "more than " + std::to_string(streams.size()),
                     {}};
      Joined s;
      s.info.kind = StreamKind::pt;
      s.info.cpu = CpuId(c.record.cpu);
      s.info.tid = Tid(of_a_cpu ? -1 : c.record.tid);
      s.info.wrapped = c.record.offset > 0;
      s.first = c.record.offset;
      streams.push_back(std::move(s));
    }
    HC_TRY_VOID(join(streams[place->second], c.record, c.trace, snapshot_mode));
  }
  for (Joined& s : streams) out.add_stream(std::move(s.info), std::move(s.bytes));
  return {};
}

}  // namespace hindcast::server
