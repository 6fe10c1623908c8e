// Perf records of our own making, in the kernel's layout with the trailer of kOurSampleType, and their
// counterpart: the fields of the records that describe an address space.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "hindcast/perf_record.h"

namespace hindcast::capture {

/// The trailer that a made record ends in.
struct RecordStamp {
  RecordTime time;
  CpuId cpu = kNoCpu;
  Pid pid = kNoPid;
  Tid tid = kNoTid;
};

/// One mapping, as an MMAP2 record tells it.
struct MapRecord {
  Pid pid = kNoPid;
  Tid tid = kNoTid;
  uint64_t start = 0;
  uint64_t length = 0;
  uint64_t file_offset = 0;  // of the byte at start
  uint32_t device_major = 0, device_minor = 0;
  uint64_t inode = 0, inode_generation = 0;
  std::string build_id;  // raw bytes, up to 20; when not empty it stands in the record instead of device and inode
  uint32_t prot = 0;     // PROT_*
  uint32_t flags = 0;    // MAP_*
  std::string path;      // "//anon", "[vdso]", "/usr/bin/ls", ...
  bool operator==(const MapRecord&) const = default;
};

/// False for names that are no paths: "[heap]", "//anon", "anon_inode:[perf_event]", "socket:[1]".
bool names_a_file(const std::string& path);

/// Fields of an MMAP2 record. None when it is not one or is cut short.
std::optional<MapRecord> read_map_record(const perf::Record& record, uint64_t sample_type);

struct CommRecord {
  Pid pid;
  Tid tid;
  std::string comm;
  bool exec = false;
};
std::optional<CommRecord> read_comm_record(const perf::Record& record);

/// Fields of FORK and EXIT.
struct TaskRecord {
  Pid pid, parent_pid;
  Tid tid, parent_tid;
};
std::optional<TaskRecord> read_task_record(const perf::Record& record);

/// The time of any record, a sample's included; none when it has none.
std::optional<RecordTime> record_time(const perf::Record& record, uint64_t sample_type);

/// What a PERF_RECORD_SAMPLE of kOurSampleType holds: nothing but the identity of the moment.
std::optional<perf::SampleId> read_sample(const perf::Record& record);

/// Appends a record of any type: header, body padded to 8, trailer. Bodies beyond 60,000 bytes are refused
/// (HC_CHECK).
void append_record(std::vector<uint8_t>& out, uint32_t type, uint16_t misc, ByteSpan body, const RecordStamp& stamp);
void append_map_record(std::vector<uint8_t>& out, const MapRecord& map, const RecordStamp& stamp);
void append_comm_record(std::vector<uint8_t>& out, const CommRecord& comm, const RecordStamp& stamp);
/// type: perf::kFork or perf::kExit.
void append_task_record(std::vector<uint8_t>& out, uint32_t type, const TaskRecord& task, const RecordStamp& stamp);
void append_lost_record(std::vector<uint8_t>& out, uint64_t event_id, uint64_t lost, const RecordStamp& stamp);

}  // namespace hindcast::capture
