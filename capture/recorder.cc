// Records one command into a bundle: `hindcastd --record FILE -- CMD`.
#include "capture/recorder.h"

#include <algorithm>
#include <csignal>
#include <optional>
#include <set>
#include <thread>

#include <linux/membarrier.h>
#include <poll.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>

#include "capture/bundle_output.h"
#include "capture/code_bytes.h"
#include "capture/proc_synth.h"
#include "capture/process_tree.h"
#include "capture/sideband.h"
#include "capture/text_file.h"

namespace hindcast::capture {

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kPollSimulated{2};  // the simulated trace is made of what we see: rings fill in tens of ms
constexpr milliseconds kPollReal{10};
/// A record is visible at most this long after its time stamp: the kernel writes it with preemption off, so only a CPU
/// that its hypervisor stopped takes longer. Records that do are counted and noted.
constexpr milliseconds kRecordsSettle{5};

/// Signals blocked while this lives, and readable from fd().
class SignalTrap {
 public:
  static Result<SignalTrap> set() {
    SignalTrap t;
    sigset_t mask;
    ::sigemptyset(&mask);
    for (const int s : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2}) ::sigaddset(&mask, s);
    if (::sigprocmask(SIG_BLOCK, &mask, &t.before_) != 0) return errno_error("cannot block", "signals");
    t.armed_ = true;
    t.fd_ = Fd(::signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!t.fd_.valid()) return errno_error("cannot make", "a signalfd");
    return t;
  }
  SignalTrap(SignalTrap&& o) noexcept
      : fd_(std::move(o.fd_)), before_(o.before_), armed_(std::exchange(o.armed_, false)) {}
  SignalTrap& operator=(SignalTrap&&) = delete;
  ~SignalTrap() {
    if (armed_) ::sigprocmask(SIG_SETMASK, &before_, nullptr);
  }
  int fd() const { return fd_.get(); }
  const sigset_t& before() const { return before_; }
  /// The next pending one; none when there is none.
  std::optional<signalfd_siginfo> take() {
    signalfd_siginfo info{};
    if (::read(fd_.get(), &info, sizeof info) != sizeof info) return std::nullopt;
    return info;
  }

 private:
  SignalTrap() = default;
  Fd fd_;
  sigset_t before_{};
  bool armed_ = false;
};

/// One descriptor per CPU and per mapped file is needed: takes what the hard limit allows. Returns the old limit.
rlimit raise_file_limit() {
  rlimit old{};
  ::getrlimit(RLIMIT_NOFILE, &old);
  rlimit raised = old;
  raised.rlim_cur = old.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &raised);
  return old;
}

/// Waits until every CPU has left the code that might have been writing a record when this was called.
void wait_for_writers() {
  if (::syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) != 0) std::this_thread::sleep_for(milliseconds(20));
}

class Recording {
 public:
  Recording(PtSource& source, PerfCalls& calls, const RecordConfig& config,
            const std::function<void(const std::string&)>& say)
      : source_(source),
        calls_(calls),
        config_(config),
        say_(say),
        simulated_(source.name() == "simulated"),
        code_(simulated_ ? CodeRule::any_elf : CodeRule::executable) {}

  Result<RecordSummary> run();

 private:
  Result<void> open(SignalTrap& signals);
  Result<void> start();
  void loop(SignalTrap& signals);
  Result<std::vector<Cut>> freeze();
  SnapshotInfo describe() const;

  void drain();
  void deliver(RecordTime until);
  void deliver_settled();
  void store(Delivered& d);
  bool in_scope(const perf::Record& record) const;
  void note(const std::string& text) {
    notes_.push_back(text);
    say_(text);
  }
  bool should_stop(SignalTrap& signals);

  PtSource& source_;
  PerfCalls& calls_;
  const RecordConfig& config_;
  const std::function<void(const std::string&)>& say_;
  const bool simulated_;
  rlimit files_{};

  std::vector<CpuId> cpus_;
  std::optional<Sideband> sideband_;
  std::optional<SidebandStore> store_;
  std::optional<Child> child_;
  ProcessTree tree_;
  CodeBytes code_;
  std::vector<std::string> notes_;

  std::optional<RecordTime> settling_;  // read from the clock at settling_since_; due when old enough
  Clock::time_point settling_since_;
  Clock::time_point complete_since_;  // all records of before then have been stored
  std::optional<Clock::time_point> ended_at_, lingering_until_;
  Clock::time_point next_dead_check_;
  std::set<int> hung_up_;  // descriptors that need no more waiting for
  int stop_signals_ = 0;
  uint64_t lost_faults_ = 0;
};

Result<void> Recording::open(SignalTrap& signals) {
  files_ = raise_file_limit();
  HC_TRY(cpus_, online_cpus());
  HC_TRY_VOID(source_.prepare({config_.pt, config_.ring_bytes, cpus_}));
  SidebandConfig sideband;
  sideband.cpus = cpus_;
  sideband.clock = simulated_ ? RecordClock::monotonic_raw : RecordClock::perf_default;
  sideband.ring_bytes = config_.sideband_ring_bytes;
  HC_TRY(sideband_, Sideband::open(calls_, sideband, notes_));
  HC_TRY(const std::vector<std::string> argv, source_.command(config_.command));
  HC_TRY(child_, Child::fork_stopped(argv, signals.before(), files_));
  tree_.add_root(child_->pid());
  if (const auto r = sideband_->wake_on_mappings(child_->pid()); !r)
    note("files that are deleted within milliseconds of being mapped may be missed: " + r.error().what);
  if (simulated_) {
    // where a process faults is where its trace leaves the program; without it the trace is right, but tamer
    if (const auto r = sideband_->watch_page_faults(child_->pid()); !r)
      note("page faults do not interrupt the simulated trace: " + r.error().what);
  }
  return {};
}

Result<void> Recording::start() {
  const RecordTime start = sideband_->now().value_or(RecordTime(0));
  store_.emplace(config_.sideband, start);
  HC_TRY_VOID(sideband_->enable());
  ProcSynthOptions synth;
  synth.with_maps = !simulated_;
  HC_TRY_VOID(synthesise_processes(synth, store_->checkpoint(), notes_));
  HC_TRY_VOID(source_.on_started(child_->pid()));
  return child_->release();
}

bool Recording::in_scope(const perf::Record& record) const {
  if (!simulated_) return true;
  ByteReader r(record.body);
  switch (record.type) {
    case perf::kMmap:
    case perf::kMmap2:
    case perf::kExit:
    case perf::kNamespaces:
      return tree_.contains(Pid(r.read<int32_t>()));
    case perf::kFork: {
      const Pid pid(r.read<int32_t>()), parent(r.read<int32_t>());
      return tree_.contains(pid) || tree_.contains(parent);
    }
    case perf::kKsymbol:
    case perf::kBpfEvent:
    case perf::kTextPoke:
      return false;  // the simulated CPU has no kernel
    default:
      return true;
  }
}

void Recording::store(Delivered& d) {
  perf::Record record;
  perf::RecordReader(d.bytes).next(record);
  tree_.see(record);
  if (!in_scope(record)) return;
  if (source_.on_record(d.cpu, record, d.bytes) == RecordFate::drop) return;
  if (d.ring == RingKind::page_faults) {
    if (record.type == perf::kLost) {
      ByteReader r(record.body);
      r.skip(8);
      lost_faults_ += r.u64();
    }
    return;
  }
  if (record.type == perf::kMmap2) {
    const auto map = read_map_record(record, perf::kOurSampleType);
    if (map && tree_.contains(map->pid)) code_.add(*map, RecordTime(d.key.time));
  }
  store_->add(d.cpu, d.key, d.bytes);
}

void Recording::drain() {
  sideband_->drain([this](CpuId, const perf::Record& record) {
    if (record.type == perf::kFork) tree_.expect(record);
    if (record.type != perf::kMmap2) return;
    const auto map = read_map_record(record, perf::kOurSampleType);
    if (map && tree_.contains(map->pid)) code_.prefetch(*map);
  });
}

void Recording::deliver(RecordTime until) {
  sideband_->deliver(until, [this](Delivered& d) { store(d); });
}

void Recording::deliver_settled() {
  // The clock is read before the rings: what is older than that and not yet there is still being written. So each
  // reading rests a moment, the rings are drained again, and then everything up to it has been seen.
  const auto wall = Clock::now();
  const std::optional<RecordTime> now = sideband_->now();
  drain();
  const RecordTime reading = now ? *now : sideband_->newest();
  if (settling_ && wall - settling_since_ >= kRecordsSettle) {
    deliver(*settling_);
    source_.sideband_complete_until(*settling_);
    complete_since_ = settling_since_;
    settling_.reset();
  }
  if (!settling_) {
    settling_ = reading;
    settling_since_ = wall;
  }
}

bool Recording::should_stop(SignalTrap& signals) {
  while (const auto s = signals.take()) {
    const int number = static_cast<int>(s->ssi_signo);
    if (number != SIGUSR1 && number != SIGUSR2 && ++stop_signals_ > 1) {
      note("stopped by a second signal before the command had ended");
      return true;
    }
    // the terminal signals its whole foreground group, the command included
    if (s->ssi_code != SI_KERNEL) child_->send(number);
  }
  if (!child_->poll_end()) return false;
  const auto wall = Clock::now();
  if (!ended_at_) ended_at_ = wall;
  if (complete_since_ < *ended_at_) return false;  // it may have forked in records that we have not read yet
  if (wall >= next_dead_check_) {
    tree_.forget_dead();
    next_dead_check_ = wall + milliseconds(50);
  }
  const std::vector<Pid> alive = tree_.alive();
  if (alive.empty()) return true;
  if (!lingering_until_) lingering_until_ = wall + config_.linger;
  if (wall < *lingering_until_) return false;
  std::string pids;
  for (size_t i = 0; i < alive.size() && i < 8; i++) pids += " " + std::to_string(alive[i].value());
  note("the command ended, but " + std::to_string(alive.size()) + " of its processes still run (" +
       (pids.empty() ? pids : pids.substr(1)) + (alive.size() > 8 ? " ..." : "") +
       "); the recording ends here (see --linger)");
  return true;
}

void Recording::loop(SignalTrap& signals) {
  milliseconds wait{0};
  for (;;) {
    std::vector<pollfd> fds{{signals.fd(), POLLIN, 0}};
    if (!child_->poll_end()) fds.push_back({child_->end_fd(), POLLIN, 0});
    for (const int fd : sideband_->wakeup_fds())
      if (!hung_up_.count(fd)) fds.push_back({fd, POLLIN, 0});
    ::poll(fds.data(), fds.size(), static_cast<int>(wait.count()));
    // an event of a process hangs up with it, and would wake us for ever
    for (const pollfd& p : fds)
      if (p.revents & POLLHUP && p.fd != child_->end_fd()) hung_up_.insert(p.fd);
    deliver_settled();
    const auto before = Clock::now();
    if (const auto r = source_.poll(); !r) {
      note("the recording ends early: " + r.error().text());
      return;
    }
    if (should_stop(signals)) return;
    // a source that had work to do probably has more
    wait = Clock::now() - before > milliseconds(1) ? milliseconds(0) : simulated_ ? kPollSimulated : kPollReal;
  }
}

Result<std::vector<Cut>> Recording::freeze() {
  const auto finish_sideband = [this]() -> Result<void> {
    HC_TRY_VOID(sideband_->disable());
    wait_for_writers();
    drain();
    const RecordTime end = sideband_->now().value_or(sideband_->newest());
    deliver(RecordTime::max());
    source_.sideband_complete_until(end);
    return {};
  };
  // The simulator can only finish its trace when it knows every switch; hardware must stop before its sideband does,
  // so that every traced moment is described.
  if (simulated_) HC_TRY_VOID(finish_sideband());
  HC_TRY(std::vector<Cut> cuts, source_.freeze());
  if (!simulated_) {
    const RecordTime now = sideband_->now().value_or(sideband_->newest());
    for (const Pid pid : tree_.alive()) code_.copy_anonymous(pid, now);
    HC_TRY_VOID(finish_sideband());
  }
  for (PtSource::MemoryCopy& m : source_.take_memory_copies())
    code_.add_memory(m.placement, m.path, std::move(m.bytes));
  return cuts;
}

SnapshotInfo Recording::describe() const {
  SnapshotInfo info;
  char host[256] = {};
  if (::gethostname(host, sizeof host - 1) == 0) info.host = host;
  info.source = source_.name();
  info.command = shell_quoted(config_.command);
  info.created_unix_ns = static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now().time_since_epoch())
          .count());
  info.pt = config_.pt;
  info.record_clock = simulated_ ? "monotonic_raw" : "perf";
  info.root_pids = tree_.members();
  return info;
}

Result<RecordSummary> Recording::run() {
  HC_TRY(BundleOutput output, BundleOutput::create(config_.output));
  HC_TRY(SignalTrap signals, SignalTrap::set());
  HC_TRY_VOID(open(signals));
  HC_TRY_VOID(start());
  loop(signals);
  SnapshotInfo info = describe();
  HC_TRY(std::vector<Cut> cuts, freeze());
  info.root_pids = tree_.members();

  std::vector<Cut> sideband_extra;
  for (auto it = cuts.begin(); it != cuts.end();) {
    if (it->info.kind == StreamKind::sideband) {
      sideband_extra.push_back(std::move(*it));
      it = cuts.erase(it);
    } else {
      ++it;
    }
  }
  for (Cut& c : store_->take_streams(cpus_, std::move(sideband_extra))) cuts.push_back(std::move(c));
  CodeBytes::Collected code = code_.take();

  RecordSummary summary;
  const auto end = child_->poll_end();
  summary.command_ended = end.has_value();
  if (end) summary.command = *end;
  notes_.push_back(end ? "the command " + end->text() : "the command had not ended when the recording did");
  if (sideband_->late_records())
    note(std::to_string(sideband_->late_records()) +
         " sideband records arrived late and may stand out of order: a CPU was stopped for milliseconds");
  if (store_->lost_records())
    note("the kernel dropped " + std::to_string(store_->lost_records()) +
         " sideband records (ring too small or daemon too slow): gaps of cause sideband_lost");
  if (store_->evicted_switches() || store_->folded_records())
    note("the sideband window is full: " + std::to_string(store_->evicted_switches()) +
         " context switches dropped from its beginning, " + std::to_string(store_->folded_records()) +
         " older records folded into its checkpoint");
  if (lost_faults_)
    notes_.push_back(std::to_string(lost_faults_) +
                     " page faults were dropped by the kernel: they do not interrupt "
                     "the simulated trace");
  source_.describe(info);
  info.notes.insert(info.notes.end(), notes_.begin(), notes_.end());
  info.notes.insert(info.notes.end(), code.notes.begin(), code.notes.end());
  HC_TRY_VOID(output.write(info, cuts, code, say_));

  summary.streams = info.streams;
  summary.images = info.images.size();
  for (const ImageInfo& i : info.images) summary.image_bytes += i.bytes;
  summary.lost_records = store_->lost_records();
  summary.notes = info.notes;
  struct stat st {};
  if (::stat(config_.output.c_str(), &st) == 0) summary.file_bytes = static_cast<uint64_t>(st.st_size);
  return summary;
}

}  // namespace

Result<RecordSummary> record_command(PtSource& source, PerfCalls& calls, const RecordConfig& config,
                                     const std::function<void(const std::string&)>& say) {
  Recording recording(source, calls, config, say);
  return recording.run();
}

std::string shell_quoted(const std::vector<std::string>& words) {
  constexpr std::string_view kPlain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./:,@%^";
  std::string out;
  for (const std::string& w : words) {
    if (!out.empty()) out += ' ';
    if (!w.empty() && w.find_first_not_of(kPlain) == std::string::npos) {
      out += w;
      continue;
    }
    out += '\'';
    for (const char c : w) {
      if (c == '\'')
        out += "'\\''";
      else
        out += c;
    }
    out += '\'';
  }
  return out;
}

std::string human_bytes(uint64_t bytes) {
  if (bytes < 1024) return std::to_string(bytes) + " B";
  constexpr const char* kUnits[] = {"KiB", "MiB", "GiB", "TiB"};
  double v = static_cast<double>(bytes) / 1024;
  size_t unit = 0;
  for (; v >= 1024 && unit + 1 < std::size(kUnits); unit++) v /= 1024;
  char text[32];
  std::snprintf(text, sizeof text, "%.1f %s", v, kUnits[unit]);
  return text;
}

std::string RecordSummary::text(const RecordConfig& config, const std::string& source) const {
  std::string out = "recorded " + shell_quoted(config.command).substr(0, 200) + " with " + source + " PT; it " +
                    (command_ended ? command.text() : std::string("still runs"));
  uint64_t pt = 0, sideband = 0, lost_pt = 0;
  size_t cpus = 0;
  std::string window;
  for (const StreamInfo& s : streams) {
    if (s.kind == StreamKind::sideband) sideband += s.bytes;
    if (s.kind != StreamKind::pt) continue;
    pt += s.bytes;
    lost_pt += s.lost_bytes;
    cpus++;
    window += "\n            CPU " + std::to_string(s.cpu.value()) + "  " + human_bytes(s.bytes) +
              (s.wrapped ? ": the newest part, older bytes were overwritten (--ring)" : ": everything since the start");
  }
  out += "\n  trace     " + human_bytes(pt) + " on " + std::to_string(cpus) + " CPUs" + window;
  if (lost_pt) out += "\n            " + human_bytes(lost_pt) + " known to be lost";
  out += "\n  sideband  " + human_bytes(sideband) + ", " + std::to_string(lost_records) + " records lost";
  out += "\n  code      " + std::to_string(images) + " images, " + human_bytes(image_bytes);
  out += "\n  file      " + config.output + ", " + human_bytes(file_bytes);
  return out;
}

}  // namespace hindcast::capture
