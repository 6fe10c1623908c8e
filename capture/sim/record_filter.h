// Hides the simulator in the kernel's sideband: what is left looks as if the program had run on the CPU itself.
//
//   QEMU's own mappings, its helper threads and the plugin's     dropped
//   the program's code, which QEMU maps readable only            made executable, as its ELF segment says
//   "qemu-x86_64" as the name of an executed program             replaced by the program's
//
// and in the records of waits and messages:
//
//   what helper threads do, and waking them                      dropped
//   futexes that are not in the program's memory                 dropped; a sleep on one keeps no object
//   addresses of signal handlers: QEMU's                         "not known"
//
// What cannot be told apart: a SIGSEGV that QEMU raises and handles itself when code is written to, and a thread that
// sleeps inside of QEMU. Both look like the program's.
#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "capture/pt_source.h"
#include "capture/sim/channel.h"
#include "hindcast/perf_record.h"
#include "hindcast/units.h"

namespace hindcast::sim {

/// heard() may be called from another thread than the rest.
class RecordFilter {
 public:
  using RecordFate = capture::RecordFate;

  /// to_record_time: converts TSC values as good as is known now.
  explicit RecordFilter(std::function<RecordTime(uint64_t tsc)> to_record_time);

  /// The command's process, before it executes QEMU; name: of the program that QEMU will run.
  void add_root(Pid pid, const std::string& name);
  /// What a plugin said (process, thread, exec).
  void heard(const Message& message);

  /// Decides over one record and may change it in place. May wait up to 30 ms for what a plugin has to say about a thread
  /// that is only just new.
  RecordFate filter(perf::Record& record, std::span<uint8_t> whole);

  /// The same for a record of waits and messages, when the sideband until its time has been filtered.
  RecordFate filter(const wait::Record& record, std::span<uint8_t> whole);

  /// Records of waits until the sideband filtered last are filtered too: threads that ended may be forgotten.
  void forget_ended() { ended_helpers_.clear(); }

  /// The thread is QEMU's or the plugin's own.
  bool is_helper(Tid tid) const { return helpers_.contains(tid.value()); }

 private:
  struct Connection {
    RecordTime process{0};                        // when the plugin connected
    RecordTime first_thread = RecordTime::max();  // from then on guest code runs
    uint64_t low = 0, high = 0;
  };
  struct Process {
    std::string name;
    RecordTime begun{0};         // its fork or last exec
    bool native = false;         // runs without QEMU
    uint64_t low = 0, high = 0;  // of its parent, until it says its own
  };

  const Connection* connection_after(Pid pid, RecordTime begun) const;
  RecordFate map(const perf::Record& record, std::span<uint8_t> whole);
  RecordFate comm(const perf::Record& record, std::span<uint8_t> whole);
  RecordFate fork(const perf::Record& record);
  bool has_helper(int32_t tid) const { return helpers_.contains(tid) || ended_helpers_.contains(tid); }
  bool in_program(int32_t pid, uint64_t address) const;
  std::pair<uint64_t, uint64_t> program_range(Pid pid, const Process& process) const;
  bool executable(const std::string& path, uint64_t offset, uint64_t length);

  std::function<RecordTime(uint64_t)> to_record_time_;
  mutable std::mutex mutex_;  // guards connections_ and execs_
  std::condition_variable changed_;
  std::map<int32_t, std::vector<Connection>> connections_;  // by pid, oldest first
  std::map<int32_t, bool> execs_;                           // by pid: the announced exec runs natively
  std::map<int32_t, Process> processes_;                    // only filter()'s thread
  std::set<int32_t> helpers_;
  std::set<int32_t> ended_helpers_;  // whose last records of waits may still come
  struct Segment {
    uint64_t offset, length;
    bool executable;
  };
  std::map<std::string, std::vector<Segment>> files_;
};

/// The program that a QEMU user-mode command line runs, without its directories; empty when there is none.
std::string guest_program_name(const std::vector<std::string>& qemu_argv);

}  // namespace hindcast::sim
