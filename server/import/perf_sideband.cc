#include "server/import/perf_sideband.h"

#include <algorithm>

#include "hindcast/bundle_format.h"

namespace hindcast::server {
namespace {

constexpr uint64_t kTrailerFields = perf::kSampleTid | perf::kSampleTime | perf::kSampleId | perf::kSampleStreamId |
                                    perf::kSampleCpu | perf::kSampleIdentifier;
constexpr uint32_t kProtExec = 4;
constexpr size_t kMaxBuildId = 20;
constexpr size_t kMaxMappedFiles = 65536;

std::string hex(ByteSpan bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string s;
  for (const uint8_t b : bytes) {
    s += kDigits[b >> 4];
    s += kDigits[b & 15];
  }
  return s;
}

std::string name_of(const perf::Record& r) {
  return "record of type " + std::to_string(r.type) + " at byte " + std::to_string(r.offset) + " of the events";
}

void put(std::vector<uint8_t>& out, const perf::Record& record, ByteSpan body, const perf::SampleId& id) {
  ByteWriter w(out);
  w.u32(record.type);
  w.u16(record.misc);
  w.u16(static_cast<uint16_t>(8 + body.size() + perf::sample_id_bytes(perf::kOurSampleType)));
  w.bytes(body);
  w.put(id.pid.value());
  w.put(id.tid.value());
  w.u64(id.time.value_or(RecordTime(0)).value());
  w.u32(id.cpu.value());
  w.u32(0);
  w.u64(id.id);
}

}  // namespace

Result<PerfSideband> PerfSideband::make(const std::vector<PerfAttr>& attrs) {
  PerfSideband s;
  for (size_t i = 0; i < attrs.size(); ++i) {
    const PerfAttr& a = attrs[i];
    if (!a.attr.sample_id_all)
      return Error{Errc::unsupported, "cannot import the perf.data file: its records do not say when they were written",
                   "sample_id_all is off in attr " + std::to_string(i), "record it with a perf of this decade"};
    s.sample_types_.push_back(a.attr.sample_type & kTrailerFields);
    if (s.sample_types_[i] != s.sample_types_[0]) s.uniform_ = false;
    for (const uint64_t id : a.ids) s.by_id_.emplace(id, i);
  }
  for (const uint64_t type : s.sample_types_)
    if (!s.uniform_ && !(type & perf::kSampleIdentifier))
      return Error{Errc::unsupported,
                   "cannot import the perf.data file: its events have trailers of several kinds without an identifier",
                   {},
                   "record only intel_pt and what perf adds to it"};
  return s;
}

Result<uint64_t> PerfSideband::sample_type_of(const perf::Record& record) const {
  if (uniform_) return sample_types_[0];
  if (record.body.size() < 8) return bad_perf_file("a record is too short for its trailer", name_of(record));
  ByteReader r(record.body.subspan(record.body.size() - 8));
  const uint64_t id = r.u64();
  if (id == 0) return sample_types_[0];  // perf's own, about what ran before
  const auto it = by_id_.find(id);
  if (it == by_id_.end())
    return bad_perf_file("a record is of an event that has no attr", name_of(record) + ", id " + std::to_string(id));
  return sample_types_[it->second];
}

Result<void> PerfSideband::add(const perf::Record& record) {
  HC_TRY(const uint64_t type, sample_type_of(record));
  const auto id = perf::read_sample_id(record, type);
  const size_t trailer = perf::sample_id_bytes(type);
  if (!id) return bad_perf_file("a record is too short for its trailer", name_of(record));
  const ByteSpan body = record.body.first(record.body.size() - trailer);
  if (8 + body.size() + perf::sample_id_bytes(perf::kOurSampleType) > UINT16_MAX)
    return bad_perf_file("a record is too long", name_of(record));
  if (record.type == perf::kMmap || record.type == perf::kMmap2) note_file(record, trailer);
  const uint64_t time = id->time.value_or(RecordTime(0)).value();
  // An all-zero trailer is what perf gives to records about processes that ran before; its CPU 0 is none.
  const bool of_no_cpu = !(type & perf::kSampleCpu) || id->cpu == kNoCpu || (id->id == 0 && time == 0);
  if (of_no_cpu) {
    perf::SampleId none = *id;
    none.cpu = kNoCpu;
    shared_.push_back({time, {}});
    put(shared_.back().bytes, record, body, none);
  } else {
    put(cpus_[id->cpu.value()], record, body, *id);
  }
  return {};
}

void PerfSideband::note_file(const perf::Record& record, size_t trailer) {
  ByteReader r(record.body.first(record.body.size() - trailer));
  r.skip(8 + 3 * 8);  // pid, tid; address, length, offset
  std::string build_id;
  bool executable = !(record.misc & perf::kMiscMmapData);
  if (record.type == perf::kMmap2) {
    if (record.misc & perf::kMiscMmapBuildId) {
      const size_t size = r.u8();
      r.skip(3);
      const ByteSpan id = r.take(kMaxBuildId);
      build_id = hex(id.first(std::min(size, id.size())));
    } else {
      r.skip(24);  // device, inode, inode generation
    }
    executable = (r.u32() & kProtExec) != 0;
    r.skip(4);
  }
  const std::string_view path = r.c_string(bundle::kMaxTextBytes);
  if (r.failed() || path.empty() || files_.size() == kMaxMappedFiles) return;
  files_[std::pair{std::string(path), std::move(build_id)}] |= executable;
}

Result<void> PerfSideband::make_streams(Imported& out) {
  if (cpus_.size() > bundle::kMaxStreams / 4)
    return Error{
        Errc::too_large, "cannot import the perf.data file: it has too many CPUs", std::to_string(cpus_.size()), {}};
  StreamInfo info;
  info.kind = StreamKind::sideband;
  info.sample_type = perf::kOurSampleType;
  if (!shared_.empty()) {
    // They come from several rings, so their order in the file is not that of time.
    std::stable_sort(shared_.begin(), shared_.end(), [](const Shared& a, const Shared& b) { return a.time < b.time; });
    std::vector<uint8_t> bytes;
    for (const Shared& s : shared_) bytes.insert(bytes.end(), s.bytes.begin(), s.bytes.end());
    out.add_stream(info, std::move(bytes));
  }
  for (auto& [cpu, bytes] : cpus_) {
    info.cpu = CpuId(cpu);
    out.add_stream(info, std::move(bytes));
  }
  return {};
}

}  // namespace hindcast::server
