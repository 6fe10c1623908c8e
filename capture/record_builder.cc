// Perf records of our own making, and the fields of the records that describe an address space.
#include "capture/record_builder.h"

#include <sys/mman.h>

#include "hindcast/result.h"

namespace hindcast::capture {

namespace {
constexpr size_t kMaxPath = 4096;
constexpr size_t kMaxBuildId = 20;
}  // namespace

bool names_a_file(const std::string& path) {
  return path.size() > 1 && path[0] == '/' && path[1] != '/' && path.rfind("/dev/zero", 0) != 0 &&
         path.rfind("/SYSV", 0) != 0;
}

std::optional<MapRecord> read_map_record(const perf::Record& record, uint64_t sample_type) {
  const size_t trailer = perf::sample_id_bytes(sample_type);
  if (record.type != perf::kMmap2 || record.body.size() < trailer) return std::nullopt;
  ByteReader r(record.body.first(record.body.size() - trailer));
  MapRecord m;
  m.pid = Pid(r.read<int32_t>());
  m.tid = Tid(r.read<int32_t>());
  m.start = r.u64();
  m.length = r.u64();
  m.file_offset = r.u64();
  const ByteSpan identity = r.take(24);
  m.prot = r.u32();
  m.flags = r.u32();
  m.path = r.c_string(kMaxPath);
  if (r.failed()) return std::nullopt;
  ByteReader id(identity);
  if (record.misc & perf::kMiscMmapBuildId) {
    const size_t size = id.u8();
    if (size > kMaxBuildId) return std::nullopt;
    id.skip(3);
    const ByteSpan bytes = id.take(size);
    m.build_id.assign(bytes.begin(), bytes.end());
  } else {
    m.device_major = id.u32();
    m.device_minor = id.u32();
    m.inode = id.u64();
    m.inode_generation = id.u64();
  }
  return m;
}

std::optional<CommRecord> read_comm_record(const perf::Record& record) {
  if (record.type != perf::kComm) return std::nullopt;
  ByteReader r(record.body);
  CommRecord c;
  c.pid = Pid(r.read<int32_t>());
  c.tid = Tid(r.read<int32_t>());
  c.comm = r.c_string(256);
  c.exec = record.misc & perf::kMiscCommExec;
  if (r.failed()) return std::nullopt;
  return c;
}

std::optional<TaskRecord> read_task_record(const perf::Record& record) {
  if (record.type != perf::kFork && record.type != perf::kExit) return std::nullopt;
  ByteReader r(record.body);
  TaskRecord t;
  t.pid = Pid(r.read<int32_t>());
  t.parent_pid = Pid(r.read<int32_t>());
  t.tid = Tid(r.read<int32_t>());
  t.parent_tid = Tid(r.read<int32_t>());
  if (r.failed()) return std::nullopt;
  return t;
}

std::optional<perf::SampleId> read_sample(const perf::Record& record) {
  if (record.type != perf::kSample) return std::nullopt;
  ByteReader r(record.body);  // the order of linux/perf_event.h, PERF_RECORD_SAMPLE
  perf::SampleId s;
  s.id = r.u64();
  s.pid = Pid(r.read<int32_t>());
  s.tid = Tid(r.read<int32_t>());
  s.time = RecordTime(r.u64());
  s.cpu = CpuId(r.u32());
  r.skip(4);
  if (r.failed()) return std::nullopt;
  return s;
}

std::optional<RecordTime> record_time(const perf::Record& record, uint64_t sample_type) {
  const auto id = record.type == perf::kSample ? read_sample(record) : read_sample_id(record, sample_type);
  return id ? id->time : std::nullopt;
}

void append_record(std::vector<uint8_t>& out, uint32_t type, uint16_t misc, ByteSpan body, const RecordStamp& stamp) {
  constexpr size_t kMaxBody = 60000;
  HC_CHECK(body.size() <= kMaxBody);
  const size_t padded = (body.size() + 7) & ~size_t{7};
  ByteWriter w(out);
  w.u32(type);
  w.u16(misc);
  w.u16(static_cast<uint16_t>(8 + padded + perf::sample_id_bytes(perf::kOurSampleType)));
  w.bytes(body);
  out.resize(out.size() + padded - body.size());
  w.put<int32_t>(stamp.pid.value());
  w.put<int32_t>(stamp.tid.value());
  w.u64(stamp.time.value());
  w.u32(stamp.cpu.value());
  w.u32(0);
  w.u64(0);  // the event's id
}

void append_map_record(std::vector<uint8_t>& out, const MapRecord& map, const RecordStamp& stamp) {
  std::vector<uint8_t> body;
  ByteWriter w(body);
  w.put<int32_t>(map.pid.value());
  w.put<int32_t>(map.tid.value());
  w.u64(map.start);
  w.u64(map.length);
  w.u64(map.file_offset);
  uint16_t misc = map.prot & PROT_EXEC ? 0 : perf::kMiscMmapData;
  if (map.build_id.empty()) {
    w.u32(map.device_major);
    w.u32(map.device_minor);
    w.u64(map.inode);
    w.u64(map.inode_generation);
  } else {
    HC_CHECK(map.build_id.size() <= kMaxBuildId);
    misc |= perf::kMiscMmapBuildId;
    w.u32(static_cast<uint32_t>(map.build_id.size()));
    w.text(map.build_id);
    body.resize(body.size() + kMaxBuildId - map.build_id.size());
  }
  w.u32(map.prot);
  w.u32(map.flags);
  w.text(std::string_view(map.path).substr(0, kMaxPath - 1));
  w.u8(0);
  append_record(out, perf::kMmap2, misc, body, stamp);
}

void append_comm_record(std::vector<uint8_t>& out, const CommRecord& comm, const RecordStamp& stamp) {
  std::vector<uint8_t> body;
  ByteWriter w(body);
  w.put<int32_t>(comm.pid.value());
  w.put<int32_t>(comm.tid.value());
  w.text(std::string_view(comm.comm).substr(0, 255));
  w.u8(0);
  append_record(out, perf::kComm, comm.exec ? perf::kMiscCommExec : 0, body, stamp);
}

void append_task_record(std::vector<uint8_t>& out, uint32_t type, const TaskRecord& task, const RecordStamp& stamp) {
  HC_CHECK(type == perf::kFork || type == perf::kExit);
  std::vector<uint8_t> body;
  ByteWriter w(body);
  w.put<int32_t>(task.pid.value());
  w.put<int32_t>(task.parent_pid.value());
  w.put<int32_t>(task.tid.value());
  w.put<int32_t>(task.parent_tid.value());
  w.u64(stamp.time.value());
  append_record(out, type, 0, body, stamp);
}

void append_lost_record(std::vector<uint8_t>& out, uint64_t event_id, uint64_t lost, const RecordStamp& stamp) {
  std::vector<uint8_t> body;
  ByteWriter w(body);
  w.u64(event_id);
  w.u64(lost);
  append_record(out, perf::kLost, 0, body, stamp);
}

}  // namespace hindcast::capture
