// What sideband records add up to: names, address spaces and namespaces at one moment. The checkpoint in
// front of a window whose older records had to go.
#pragma once

#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "capture/record_builder.h"

namespace hindcast::capture {

/// Grows with the processes alive, not with time: EXIT removes a thread, and a process with its last thread.
class SidebandState {
 public:
  /// Takes one record of kOurSampleType into the state. Records that say nothing lasting (switches, LOST,
  /// AUX) and malformed ones change nothing. Order matters: oldest first over all CPUs.
  void fold(const perf::Record& record);

  void set_comm(Pid pid, Tid tid, const std::string& comm);
  void add_map(const MapRecord& map);

  /// The state as records, all stamped with `time`: COMM and NAMESPACES of every thread, then MMAP2 of its
  /// process, then kernel symbols, BPF programs and control groups as they were reported.
  std::vector<uint8_t> to_records(RecordTime time) const;

  size_t process_count() const { return processes_.size(); }
  size_t thread_count() const { return threads_.size(); }
  size_t map_count() const;

 private:
  struct Thread {
    Pid pid;
    std::string comm;
    std::vector<uint8_t> namespaces;  // body of its last NAMESPACES record, without trailer
  };
  struct Process {
    std::map<uint64_t, MapRecord> maps;  // by start; never overlapping
    size_t threads = 0;
  };
  struct KernelRecord {
    uint32_t type;
    uint16_t misc;
    std::vector<uint8_t> body;  // without trailer
  };

  void fork(const TaskRecord& task);
  void exit(const TaskRecord& task);
  Thread& thread(Pid pid, Tid tid);
  static void punch(std::map<uint64_t, MapRecord>& maps, uint64_t start, uint64_t end);

  std::map<Tid, Thread> threads_;
  std::map<Pid, Process> processes_;
  std::map<std::pair<uint32_t, uint64_t>, KernelRecord> kernel_;  // by type and address or id
};

}  // namespace hindcast::capture
