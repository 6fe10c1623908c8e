#include "server/views/export/perf_records.h"

#include <sys/mman.h>

#include <algorithm>
#include <map>

#include "hindcast/perf_file.h"

namespace hindcast::server::views {
namespace {

constexpr uint32_t kLastKernelRecord = perf::kAuxOutputHwId;  // of perf 6.1; it stops at a type that it does not know
constexpr size_t kRecordsPerRound = 16384;
constexpr uint16_t kMiscUser = 2;  // PERF_RECORD_MISC_USER
constexpr size_t kMaxBuildId = 20;

struct Mapping {
  Pid pid = kNoPid;
  Tid tid = kNoTid;
  uint64_t address = 0, length = 0, offset = 0;
  ByteSpan build_id;  // empty: none recorded
  uint32_t prot = PROT_READ | PROT_EXEC, flags = MAP_PRIVATE;
  std::string_view path;
};

/// perf takes the kernel's code from a kcore of its own; mapped into a process it would be user code.
bool in_kernel(const PlacementInfo& p) { return p.pid == kNoPid && p.address >> 63 != 0; }

bool read_mapping(const perf::Record& record, Mapping& m) {
  ByteReader r(record.body);
  m.pid = Pid(r.read<int32_t>());
  m.tid = Tid(r.read<int32_t>());
  m.address = r.u64();
  m.length = r.u64();
  m.offset = r.u64();
  if (record.type == perf::kMmap2) {
    if (record.misc & perf::kMiscMmapBuildId) {
      const size_t size = r.u8();
      r.skip(3);
      const ByteSpan id = r.take(kMaxBuildId);
      if (r.failed() || size > kMaxBuildId) return false;
      m.build_id = id.subspan(0, size);
    } else {
      r.skip(24);  // device, inode, inode generation
    }
    m.prot = r.u32();
    m.flags = r.u32();
  } else if (record.misc & perf::kMiscMmapData) {
    m.prot = PROT_READ;
  }
  m.path = r.c_string(r.left());
  return !r.failed();
}

struct Pending {
  RecordTime time{0};
  perf::Record record;
  perf::SampleId id;
  size_t trailer = 0;
};

class Collector {
 public:
  Collector(Query& query, const Overview& overview, CodeFiles& code)
      : query_(query), overview_(overview), info_(overview.info), code_(code) {
    for (const PlacementInfo& p : info_.placements)
      if (p.length > 0 && p.address + p.length > p.address && code_.find(p.image) && !in_kernel(p))
        placements_.push_back(&p);
    std::stable_sort(placements_.begin(), placements_.end(),
                     [](const PlacementInfo* a, const PlacementInfo* b) { return a->from < b->from; });
  }

  Result<PerfRecords> collect() {
    for (const StreamInfo& s : info_.streams)
      if (s.kind == StreamKind::sideband) HC_TRY_VOID(read_stream(s));
    std::stable_sort(pending_.begin(), pending_.end(),
                     [](const Pending& a, const Pending& b) { return a.time < b.time; });
    for (const Pending& p : pending_) {
      HC_TRY_VOID(begin_placements(p.time));
      HC_TRY_VOID(put(p));
    }
    HC_TRY_VOID(begin_placements(RecordTime::max()));
    return std::move(out_);
  }

 private:
  Result<void> read_stream(const StreamInfo& s) {
    HC_TRY(SharedBytes bytes, query_.stream_bytes(overview_.snapshot, s.id));
    perf::RecordReader reader(bytes.bytes);
    Pending p;
    RecordTime time{0};
    while (reader.next(p.record)) {
      if (p.record.type >= perf::kFirstToolRecord) continue;  // perf gets its own
      const auto id = perf::read_sample_id(p.record, s.sample_type);
      if (p.record.type == perf::kSample || p.record.type > kLastKernelRecord || !id) {
        ++out_.left_out;
        continue;
      }
      p.id = *id;
      if (!(s.sample_type & perf::kSampleCpu)) p.id.cpu = s.cpu;
      p.trailer = perf::sample_id_bytes(s.sample_type);
      // A ring is written in order, whatever its clock says.
      time = std::max(time, p.id.time.value_or(time));
      p.time = time;
      pending_.push_back(p);
    }
    if (reader.malformed()) ++out_.left_out;
    kept_.push_back(std::move(bytes));
    return {};
  }

  Result<void> put(const Pending& p) {
    const perf::Record& r = p.record;
    if (r.type == perf::kSwitch) out_.only_cpu_wide = false;
    if (r.type == perf::kSwitch || r.type == perf::kSwitchCpuWide) out_.any_switch = true;
    Mapping m;
    const bool is_mapping = r.type == perf::kMmap || r.type == perf::kMmap2;
    if (is_mapping && read_mapping({r.type, r.misc, r.body.first(r.body.size() - p.trailer), r.offset}, m)) {
      if (const ImageInfo* image = code_.find(m.path, m.build_id)) {
        HC_TRY(const BuildId id, code_.use(*image, m.build_id));
        if (m.build_id.empty()) return put_mapping(m, id, r.misc, p.id, p.time);
        append(r.type, r.misc, r.body.first(r.body.size() - p.trailer), p.id, p.time);
        return {};
      }
      append(r.type, r.misc, r.body.first(r.body.size() - p.trailer), p.id, p.time);
      return place_again(m, p.time);
    }
    append(r.type, r.misc, r.body.first(r.body.size() - p.trailer), p.id, p.time);
    if (r.type == perf::kComm && (r.misc & perf::kMiscCommExec)) {
      ByteReader body(r.body);
      m = Mapping{};
      m.pid = Pid(body.read<int32_t>());
      m.length = UINT64_MAX;
      return place_again(m, p.time);  // an exec empties the address space
    }
    return {};
  }

  /// Placements whose time has come.
  Result<void> begin_placements(RecordTime now) {
    for (; begun_ < placements_.size() && placements_[begun_]->from <= now; ++begun_) {
      const PlacementInfo& p = *placements_[begun_];
      placed_[p.pid].push_back(&p);
      if (p.pid != kNoPid) {
        HC_TRY_VOID(place(p, p.pid, p.address, p.length, p.from));
        continue;
      }
      for (const ProcessRow& process : overview_.processes)
        if (process.pid.value() > 0) HC_TRY_VOID(place(p, process.pid, p.address, p.length, p.from));
    }
    return {};
  }

  /// perf lets every later mapping cover what was there; where it has no code, ours stays on top.
  Result<void> place_again(const Mapping& m, RecordTime now) {
    const uint64_t end = m.length > UINT64_MAX - m.address ? UINT64_MAX : m.address + m.length;
    struct Part {
      const PlacementInfo* placement;
      uint64_t from, to;
    };
    std::vector<Part> parts;  // newest first; one under a newer one as large is of no use
    const auto collect = [&](Pid pid) {
      const auto of_process = placed_.find(pid);
      if (of_process == placed_.end()) return;
      for (auto it = of_process->second.rbegin(); it != of_process->second.rend(); ++it) {
        const PlacementInfo& p = **it;
        const uint64_t from = std::max(p.address, m.address), to = std::min(p.address + p.length, end);
        if (from >= to || now > p.to) continue;
        const auto covers = [&](const Part& part) { return part.from <= from && to <= part.to; };
        if (std::none_of(parts.begin(), parts.end(), covers)) parts.push_back({&p, from, to});
      }
    };
    collect(m.pid);
    collect(kNoPid);
    for (auto it = parts.rbegin(); it != parts.rend(); ++it)
      HC_TRY_VOID(place(*it->placement, m.pid, it->from, it->to - it->from, now));
    return {};
  }

  Result<void> place(const PlacementInfo& p, Pid pid, uint64_t address, uint64_t length, RecordTime time) {
    const ImageInfo& image = *code_.find(p.image);
    HC_TRY(const BuildId id, code_.use(image, {}));
    const std::string path = CodeFiles::path_of(image);
    Mapping m;
    m.pid = pid;
    m.tid = Tid(pid.value());
    m.address = address;
    m.length = length;
    m.offset = CodeFiles::file_offset(image, p.image_offset + (address - p.address));
    m.path = path;
    perf::SampleId stamp;
    stamp.pid = pid;
    stamp.tid = m.tid;
    ++out_.added;
    return put_mapping(m, id, kMiscUser, stamp, time);
  }

  Result<void> put_mapping(const Mapping& m, const BuildId& id, uint16_t misc, const perf::SampleId& stamp,
                           RecordTime time) {
    body_.clear();
    ByteWriter w(body_);
    w.put(m.pid.value());
    w.put(m.tid.value());
    w.u64(m.address);
    w.u64(m.length);
    w.u64(m.offset);
    w.u8(static_cast<uint8_t>(id.size()));
    w.u8(0);
    w.u16(0);
    w.bytes(id);
    w.u32(m.prot);
    w.u32(m.flags);
    w.text(m.path);
    do w.u8(0);
    while (body_.size() % 8 != 0);
    append(perf::kMmap2, static_cast<uint16_t>(misc | perf::kMiscMmapBuildId), body_, stamp, time);
    return {};
  }

  void append(uint32_t type, uint16_t misc, ByteSpan body, const perf::SampleId& id, RecordTime time) {
    const size_t size = 8 + body.size() + perf::sample_id_bytes(perf::kOurSampleType);
    if (size > UINT16_MAX) {
      ++out_.left_out;
      return;
    }
    ByteWriter w(out_.bytes);
    w.u32(type);
    w.u16(misc);
    w.u16(static_cast<uint16_t>(size));
    w.bytes(body);
    w.put(id.pid.value());
    w.put(id.tid.value());
    w.u64(time.value());
    w.u32(id.cpu.value());
    w.u32(0);
    w.u64(id.id);
    if (id.id != 0) out_.ids.insert(id.id);
    if (time.value() != 0) out_.first = std::min(out_.first, time);
    out_.last = std::max(out_.last, time);
    if (++count_ % kRecordsPerRound == 0) out_.round_at.push_back(out_.bytes.size());
  }

  Query& query_;
  const Overview& overview_;
  const SnapshotInfo& info_;
  CodeFiles& code_;
  std::vector<SharedBytes> kept_;
  std::vector<Pending> pending_;
  std::vector<const PlacementInfo*> placements_;  // by their begin
  size_t begun_ = 0;
  std::map<Pid, std::vector<const PlacementInfo*>> placed_;  // those begun
  std::vector<uint8_t> body_;
  size_t count_ = 0;
  PerfRecords out_;
};

}  // namespace

Result<PerfRecords> perf_records(Query& query, const Overview& overview, CodeFiles& code) {
  return Collector(query, overview, code).collect();
}

}  // namespace hindcast::server::views
