#include "decode/sideband.h"

#include <algorithm>
#include <optional>

namespace hindcast::decode {
namespace {

constexpr uint16_t kKsymbolUnregister = 1;
constexpr uint32_t kFirstToolType = 64;  // records that the perf tool writes have no trailer
constexpr size_t kMaxBuildId = 20;

std::optional<SidebandBody> parse_body(const perf::Record& record, ByteSpan body) {
  ByteReader r(body);
  const auto pid = [&r] { return Pid(r.read<int32_t>()); };
  const auto tid = [&r] { return Tid(r.read<int32_t>()); };
  const auto text = [&r] { return r.c_string(r.left()); };
  SidebandBody out;
  switch (record.type) {
    case perf::kComm: {
      CommRecord c{pid(), tid(), {}, (record.misc & perf::kMiscCommExec) != 0};
      c.comm = text();
      out = c;
      break;
    }
    case perf::kMmap:
    case perf::kMmap2: {
      MapRecord m{pid(), tid(), r.u64(), r.u64(), r.u64(), 0, {}, {}};
      if (record.type == perf::kMmap2) {
        if (record.misc & perf::kMiscMmapBuildId) {
          const size_t size = r.u8();
          r.skip(3);
          const ByteSpan id = r.take(kMaxBuildId);
          if (r.failed() || size > kMaxBuildId) return std::nullopt;
          m.build_id = id.subspan(0, size);
        } else {
          r.skip(24);  // device, inode, inode generation
        }
        m.prot = r.u32();
        r.skip(4);  // MAP_ flags
      }
      m.path = text();
      out = m;
      break;
    }
    case perf::kFork:
    case perf::kExit: {
      TaskRecord t{pid(), pid(), tid(), tid(), record.type == perf::kExit};
      r.skip(8);  // time, again
      out = t;
      break;
    }
    case perf::kSwitch:
    case perf::kSwitchCpuWide: {
      SwitchRecord s;
      s.out = (record.misc & perf::kMiscSwitchOut) != 0;
      s.preempted = s.out && (record.misc & perf::kMiscSwitchOutPreempt) != 0;
      if (record.type == perf::kSwitchCpuWide) {
        s.cpu_wide = true;
        s.other_pid = pid();
        s.other_tid = tid();
      }
      out = s;
      break;
    }
    case perf::kItraceStart:
      out = ItraceStartRecord{pid(), tid()};
      break;
    case perf::kLost:
      r.skip(8);  // event id
      out = LostRecord{r.u64()};
      break;
    case perf::kLostSamples:
      out = LostRecord{r.u64()};
      break;
    case perf::kAux:
      out = AuxRecord{r.u64(), r.u64(), r.u64()};
      break;
    case perf::kTimeConv:
      out = TimeConvRecord{r.u64(), r.u64(), r.u64()};
      break;
    case perf::kKsymbol: {
      KsymbolRecord k{r.u64(), r.u32(), false, {}};
      r.skip(2);  // type
      k.unregister = (r.u16() & kKsymbolUnregister) != 0;
      k.name = text();
      out = k;
      break;
    }
    case perf::kTextPoke: {
      TextPokeRecord t{r.u64(), {}, {}};
      const size_t old_length = r.u16(), new_length = r.u16();
      t.old_bytes = r.take(old_length);
      t.new_bytes = r.take(new_length);
      out = t;
      break;
    }
    case perf::kNamespaces: {
      NamespacesRecord n{pid(), tid(), {}};
      const uint64_t count = r.u64();
      if (count > r.left() / 16) return std::nullopt;
      for (size_t i = 0; i < std::min<uint64_t>(count, identity::kKernelNamespaces); ++i) {
        n.namespaces[i].device = r.u64();
        n.namespaces[i].inode = r.u64();
      }
      out = n;
      break;
    }
    case identity::kThreadNamespaces:
      if (const auto n = identity::read_thread_namespaces(body)) return *n;
      return std::nullopt;
    case identity::kCgroupText:
      if (const auto t = identity::read_cgroup_text(body)) return *t;
      return std::nullopt;
    case identity::kThreadCgroup:
      if (const auto c = identity::read_thread_cgroup(body)) return *c;
      return std::nullopt;
    case perf::kCgroup: {
      CgroupRecord c{r.u64(), {}};
      c.path = text();
      out = c;
      break;
    }
    default:
      return std::nullopt;
  }
  if (r.failed()) return std::nullopt;
  return out;
}

bool is_known(uint32_t type) {
  switch (type) {
    case perf::kComm:
    case perf::kMmap:
    case perf::kMmap2:
    case perf::kFork:
    case perf::kExit:
    case perf::kSwitch:
    case perf::kSwitchCpuWide:
    case perf::kItraceStart:
    case perf::kLost:
    case perf::kLostSamples:
    case perf::kAux:
    case perf::kTimeConv:
    case perf::kKsymbol:
    case perf::kTextPoke:
    case perf::kNamespaces:
    case perf::kCgroup:
      return true;
    default:
      return identity::is_ours(type);
  }
}

}  // namespace

SidebandParse parse_sideband(const perf::Record& record, const StreamInfo& stream, SidebandRecord& out) {
  if (!is_known(record.type)) return SidebandParse::unknown;
  ByteSpan body = record.body;
  SidebandRecord r;
  r.cpu = stream.cpu;
  r.stream = stream.id;
  r.offset = record.offset;
  if (record.type < kFirstToolType || identity::is_ours(record.type)) {
    const std::optional<perf::SampleId> id = perf::read_sample_id(record, stream.sample_type);
    if (!id) return SidebandParse::malformed;
    body = body.subspan(0, body.size() - perf::sample_id_bytes(stream.sample_type));
    if (id->time) {
      r.time = *id->time;
      r.has_time = true;
    }
    // A trailer of zeros was made by the perf tool, which does not say where.
    const bool synthesised = id->time == RecordTime(0) && id->tid == Tid(0) && id->cpu == CpuId(0);
    if (id->cpu != kNoCpu && !synthesised) r.cpu = id->cpu;
    r.pid = id->pid;
    r.tid = id->tid;
  }
  std::optional<SidebandBody> parsed = parse_body(record, body);
  if (!parsed) return SidebandParse::malformed;
  if (auto* s = std::get_if<SwitchRecord>(&*parsed)) {
    s->pid = r.pid;
    s->tid = r.tid;
  }
  r.body = *parsed;
  out = r;
  return SidebandParse::ok;
}

void Sideband::add(const StreamInfo& stream, SharedBytes bytes) {
  const auto number = static_cast<uint32_t>(streams_.size());
  streams_.push_back({stream, bytes});
  perf::RecordReader reader(bytes.bytes);
  perf::Record record;
  SidebandRecord parsed;
  uint64_t time = 0;
  while (reader.next(record)) {
    switch (parse_sideband(record, stream, parsed)) {
      case SidebandParse::ok:
        if (parsed.has_time) time = std::max(time, parsed.time.value());
        index_.push_back({time, number, record.offset});
        break;
      case SidebandParse::unknown:
        ++unknown_;
        break;
      case SidebandParse::malformed:
        ++malformed_;
        break;
    }
  }
  if (reader.malformed() || !bytes.holes.empty())
    damage_.push_back({stream.id, reader.offset(), bytes.bytes.size() - reader.offset(), RecordTime(time)});
}

void Sideband::finish() {
  std::stable_sort(index_.begin(), index_.end(), [](const Entry& a, const Entry& b) { return a.time < b.time; });
}

SidebandRecord Sideband::record(size_t i) const {
  const Entry& e = index_[i];
  const Stream& s = streams_[e.stream];
  perf::RecordReader reader(s.bytes.bytes.subspan(e.offset));
  perf::Record record;
  SidebandRecord out;
  HC_CHECK(reader.next(record));
  record.offset = e.offset;
  HC_CHECK(parse_sideband(record, s.info, out) == SidebandParse::ok);
  out.time = RecordTime(e.time);
  return out;
}

}  // namespace hindcast::decode
