// The window over a launched command or a cgroup: its PT, the sideband, waits, code bytes and processes, kept going, and taken
// as it is as often as wanted.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "capture/cgroup.h"
#include "capture/child.h"
#include "capture/clock_log.h"
#include "capture/code_bytes.h"
#include "capture/identity_log.h"
#include "capture/kernel_code.h"
#include "capture/net_window.h"
#include "capture/perf_event.h"
#include "capture/process_tree.h"
#include "capture/pt_source.h"
#include "capture/sideband.h"
#include "capture/sideband_store.h"
#include "capture/waits.h"

namespace hindcast::capture {

/// Whether to do what not every machine can.
enum class Want : uint8_t { no, if_possible, yes };
/// "off", "auto" or "on".
std::optional<Want> parse_want(std::string_view word);

struct WindowConfig {
  std::vector<std::string> command;  // empty: what is in the cgroup
  std::string cgroup;                // its folder; used without a command
  PtOptions pt;
  uint64_t ring_bytes = uint64_t{64} << 20;  // of PT, per CPU; a power of two pages. 0: what the limits grant
  uint64_t ring_budget = 0;                  // of PT, all CPUs together; 0: no such limit
  bool command_only = false;                 // PT of the command and its children alone; the sideband is everybody's
  bool kernel = false;                       // PT of the kernel, too
  size_t sideband_ring_bytes = size_t{4} << 20;  // per CPU, shared with the kernel
  SidebandBudget sideband;
  IdentityConfig identities;
  Want waits = Want::if_possible;             // and wakes, messages, signals, exits; yes: or fail
  size_t waits_ring_bytes = size_t{8} << 20;  // shared with the kernel; a power of two pages
  size_t waits_bytes = size_t{64} << 20;      // kept
  Want net = Want::no;                        // packets on network interfaces; yes: or fail
  NetWindowConfig packets;
  std::string sys = "/sys";  // where the online CPUs are read
  KernelCodeConfig kernel_code;
};

/// What a freeze took, in memory. Streams, images and placements are put into `info` when it is written.
struct Frozen {
  SnapshotInfo info;
  std::vector<Cut> cuts;
  CodeBytes::Collected code;
  std::vector<std::string> warnings;  // of info.notes, those that whoever waits should see
};

/// Life: open(), start(), then step() again and again; snapshots in between; finish() at the end. One thread.
class Window {
 public:
  using Clock = std::chrono::steady_clock;
  using Say = std::function<void(const std::string&)>;  // one line a call

  /// Source and calls must outlive it.
  Window(PtSource& source, PerfCalls& calls, const WindowConfig& config, Say say);

  /// Opens everything and forks the command, if there is one, which waits. mask: the signal mask that it gets.
  Result<void> open(const sigset_t& mask);
  /// The window begins, then the command runs. Errors: also those of Child::release().
  Result<void> start();
  /// Waits until there is something to do, for at most 10 ms, or until one of `also` is readable; does a bounded amount of
  /// work. Errors: the source cannot go on.
  Result<void> step(std::span<const int> also);

  bool has_child() const { return child_.has_value(); }
  Child& child() { return *child_; }
  /// Empty: the command and all that it started have ended. Sure only for what ended before complete_since().
  std::vector<Pid> alive();
  Clock::time_point complete_since() const { return complete_since_; }
  /// A line for the reader of the recordings, said at once.
  void note(const std::string& text);

  /// Asks for the window as of now. It goes on. One at a time.
  Result<void> start_snapshot();
  /// It, when it is there: until then step() on. Comes within seconds.
  Result<std::optional<Frozen>> take_snapshot();
  /// Stops tracing and takes the window as it is then.
  Result<Frozen> finish();

  uint64_t lost_records() const { return store_->lost_records(); }
  /// None: waits and messages are not recorded.
  std::optional<uint64_t> lost_waits() const { return waits_ ? std::optional(waits_->lost()) : std::nullopt; }

 private:
  void drain();
  void deliver(RecordTime until);
  void deliver_settled();
  void keep_waits(Clock::time_point until);
  void forget_clock();
  void store(Delivered& d);
  Result<void> open_bpf();
  Result<void> open_waits();
  Result<void> open_net();
  Result<void> without(Want want, const Error& error);
  void watch_cgroup();
  void watch_cpus();
  void look_at_threads();
  bool in_scope(const perf::Record& record) const;
  RecordTime now() const { return sideband_->now().value_or(sideband_->newest()); }
  Result<void> finish_sideband();
  void watch_code();
  void tell_code_watch(const perf::Record& record, RecordTime time);
  void look_at_code();
  Frozen collect(std::vector<Cut> cuts, Tsc end);
  SnapshotInfo describe() const;
  std::vector<std::string> warnings() const;

  PtSource& source_;
  PerfCalls& calls_;
  const WindowConfig config_;
  const Say say_;
  const bool simulated_;
  rlimit files_{};

  std::vector<CpuId> cpus_;         // all that were ever online
  std::vector<CpuId> online_cpus_;  // when last looked at
  Clock::time_point next_cpu_look_;
  std::optional<Sideband> sideband_;
  std::optional<SidebandStore> store_;
  IdentityLog identities_;
  ClockLog clock_;  // for these two, and for jitdumps
  std::optional<Waits> waits_;
  std::optional<NetWindow> net_;
  std::optional<Child> child_;
  std::optional<Cgroup> cgroup_;
  Clock::time_point next_cgroup_look_;
  ProcessTree tree_;
  CodeBytes code_;
  CodeWatch code_watch_;  // with a source that makes no copies itself
  PerfMaps perf_maps_;
  Clock::time_point next_map_look_;
  std::optional<KernelCode> kernel_code_;  // where the source traces the kernel
  std::vector<std::string> notes_;
  Tsc began_{0};

  std::optional<RecordTime> settling_;  // read from the clock at settling_since_; due when old enough
  Clock::time_point settling_since_;
  RecordTime complete_until_{0};      // all records up to then have been stored
  Clock::time_point complete_since_;  // and all of before then
  Clock::time_point next_dead_check_;
  std::set<int> hung_up_;  // descriptors that need no more waiting for
  bool busy_ = true;       // the source had work to do, and probably has more
  uint64_t lost_faults_ = 0;

  struct Pending {
    RecordTime at;  // sideband must be complete up to here
    Tsc tsc;
    std::optional<std::vector<Cut>> cuts;
    // When the kernel's code had been copied: records of before then say since when it was what it is.
    std::optional<Clock::time_point> copied;
    std::optional<RecordTime> looked;  // memory was looked at until then
  };
  std::optional<Pending> pending_;
};

}  // namespace hindcast::capture
