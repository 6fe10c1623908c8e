#include "capture/window.h"

#include <algorithm>
#include <chrono>
#include <csignal>
#include <thread>

#include <linux/membarrier.h>
#include <poll.h>
#include <sys/syscall.h>
#include <x86intrin.h>

#include "capture/proc_synth.h"
#include "capture/text_file.h"
#include "capture/words.h"

namespace hindcast::capture {

namespace {

using std::chrono::milliseconds;

constexpr milliseconds kPollSimulated{2};  // the simulated trace is made of what we see: rings fill in tens of ms
constexpr milliseconds kPollReal{10};
constexpr milliseconds kCgroupLook{500};
constexpr milliseconds kCpuLook{500};
constexpr milliseconds kMapLook{1000};
/// A record is visible at most this long after its time stamp: the kernel writes it with preemption off, so only a CPU
/// that its hypervisor stopped takes longer. Records that do are counted and noted.
constexpr milliseconds kRecordsSettle{5};

/// One descriptor per CPU and per mapped file is needed: takes what the hard limit allows. Returns the old limit.
rlimit raise_file_limit() {
  rlimit old{};
  ::getrlimit(RLIMIT_NOFILE, &old);
  rlimit raised = old;
  raised.rlim_cur = old.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &raised);
  return old;
}

}  // namespace

std::optional<Want> parse_want(std::string_view word) {
  if (word == "off") return Want::no;
  if (word == "auto") return Want::if_possible;
  if (word == "on") return Want::yes;
  return std::nullopt;
}

Window::Window(PtSource& source, PerfCalls& calls, const WindowConfig& config, Say say)
    : source_(source),
      calls_(calls),
      config_(config),
      say_(std::move(say)),
      simulated_(source.name() == "simulated"),
      identities_(config.identities, [this] { return now(); }),
      code_(simulated_ ? CodeRule::any_elf : CodeRule::executable) {}

void Window::note(const std::string& text) {
  notes_.push_back(text);
  say_(text);
}

Result<void> Window::open(const sigset_t& mask) {
  files_ = raise_file_limit();
  HC_TRY(cpus_, online_cpus(config_.sys));
  online_cpus_ = cpus_;
  if (config_.command.empty()) {
    HC_TRY(cgroup_, Cgroup::open(config_.cgroup));
  }
  HC_TRY_VOID(source_.prepare({config_.pt, config_.ring_bytes, cpus_, cgroup_ ? cgroup_->fd() : -1,
                               config_.command_only, config_.kernel, config_.ring_budget}));
  SidebandConfig sideband;
  sideband.cpus = cpus_;
  sideband.clock = simulated_ ? RecordClock::monotonic_raw : RecordClock::perf_default;
  sideband.ring_bytes = config_.sideband_ring_bytes;
  HC_TRY(sideband_, Sideband::open(calls_, sideband, notes_));
  if (cgroup_) return open_bpf();
  HC_TRY(const std::vector<std::string> argv, source_.command(config_.command));
  HC_TRY(child_, Child::fork_stopped(argv, mask, files_));
  tree_.add_root(child_->pid());
  if (const auto r = sideband_->wake_on_mappings(child_->pid()); !r)
    note("files that are deleted within milliseconds of being mapped may be missed: " + r.error().what);
  if (simulated_) {
    // where a process faults is where its trace leaves the program; without it the trace is right, but tamer
    if (const auto r = sideband_->watch_page_faults(child_->pid()); !r)
      note("page faults do not interrupt the simulated trace: " + r.error().what);
  }
  return open_bpf();
}

Result<void> Window::open_bpf() {
  clock_.sample();  // before any record
  HC_TRY_VOID(open_waits());
  return open_net();
}

Result<void> Window::open_waits() {
  if (config_.waits == Want::no) return {};
  WaitProbeConfig probe;
  probe.cgroup = cgroup_ ? &*cgroup_ : nullptr;
  probe.ring_bytes = config_.waits_ring_bytes;
  auto waits = Waits::open(probe, config_.waits_bytes);
  // before it runs: all that it starts is followed
  Result<void> r = waits ? Result<void>() : Result<void>(waits.error());
  if (r && child_) r = waits->follow(child_->pidfd());
  if (!r) return without(config_.waits, r.error());
  waits_.emplace(std::move(*waits));
  return {};
}

Result<void> Window::open_net() {
  if (config_.net == Want::no) return {};
  auto net = NetWindow::open(config_.packets, [this](const std::string& text) { note(text); });
  if (!net) return without(config_.net, net.error());
  net_.emplace(std::move(*net));
  return {};
}

Result<void> Window::without(Want want, const Error& error) {
  if (want == Want::yes) return error;
  note(in_one_line(error, "them"));
  return {};
}

Result<void> Window::start() {
  began_ = Tsc(__rdtsc());
  const RecordTime start = sideband_->now().value_or(RecordTime(0));
  store_.emplace(config_.sideband, start);
  HC_TRY_VOID(sideband_->enable());
  if (source_.traces_kernel()) kernel_code_.emplace(config_.kernel_code).begin();
  ProcSynthOptions synth;
  synth.with_maps = !simulated_;
  HC_TRY_VOID(synthesise_processes(synth, store_->checkpoint(), notes_));
  look_at_threads();
  watch_cgroup();
  HC_TRY_VOID(source_.on_started(child_ ? child_->pid() : kNoPid));
  if (!child_) return {};
  return child_->release();
}

/// Who came into the cgroup by no fork that we saw: its mappings are read where the kernel keeps them.
void Window::watch_cgroup() {
  if (!cgroup_) return;
  const auto wall = Clock::now();
  if (wall < next_cgroup_look_) return;
  next_cgroup_look_ = wall + kCgroupLook;
  for (const Pid pid : cgroup_->members()) {
    if (tree_.contains(pid)) continue;
    tree_.add_root(pid);
    const RecordTime at = now();
    if (const auto maps = read_maps("/proc", pid)) {
      for (const MapRecord& map : *maps) code_.add(map, at);
      if (std::any_of(maps->begin(), maps->end(),
                      [](const MapRecord& m) { return is_memory_code(m) && m.path != "[vdso]"; }))
        code_watch_.add_running(pid, at);
    } else {
      note("the code of process " + std::to_string(pid.value()) +
           " is not known before it maps more: " + maps.error().text());
    }
  }
}

/// Many threads take a while, and the rings fill meanwhile.
void Window::look_at_threads() {
  identities_.look_at_all([this](Pid pid) { return tree_.contains(pid); }, [this] { drain(); });
}

/// CPUs that go and come, as the kernel lists them: its events do not say. One that was away for less than the time between two
/// looks is not noticed.
void Window::watch_cpus() {
  const auto wall = Clock::now();
  if (wall < next_cpu_look_) return;
  next_cpu_look_ = wall + kCpuLook;
  const auto online = online_cpus(config_.sys);
  if (!online || *online == online_cpus_) return;
  const auto lists = [](const std::vector<CpuId>& cpus, CpuId cpu) {
    return std::find(cpus.begin(), cpus.end(), cpu) != cpus.end();
  };
  for (const CpuId cpu : online_cpus_) {
    if (lists(*online, cpu)) continue;
    source_.cpu_went(cpu);
    say_("CPU " + std::to_string(cpu.value()) + " went offline");
  }
  for (const CpuId cpu : *online) {
    if (lists(online_cpus_, cpu)) continue;
    if (!lists(cpus_, cpu)) cpus_.push_back(cpu);
    // Its trace first: what ran before its sideband began is then there, if nobody's, and not missing without a word.
    if (const auto r = source_.cpu_came(cpu); !r)
      note("CPU " + std::to_string(cpu.value()) + " came online and is not traced: " + r.error().text());
    else
      say_("CPU " + std::to_string(cpu.value()) + " came online");
    if (const auto r = sideband_->add_cpu(cpu); !r)
      note("CPU " + std::to_string(cpu.value()) + " came online, and who runs on it is not known: " + r.error().text());
  }
  online_cpus_ = *online;
}

bool Window::in_scope(const perf::Record& record) const {
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
    case perf::kTextPoke:  // of no interest to a CPU without a kernel
      return source_.traces_kernel();
    default:
      return true;
  }
}

void Window::store(Delivered& d) {
  perf::Record record;
  perf::RecordReader(d.bytes).next(record);
  tree_.see(record);
  identities_.see(record, RecordTime(d.key.time));
  if (kernel_code_) kernel_code_->on_record(record, RecordTime(d.key.time));
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
  const RecordTime time(d.key.time);
  if (record.type == perf::kMmap2) {
    const auto map = read_map_record(record, perf::kOurSampleType);
    if (map && tree_.contains(map->pid)) {
      code_.add(*map, time);
      if (!simulated_) code_watch_.on_map(*map, time, map->tid);
    }
  } else if (!simulated_) {
    tell_code_watch(record, time);
  }
  store_->add(d.cpu, d.key, d.bytes);
}

void Window::tell_code_watch(const perf::Record& record, RecordTime time) {
  if (record.type == perf::kComm) {
    const auto comm = read_comm_record(record);
    if (comm && comm->exec && tree_.contains(comm->pid)) code_watch_.on_exec(comm->pid, time);
  } else if (record.type == perf::kFork) {
    const auto task = read_task_record(record);
    if (task && tree_.contains(task->pid)) code_watch_.on_fork(task->parent_pid, task->pid, time);
  } else if (record.type == perf::kExit) {
    const auto task = read_task_record(record);
    const auto alive = tree_.alive();
    if (task && std::find(alive.begin(), alive.end(), task->pid) == alive.end()) code_watch_.on_exit(task->pid, time);
  } else if (record.type == perf::kLost) {
    code_watch_.on_lost();
  }
}

void Window::drain() {
  std::vector<MapRecord> strangers;  // unless the fork that makes them ours is in a ring that is read later
  sideband_->drain([&](CpuId, const perf::Record& record) {
    if (kernel_code_) kernel_code_->on_fresh_record(record);
    if (record.type == perf::kFork) tree_.expect(record);
    if (record.type == perf::kFork || record.type == perf::kComm)
      identities_.expect(record, tree_.contains(Pid(ByteReader(record.body).read<int32_t>())));
    if (record.type != perf::kMmap2) return;
    const auto map = read_map_record(record, perf::kOurSampleType);
    if (!map) return;
    if (tree_.contains(map->pid))
      code_.prefetch(*map);
    else
      strangers.push_back(*map);
  });
  for (const MapRecord& map : strangers)
    if (tree_.contains(map.pid)) code_.prefetch(map);
}

void Window::deliver(RecordTime until) {
  sideband_->deliver(until, [this](Delivered& d) { store(d); });
}

void Window::deliver_settled() {
  // The clock is read before the rings: what is older than that and not yet there is still being written. So each
  // reading rests a moment, the rings are drained again, and then everything up to it has been seen.
  const auto wall = Clock::now();
  const std::optional<RecordTime> now = sideband_->now();
  drain();
  if (waits_) waits_->poll();
  if (net_) net_->poll();
  clock_.poll(wall);
  const RecordTime reading = now ? *now : sideband_->newest();
  if (settling_ && wall - settling_since_ >= kRecordsSettle) {
    deliver(*settling_);
    keep_waits(settling_since_);
    forget_clock();
    code_watch_.settle(*settling_);
    source_.sideband_complete_until(*settling_);
    complete_until_ = *settling_;
    complete_since_ = settling_since_;
    settling_.reset();
  }
  if (!settling_) {
    settling_ = reading;
    settling_since_ = wall;
  }
}

void Window::keep_waits(Clock::time_point until) {
  if (!waits_) return;
  waits_->keep(until,
               [this](const wait::Record& record, std::span<uint8_t> whole) { return source_.on_wait(record, whole); });
}

/// Samples that no record of the window needs any more. A jitdump has all its records from its begin on.
void Window::forget_clock() {
  if (code_.has_jitdump()) return;
  const uint64_t waits = waits_ ? waits_->oldest() : UINT64_MAX, net = net_ ? net_->oldest() : UINT64_MAX;
  clock_.forget_before(std::min(waits, net));
}

Result<void> Window::step(std::span<const int> also) {
  std::vector<pollfd> fds;
  for (const int fd : also) fds.push_back({fd, POLLIN, 0});
  const int end_fd = child_ && !child_->poll_end() ? child_->end_fd() : -1;
  if (end_fd >= 0) fds.push_back({end_fd, POLLIN, 0});
  for (const int fd : sideband_->wakeup_fds())
    if (!hung_up_.count(fd)) fds.push_back({fd, POLLIN, 0});
  const milliseconds wait = busy_ ? milliseconds(0) : simulated_ ? kPollSimulated : kPollReal;
  ::poll(fds.data(), fds.size(), static_cast<int>(wait.count()));
  // an event of a process hangs up with it, and would wake us for ever
  for (size_t i = also.size(); i < fds.size(); ++i)
    if (fds[i].revents & POLLHUP && fds[i].fd != end_fd) hung_up_.insert(fds[i].fd);
  watch_cgroup();
  watch_cpus();
  if (kernel_code_) kernel_code_->look(now());
  watch_code();
  deliver_settled();
  identities_.poll(Clock::now(), [this](Pid pid) { return tree_.contains(pid); });
  const auto before = Clock::now();
  HC_TRY_VOID(source_.poll());
  busy_ = Clock::now() - before > milliseconds(1);
  return {};
}

std::vector<Pid> Window::alive() {
  const auto wall = Clock::now();
  if (wall >= next_dead_check_) {
    tree_.forget_dead();
    next_dead_check_ = wall + milliseconds(50);
  }
  return tree_.alive();
}

Result<void> Window::start_snapshot() {
  pending_.reset();
  HC_TRY_VOID(source_.start_snapshot());
  // Read after the source has stopped, or knows when to: all that was traced until then will be described.
  pending_ = Pending{now(), Tsc(__rdtsc()), {}, {}, {}};
  return {};
}

Result<std::optional<Frozen>> Window::take_snapshot() {
  if (!pending_) return Error{Errc::usage, "nobody asked for a snapshot", {}, {}};
  if (!pending_->cuts) {
    HC_TRY(pending_->cuts, source_.take_snapshot());
  }
  if (pending_->cuts && kernel_code_ && !pending_->copied) {
    kernel_code_->copy(now());
    pending_->copied = Clock::now();
  }
  if (!pending_->cuts || complete_until_ < pending_->at) return std::optional<Frozen>();
  if (pending_->copied && complete_since_ <= *pending_->copied) return std::optional<Frozen>();
  if (!pending_->looked) {
    look_at_code();
    pending_->looked = simulated_ ? pending_->at : now();
  }
  if (complete_until_ < *pending_->looked) return std::optional<Frozen>();
  look_at_threads();
  Frozen frozen = collect(std::move(*pending_->cuts), pending_->tsc);
  pending_.reset();
  return std::optional(std::move(frozen));
}

Result<void> Window::finish_sideband() {
  HC_TRY_VOID(sideband_->disable());
  if (waits_) waits_->detach();
  // Until every CPU has left the code that might have been writing a record.
  if (::syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) != 0) std::this_thread::sleep_for(milliseconds(20));
  drain();
  const RecordTime end = now();
  if (waits_) waits_->finish();
  if (net_) net_->finish();
  deliver(RecordTime::max());
  code_watch_.settle(RecordTime::max());
  keep_waits(Clock::time_point::max());
  source_.sideband_complete_until(end);
  return {};
}

Result<Frozen> Window::finish() {
  // The simulator can only finish its trace when it knows every switch; hardware must stop before its sideband does,
  // so that every traced moment is described.
  if (simulated_) HC_TRY_VOID(finish_sideband());
  HC_TRY(std::vector<Cut> cuts, source_.freeze());
  const Tsc end(__rdtsc());
  look_at_code();
  look_at_threads();
  if (kernel_code_) kernel_code_->copy(now());
  if (!simulated_) HC_TRY_VOID(finish_sideband());
  return collect(std::move(cuts), end);
}

void Window::watch_code() {
  const auto wall = Clock::now();
  if (!simulated_) code_watch_.look(wall, [this] { return now(); });
  if (wall < next_map_look_) return;
  next_map_look_ = wall + kMapLook;
  for (const Pid pid : tree_.alive()) perf_maps_.look(pid);
}

/// As it is now, whatever it costs.
void Window::look_at_code() {
  for (const Pid pid : tree_.alive()) {
    perf_maps_.look(pid);
    if (!simulated_) code_watch_.look_at(pid, [this] { return now(); });
  }
}

Frozen Window::collect(std::vector<Cut> cuts, Tsc end) {
  Frozen frozen;
  frozen.info = describe();
  frozen.info.traced = {began_, end};
  frozen.warnings = warnings();
  frozen.info.notes.insert(frozen.info.notes.end(), frozen.warnings.begin(), frozen.warnings.end());
  const auto sideband =
      std::stable_partition(cuts.begin(), cuts.end(), [](const Cut& c) { return c.info.kind != StreamKind::sideband; });
  const std::vector<Cut> extra(std::make_move_iterator(sideband), std::make_move_iterator(cuts.end()));
  cuts.erase(sideband, cuts.end());
  for (Cut& c : store_->streams(cpus_, extra, identities_.records(store_->checkpoint_time())))
    cuts.push_back(std::move(c));
  if (waits_ || net_ || code_.has_jitdump()) {
    clock_.sample();
    cuts.push_back(clock_.stream());
  }
  if (waits_) cuts.push_back(waits_->stream());
  if (net_) cuts.push_back(net_->stream());
  frozen.cuts = std::move(cuts);
  frozen.code = code_.collect(code_watch_, perf_maps_, source_.memory_copies());
  if (kernel_code_) frozen.code.append(kernel_code_->collect(store_->lost_records() != 0));
  frozen.info.notes.insert(frozen.info.notes.end(), frozen.code.notes.begin(), frozen.code.notes.end());
  return frozen;
}

SnapshotInfo Window::describe() const {
  SnapshotInfo info;
  char host[256] = {};
  if (::gethostname(host, sizeof host - 1) == 0) info.host = host;
  info.source = source_.name();
  info.command = cgroup_ ? "cgroup " + cgroup_->path() : shell_quoted(config_.command);
  info.created_unix_ns = static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now().time_since_epoch())
          .count());
  info.pt = config_.pt;
  info.record_clock = simulated_ ? "monotonic_raw" : "perf";
  info.root_pids = tree_.members();
  source_.describe(info);
  info.notes.insert(info.notes.end(), notes_.begin(), notes_.end());
  return info;
}

std::vector<std::string> Window::warnings() const {
  std::vector<std::string> all;
  const auto note = [&all](const std::string& text) { all.push_back(text); };
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
  if (identities_.passed_over())
    note(std::to_string(identities_.passed_over()) +
         " threads were not looked at, too many at once: what is said of their cgroup is their parent's");
  if (identities_.forgotten())
    note("cgroups and namespaces of " + std::to_string(identities_.forgotten()) +
         " threads that ended long ago are no longer known");
  if (identities_.refused())
    note("namespaces of " + std::to_string(identities_.refused()) +
         " threads may not be read (CAP_SYS_PTRACE): known only where they change");
  if (waits_ && waits_->lost())
    note(std::to_string(waits_->lost()) +
         " records of waits and messages were lost (ring too small or daemon too slow); where, the stream says");
  if (waits_ && waits_->evicted())
    note("the window of waits is full: " + std::to_string(waits_->evicted()) + " records dropped from its beginning");
  if (net_ && net_->lost())
    note(std::to_string(net_->lost()) +
         " packets were not recorded (more than the limit, ring too small or daemon too slow); when, the stream says");
  if (net_ && net_->evicted())
    note("the window of packets is full: " + std::to_string(net_->evicted()) + " dropped from its beginning");
  if (lost_faults_)
    note(std::to_string(lost_faults_) +
         " page faults were dropped by the kernel: they do not interrupt the simulated trace");
  return all;
}

}  // namespace hindcast::capture
