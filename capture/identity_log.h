// Who every thread is and was: looks into /proc at the start, at new processes, at traced threads now and then, and at the
// freeze; kept as spans of equal answers.
//
// No record of the kernel says that a thread moves to another cgroup. So each answer is kept with the times between which it
// was seen, and what lies between two different answers stays open.
#pragma once

#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "capture/proc_identity.h"
#include "hindcast/perf_record.h"

namespace hindcast::capture {

struct IdentityConfig {
  std::string proc = "/proc";
  size_t looks_per_second = 40;               // between start and freeze; measured: 30 µs of CPU, a first one 120
  size_t most_waiting = 1024;                 // new threads that nobody has looked at yet
  size_t most_alive = 65536;                  // threads
  size_t most_ended = 16384;                  // threads that have ended, whose identities are kept
  size_t most_text_bytes = size_t{16} << 20;  // of all different cgroup texts
};

/// One thread of the caller. Bounded by the config, whatever the host runs.
class IdentityLog {
 public:
  using Clock = std::chrono::steady_clock;
  /// The record clock. Where only the kernel can read it: the newest record's time.
  using Now = std::function<RecordTime()>;

  IdentityLog(const IdentityConfig& config, Now now) : config_(config), now_(std::move(now)) {}

  /// FORK of a process and COMM of an exec make a look due; take them as soon as they are there, in any order.
  ///   traced  its looks come first
  void expect(const perf::Record& record, bool traced);
  /// FORK and EXIT begin and end threads. In order of time.
  void see(const perf::Record& record, RecordTime time);

  /// Looks that are due, no more than the rate allows. traced: threads that are looked at about once a second, if the rate
  /// allows.
  void poll(Clock::time_point wall, const std::function<bool(Pid)>& traced);
  /// A look at every thread there is; at the traced ones' namespaces again, too. between: called now and then meanwhile, for
  /// what must not wait.
  void look_at_all(const std::function<bool(Pid)>& traced, const std::function<void()>& between);

  /// All of it as records of kOurSampleType, all stamped with `time`.
  std::vector<uint8_t> records(RecordTime time) const;

  /// Threads that began and were not looked at since too many waited, or too many are alive.
  uint64_t passed_over() const { return passed_over_; }
  /// Threads that have ended whose identities had to go for want of room.
  uint64_t forgotten() const { return forgotten_; }
  /// Threads of whose namespaces something may not be read.
  uint64_t refused() const { return refused_.size(); }

 private:
  using Text = std::shared_ptr<const std::string>;
  struct Span {
    RecordTime first_from, first_to, last_from, last_to;
    Text text;
  };
  struct Life {
    Pid pid;
    RecordTime began{0};  // by FORK; 0: it was there before
    std::vector<Span> spans;
    std::vector<identity::ThreadNamespaces> namespaces;
    bool earlier_forgotten = false;
    bool whole_look_due = true;  // namespaces too
    Clock::time_point looked{};
  };
  struct Waiting {
    Pid pid;
    Tid tid;
  };

  void look(Pid pid, Tid tid);
  void add_span(Life& life, Text text, RecordTime from, RecordTime to);
  void add_namespaces(Life& life, identity::ThreadNamespaces found);
  void end(std::map<Tid, Life>::iterator it);
  Text interned(std::string text);
  void wait_for_look(Pid pid, Tid tid, bool traced);

  const IdentityConfig config_;
  const Now now_;
  std::map<Tid, Life> alive_;
  std::deque<std::pair<Tid, Life>> ended_;
  std::unordered_map<std::string, std::weak_ptr<const std::string>> texts_;
  size_t text_bytes_ = 0;
  std::deque<Waiting> waiting_;
  std::set<Tid> is_waiting_;
  Tid round_at_{0};  // the last traced thread that was looked at in turn
  double allowance_ = 0;
  Clock::time_point allowed_until_{};
  std::set<Tid> refused_;
  uint64_t passed_over_ = 0, forgotten_ = 0;
};

}  // namespace hindcast::capture
