#include "server/record_text.h"

#include <sys/mman.h>

#include <cinttypes>
#include <cstdio>

#include "hindcast/identity_record.h"

namespace hindcast::server {
namespace {

template <class... Args>
std::string print(const char* format, Args... args) {
  char buffer[256];
  std::snprintf(buffer, sizeof buffer, format, args...);
  return buffer;
}

std::string printable(std::string_view s) {
  std::string out;
  for (const char c : s) {
    const auto u = static_cast<unsigned char>(c);
    if (u < 0x20 || u == 0x7f)
      out += print("\\x%02x", unsigned{u});
    else
      out += c;
  }
  return out;
}

/// A NUL-terminated name; what is there when the NUL is missing.
std::string name_field(ByteReader& r) { return printable(r.c_string(r.left())); }

std::string protection(uint32_t prot, uint32_t flags) {
  std::string s = "---p";
  if (prot & PROT_READ) s[0] = 'r';
  if (prot & PROT_WRITE) s[1] = 'w';
  if (prot & PROT_EXEC) s[2] = 'x';
  if (flags & MAP_SHARED) s[3] = 's';
  return s;
}

std::string hex(ByteSpan bytes) {
  std::string s;
  for (const uint8_t b : bytes) s += print("%02x", unsigned{b});
  return s;
}

std::string ids(ByteReader& r) {
  const auto pid = r.read<int32_t>(), tid = r.read<int32_t>();
  return print(" pid %d tid %d", pid, tid);
}

std::string mapping(ByteReader& r, const perf::Record& record) {
  std::string s = ids(r);
  const uint64_t start = r.u64(), length = r.u64(), offset = r.u64();
  s += print(" [0x%" PRIx64 ", 0x%" PRIx64 ") off 0x%" PRIx64, start, start + length, offset);
  if (record.type == perf::kMmap2) {
    std::string origin;
    if (record.misc & perf::kMiscMmapBuildId) {
      const uint8_t n = r.u8();
      r.skip(3);
      const ByteSpan id = r.take(20);
      if (!id.empty()) origin = " build-id " + hex(id.first(n < 20 ? n : 20));
    } else {
      r.skip(24);  // device, inode and generation
    }
    const uint32_t prot = r.u32(), flags = r.u32();
    s += " " + protection(prot, flags) + origin;
  } else if (record.misc & perf::kMiscMmapData) {
    s += " data";
  }
  return s + " " + name_field(r);
}

std::string aux(ByteReader& r) {
  const uint64_t offset = r.u64(), size = r.u64(), flags = r.u64();
  std::string s = print(" off 0x%" PRIx64 " size 0x%" PRIx64, offset, size);
  if (flags & perf::kAuxTruncated) s += " TRUNCATED";
  if (flags & perf::kAuxOverwrite) s += " OVERWRITE";
  if (flags & perf::kAuxPartial) s += " PARTIAL";
  if (flags & perf::kAuxCollision) s += " COLLISION";
  return s;
}

}  // namespace

std::string record_name(uint32_t type) {
  switch (type) {
    case perf::kMmap:
      return "MMAP";
    case perf::kLost:
      return "LOST";
    case perf::kComm:
      return "COMM";
    case perf::kExit:
      return "EXIT";
    case perf::kThrottle:
      return "THROTTLE";
    case perf::kUnthrottle:
      return "UNTHROTTLE";
    case perf::kFork:
      return "FORK";
    case perf::kRead:
      return "READ";
    case perf::kSample:
      return "SAMPLE";
    case perf::kMmap2:
      return "MMAP2";
    case perf::kAux:
      return "AUX";
    case perf::kItraceStart:
      return "ITRACE_START";
    case perf::kLostSamples:
      return "LOST_SAMPLES";
    case perf::kSwitch:
      return "SWITCH";
    case perf::kSwitchCpuWide:
      return "SWITCH_CPU_WIDE";
    case perf::kNamespaces:
      return "NAMESPACES";
    case perf::kKsymbol:
      return "KSYMBOL";
    case perf::kBpfEvent:
      return "BPF_EVENT";
    case perf::kCgroup:
      return "CGROUP";
    case perf::kTextPoke:
      return "TEXT_POKE";
    case perf::kAuxOutputHwId:
      return "AUX_OUTPUT_HW_ID";
    case perf::kIdIndex:
      return "ID_INDEX";
    case perf::kAuxtraceInfo:
      return "AUXTRACE_INFO";
    case perf::kAuxtrace:
      return "AUXTRACE";
    case perf::kThreadMap:
      return "THREAD_MAP";
    case perf::kCpuMap:
      return "CPU_MAP";
    case perf::kTimeConv:
      return "TIME_CONV";
    case identity::kThreadNamespaces:
      return "THREAD_NAMESPACES";
    case identity::kCgroupText:
      return "CGROUP_TEXT";
    case identity::kThreadCgroup:
      return "THREAD_CGROUP";
    default:
      return "type " + std::to_string(type);
  }
}

std::string record_text(const perf::Record& record, uint64_t sample_type) {
  // A name must not run on into the trailer.
  const bool has_trailer = (record.type < 64 && record.type != perf::kSample) || identity::is_ours(record.type);
  const size_t trailer = has_trailer ? perf::sample_id_bytes(sample_type) : 0;
  const ByteSpan body = record.body.size() >= trailer ? record.body.first(record.body.size() - trailer) : record.body;
  ByteReader r(body);
  std::string s = record_name(record.type);
  switch (record.type) {
    case perf::kMmap:
    case perf::kMmap2:
      s += mapping(r, record);
      break;
    case perf::kComm:
      s += ids(r);
      s += " " + name_field(r);
      if (record.misc & perf::kMiscCommExec) s += " (exec)";
      break;
    case perf::kFork:
    case perf::kExit: {
      const auto pid = r.read<int32_t>(), ppid = r.read<int32_t>(), tid = r.read<int32_t>(), ptid = r.read<int32_t>();
      s += print(" pid %d tid %d parent %d/%d", pid, tid, ppid, ptid);
      break;
    }
    case perf::kLost: {
      r.skip(8);
      s += print(" %" PRIu64 " records", r.u64());
      break;
    }
    case perf::kLostSamples:
      s += print(" %" PRIu64 " samples", r.u64());
      break;
    case perf::kSwitch:
    case perf::kSwitchCpuWide: {
      const bool out = record.misc & perf::kMiscSwitchOut;
      s += out ? " out" : " in";
      if (out && (record.misc & perf::kMiscSwitchOutPreempt)) s += " preempted";
      if (record.type == perf::kSwitchCpuWide) {
        const auto pid = r.read<int32_t>(), tid = r.read<int32_t>();
        s += print(out ? " next %d/%d" : " prev %d/%d", pid, tid);
      }
      if (const auto id = perf::read_sample_id(record, sample_type); id && (sample_type & perf::kSampleTid))
        s += print(" pid %d tid %d", id->pid.value(), id->tid.value());
      break;
    }
    case perf::kItraceStart:
      s += ids(r);
      break;
    case perf::kAux:
      s += aux(r);
      break;
    case perf::kKsymbol: {
      const uint64_t address = r.u64();
      const uint32_t length = r.u32();
      r.skip(4);
      s += print(" 0x%" PRIx64 " len %u ", address, length);
      s += name_field(r);
      break;
    }
    case perf::kTextPoke: {
      const uint64_t address = r.u64();
      const uint16_t before = r.u16(), after = r.u16();
      s += print(" 0x%" PRIx64 " old %u new %u bytes", address, unsigned{before}, unsigned{after});
      break;
    }
    case perf::kTimeConv: {
      const uint64_t shift = r.u64(), mult = r.u64(), zero = r.u64();
      s += print(" shift %" PRIu64 " mult %" PRIu64 " zero %" PRIu64, shift, mult, zero);
      break;
    }
    case perf::kCgroup: {
      const uint64_t id = r.u64();
      s += print(" id %" PRIu64 " ", id);
      s += name_field(r);
      break;
    }
    case perf::kNamespaces:
      s += ids(r);
      s += print(" %" PRIu64 " kinds", r.u64());
      break;
    case identity::kThreadNamespaces:
      s += ids(r);
      r.skip(16);
      for (const std::string_view kind : identity::kNamespaceNames) {
        r.skip(8);
        s += " " + std::string(kind) + print(" %" PRIu64, r.u64());
      }
      break;
    case identity::kCgroupText: {
      const uint32_t id = r.u32();
      r.skip(4);
      const ByteSpan text = r.take(r.left());
      s += print(" id %u ", id) + printable({reinterpret_cast<const char*>(text.data()), text.size()});
      break;
    }
    case identity::kThreadCgroup: {
      s += ids(r);
      r.skip(32);
      s += print(" text %u", r.u32());
      break;
    }
    default:
      s += print(" %zu bytes", record.body.size());
      break;
  }
  if (r.failed()) s += " (cut short)";
  return s;
}

}  // namespace hindcast::server
