// Who a thread is, as looks into /proc told it: records of our own in the checkpoint's sideband stream, beside the kernel's.
//
// They are perf records (perf_record.h) of types that neither the kernel nor perf uses, with the trailer of their stream, so
// readers that do not know them step over them. Little-endian. A type's layout never changes: a new layout is a new type.
//
//   kThreadNamespaces  i32 pid, tid; u64 from, to; 8 x {u64 device, inode}; u32 levels; u32 flags; levels x {i32 pid, tid}
//   kCgroupText        u32 id; u32 bytes; text
//   kThreadCgroup      i32 pid, tid; u64 first_from, first_to, last_from, last_to; u32 text; u32 flags
//
// Times are of the snapshot's record clock: a look happened at some moment from its `from` to its `to`.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "hindcast/bytes.h"
#include "hindcast/units.h"

namespace hindcast::identity {

enum RecordType : uint32_t {
  kThreadNamespaces = 0x48430001,
  kCgroupText = 0x48430002,
  kThreadCgroup = 0x48430003,
};
inline constexpr bool is_ours(uint32_t type) { return type >= kThreadNamespaces && type <= kThreadCgroup; }

/// In the order of PERF_RECORD_NAMESPACES, which has the first seven.
enum NamespaceKind : uint8_t { kNet, kUts, kIpc, kPid, kUser, kMnt, kCgroup, kTime, kNamespaceKinds };
inline constexpr std::array<std::string_view, kNamespaceKinds> kNamespaceNames{"net",  "uts", "ipc",    "pid",
                                                                               "user", "mnt", "cgroup", "time"};
inline constexpr size_t kKernelNamespaces = 7;

/// device: as the kernel's new_encode_dev() has it. inode 0: not known.
struct Namespace {
  uint64_t device = 0, inode = 0;
  bool known() const { return inode != 0; }
  auto operator<=>(const Namespace&) const = default;
};
using Namespaces = std::array<Namespace, kNamespaceKinds>;

/// The ids of one thread in one pid namespace.
struct Ids {
  int32_t pid = 0, tid = 0;
  auto operator<=>(const Ids&) const = default;
};
/// How a value is known that was looked at now and then.
enum class Sure : uint8_t {
  seen,       // told by records at both ends. For cgroups: a move away and back between two looks is not seen
  either,     // one of several: it changed meanwhile
  inherited,  // the parent's when it was forked; nobody looked. clone3(CLONE_INTO_CGROUP) may have put it elsewhere
  unchecked,  // the last that was seen; nobody looked later
  unknown,    // no value
};
inline constexpr std::array<std::string_view, 5> kSureNames{"seen", "either", "inherited", "unchecked", "unknown"};

/// The kernel nests pid namespaces 32 deep below the first.
inline constexpr size_t kMostLevels = 33;

enum Flag : uint32_t {
  kEarlierForgotten = 1,  // earlier looks told something else, and there was no room to keep it
};

/// One look. levels: from the pid namespace of the daemon's /proc inwards; empty: not known.
struct ThreadNamespaces {
  Pid pid = kNoPid;
  Tid tid = kNoTid;
  RecordTime from{0}, to{0};
  Namespaces namespaces;
  std::vector<Ids> levels;
  uint32_t flags = 0;  // Flag
};

inline constexpr size_t kMostCgroupText = size_t{32} << 10;

/// /proc/PID/task/TID/cgroup, as it was read; named by records that come after it in its stream.
struct CgroupText {
  uint32_t id = 0;
  std::string_view text;
};

/// Every look from the first to the last told this text; the two may be one. Moves away and back between two looks are not
/// seen.
struct ThreadCgroup {
  Pid pid = kNoPid;
  Tid tid = kNoTid;
  RecordTime first_from{0}, first_to{0}, last_from{0}, last_to{0};
  uint32_t text = 0;
  uint32_t flags = 0;  // Flag
};

// Bodies, without header and trailer. Readers: none when it is cut short or says something impossible; what stands behind is
// ignored. Borrowed text stays borrowed.

inline void append_body(std::vector<uint8_t>& out, const ThreadNamespaces& r) {
  ByteWriter w(out);
  w.put<int32_t>(r.pid.value());
  w.put<int32_t>(r.tid.value());
  w.u64(r.from.value());
  w.u64(r.to.value());
  for (const Namespace& n : r.namespaces) {
    w.u64(n.device);
    w.u64(n.inode);
  }
  w.u32(static_cast<uint32_t>(r.levels.size()));
  w.u32(r.flags);
  for (const Ids& ids : r.levels) {
    w.put<int32_t>(ids.pid);
    w.put<int32_t>(ids.tid);
  }
}

inline std::optional<ThreadNamespaces> read_thread_namespaces(ByteSpan body) {
  ByteReader r(body);
  ThreadNamespaces out;
  out.pid = Pid(r.read<int32_t>());
  out.tid = Tid(r.read<int32_t>());
  out.from = RecordTime(r.u64());
  out.to = RecordTime(r.u64());
  for (Namespace& n : out.namespaces) {
    n.device = r.u64();
    n.inode = r.u64();
  }
  const uint32_t levels = r.u32();
  out.flags = r.u32();
  if (r.failed() || levels > kMostLevels || out.to < out.from) return std::nullopt;
  for (uint32_t i = 0; i < levels; ++i) {
    const auto pid = r.read<int32_t>(), tid = r.read<int32_t>();
    out.levels.push_back({pid, tid});
  }
  if (r.failed()) return std::nullopt;
  return out;
}

inline void append_body(std::vector<uint8_t>& out, const CgroupText& r) {
  ByteWriter w(out);
  w.u32(r.id);
  w.u32(static_cast<uint32_t>(r.text.size()));
  w.text(r.text);
}

inline std::optional<CgroupText> read_cgroup_text(ByteSpan body) {
  ByteReader r(body);
  CgroupText out;
  out.id = r.u32();
  const uint32_t size = r.u32();
  if (r.failed() || size > kMostCgroupText) return std::nullopt;
  const ByteSpan text = r.take(size);
  if (r.failed()) return std::nullopt;
  out.text = {reinterpret_cast<const char*>(text.data()), text.size()};
  return out;
}

inline void append_body(std::vector<uint8_t>& out, const ThreadCgroup& r) {
  ByteWriter w(out);
  w.put<int32_t>(r.pid.value());
  w.put<int32_t>(r.tid.value());
  for (const RecordTime t : {r.first_from, r.first_to, r.last_from, r.last_to}) w.u64(t.value());
  w.u32(r.text);
  w.u32(r.flags);
}

inline std::optional<ThreadCgroup> read_thread_cgroup(ByteSpan body) {
  ByteReader r(body);
  ThreadCgroup out;
  out.pid = Pid(r.read<int32_t>());
  out.tid = Tid(r.read<int32_t>());
  for (RecordTime* t : {&out.first_from, &out.first_to, &out.last_from, &out.last_to}) *t = RecordTime(r.u64());
  out.text = r.u32();
  out.flags = r.u32();
  const bool ordered = out.first_from <= out.first_to && out.first_from <= out.last_from &&
                       out.first_to <= out.last_to && out.last_from <= out.last_to;
  if (r.failed() || !ordered) return std::nullopt;
  return out;
}

}  // namespace hindcast::identity
