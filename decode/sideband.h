// Sideband: perf records as typed values, merged over streams in time order.
//
// Records are small views of the stream's bytes; nothing is copied. What is malformed, unknown or cut is counted and
// skipped, never guessed. Source: include/uapi/linux/perf_event.h, "enum perf_event_type"; tools/perf for types >= 64.
#pragma once

#include <cstdint>
#include <string_view>
#include <variant>
#include <vector>

#include "hindcast/cut.h"
#include "hindcast/decoder.h"
#include "hindcast/identity_record.h"
#include "hindcast/perf_record.h"

namespace hindcast::decode {

struct CommRecord {
  Pid pid;
  Tid tid;
  std::string_view comm;
  bool exec = false;
};
/// MMAP and MMAP2. path as the kernel writes it: "//anon", "[vdso]", "/usr/bin/x".
struct MapRecord {
  Pid pid;
  Tid tid;
  uint64_t address = 0, length = 0, file_offset = 0;
  uint32_t prot = 0;  // PROT_ bits; 0 when the record has none (MMAP)
  ByteSpan build_id;  // raw bytes; empty when the record has none
  std::string_view path;
};
/// FORK and EXIT. A new process when pid != parent_pid, else a new thread.
struct TaskRecord {
  Pid pid, parent_pid;
  Tid tid, parent_tid;
  bool exit = false;
};
/// SWITCH and SWITCH_CPU_WIDE: pid and tid went on or off the CPU.
struct SwitchRecord {
  Pid pid;
  Tid tid;
  bool out = false, preempted = false;
  bool cpu_wide = false;  // other_* are known: the task after (out) or before (in)
  Pid other_pid = kNoPid;
  Tid other_tid = kNoTid;
};
struct ItraceStartRecord {
  Pid pid;
  Tid tid;
};
/// LOST and LOST_SAMPLES: the kernel dropped this many records since the record before.
struct LostRecord {
  uint64_t count = 0;
};
/// AUX: PT bytes became available, or why they did not (perf::AuxFlag).
struct AuxRecord {
  uint64_t offset = 0, size = 0, flags = 0;
};
struct TimeConvRecord {
  uint64_t shift = 0, mult = 0, zero = 0;
};
struct KsymbolRecord {
  uint64_t address = 0;
  uint32_t length = 0;
  bool unregister = false;
  std::string_view name;
};
struct TextPokeRecord {
  uint64_t address = 0;
  ByteSpan old_bytes, new_bytes;
};
/// Of this thread, from the record's time on. Kinds that the record does not have are not known.
struct NamespacesRecord {
  Pid pid;
  Tid tid;
  identity::Namespaces namespaces{};
};
struct CgroupRecord {
  uint64_t id = 0;
  std::string_view path;
};

using SidebandBody =
    std::variant<CommRecord, MapRecord, TaskRecord, SwitchRecord, ItraceStartRecord, LostRecord, AuxRecord,
                 TimeConvRecord, KsymbolRecord, TextPokeRecord, NamespacesRecord, CgroupRecord,
                 identity::ThreadNamespaces, identity::CgroupText, identity::ThreadCgroup>;

struct SidebandRecord {
  RecordTime time{0};  // of its trailer; without one, of the record before it in its stream (0 at the start)
  bool has_time = false;
  CpuId cpu = kNoCpu;  // where it was written: trailer, else stream
  Tid tid = kNoTid;    // who was running when it was written: trailer
  Pid pid = kNoPid;
  uint32_t stream = 0;  // StreamInfo.id
  uint64_t offset = 0;  // in the stream
  SidebandBody body;
};

enum class SidebandParse : uint8_t { ok, unknown, malformed };

/// One record; out is set only when ok.
SidebandParse parse_sideband(const perf::Record& record, const StreamInfo& stream, SidebandRecord& out);

/// All sideband streams of a snapshot in time order. Records of equal time keep the order of their streams and, within
/// a stream, of the bytes: so does a record whose clock went backwards in its stream (its time is raised to the one
/// before, since a ring is written in order).
class Sideband {
 public:
  struct StreamDamage {
    uint32_t stream = 0;
    uint64_t offset = 0;  // from here on nothing could be read: no record fits, or what followed is lost
    uint64_t bytes = 0;
    RecordTime after{0};  // time of the last good record
  };

  /// Adds a stream; O(bytes). The bytes are kept.
  void add(const StreamInfo& stream, SharedBytes bytes);
  /// Sorts; call once, after the last add().
  void finish();

  size_t size() const { return index_.size(); }
  /// The i-th record in time order. Views stay valid as long as this object. Always succeeds: only records that parse
  /// are indexed.
  SidebandRecord record(size_t i) const;

  uint64_t unknown() const { return unknown_; }
  uint64_t malformed() const { return malformed_; }
  const std::vector<StreamDamage>& damage() const { return damage_; }

 private:
  struct Stream {
    StreamInfo info;
    SharedBytes bytes;
  };
  struct Entry {
    uint64_t time;
    uint32_t stream;  // index in streams_
    uint64_t offset;
  };
  std::vector<Stream> streams_;
  std::vector<Entry> index_;
  uint64_t unknown_ = 0, malformed_ = 0;
  std::vector<StreamDamage> damage_;
};

}  // namespace hindcast::decode
