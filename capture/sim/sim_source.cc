#include "capture/sim/sim_source.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#include <elf.h>
#include <sys/mman.h>
#include <x86intrin.h>

#include "capture/record_builder.h"
#include "capture/sim/channel_server.h"
#include "capture/sim/code_versions.h"
#include "capture/sim/record_filter.h"
#include "capture/sim/thread_merge.h"
#include "capture/sim/tsc_fit.h"
#include "capture/sim_files.h"

namespace hindcast::sim {
namespace {

using capture::PtSource;
using capture::PtSourceConfig;
using capture::RecordFate;
using std::chrono::milliseconds;

constexpr uint64_t kMaxRingWords = uint64_t{1} << 26;
constexpr char kTooMuchCode[] = "the program runs more than 256 MiB of code in memory; what it made last is not kept";
constexpr size_t kMaxThreads = 65536;
constexpr double kLongestSnapshotWait = 3;  // seconds
constexpr size_t kKeptProcesses = 512;      // whose connection has ended, for children that still refer to their blocks

/// What the caller's thread tells the worker.
struct Told {
  enum class Kind : uint8_t { in, out, lost, fault } kind;
  CpuId cpu;
  Tid tid;
  RecordTime time;
};

/// A ring mapped twice in a row, so that its words can be read across the end.
Result<WordRing> map_ring(const Fd& fd) {
  struct stat st {};
  if (::fstat(fd.get(), &st) != 0) return errno_error("cannot stat", "a ring of the simulator");
  const Error bad{Errc::bad_input, "the simulator's plugin sent a ring that is none", {}, {}};
  if (st.st_size <= kPageBytes) return bad;
  HC_TRY(Mapping header, Mapping::map(fd, kPageBytes, PROT_READ | PROT_WRITE, MAP_SHARED));
  auto* h = static_cast<RingHeader*>(header.data());
  const uint64_t capacity = h->capacity;
  if (h->magic != kChannelMagic || h->version != kChannelVersion || capacity < kPageBytes / 4 ||
      capacity > kMaxRingWords || (capacity & (capacity - 1)) ||
      static_cast<uint64_t>(st.st_size) < kPageBytes + capacity * 4)
    return bad;
  const size_t bytes = capacity * 4;
  void* base = ::mmap(nullptr, 2 * bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) return errno_error("cannot reserve memory for", "a ring of the simulator");
  struct Memory {
    Mapping header;
    void* base;
    size_t bytes;
    Memory(Mapping m, void* b, size_t n) : header(std::move(m)), base(b), bytes(n) {}
    ~Memory() { ::munmap(base, bytes); }
  };
  auto memory = std::make_shared<Memory>(std::move(header), base, 2 * bytes);
  for (int i = 0; i < 2; ++i)
    if (::mmap(static_cast<uint8_t*>(base) + static_cast<size_t>(i) * bytes, bytes, PROT_READ, MAP_SHARED | MAP_FIXED,
               fd.get(), kPageBytes) == MAP_FAILED)
      return errno_error("cannot map", "a ring of the simulator");
  WordRing r;
  r.words = static_cast<const uint32_t*>(base);
  r.capacity = capacity;
  r.written = &h->written;
  r.position = &h->position;
  r.closed = &h->closed;
  r.taken = &h->taken;
  r.memory = std::move(memory);
  return r;
}

/// What execve would run: scripts are followed to their interpreter, as the kernel does and QEMU does not.
///   program  the file to run; arguments: its argv, the first one included. Both are changed.
Result<void> follow_scripts(std::string& program, std::vector<std::string>& arguments) {
  for (int depth = 0; depth < 5; ++depth) {  // the kernel's limit
    HC_TRY(Fd fd, open_read_only(program));
    char head[256] = {};
    const ssize_t n = ::pread(fd.get(), head, sizeof head - 1, 0);
    if (n < 0) return errno_error("cannot read", program);
    if (n >= static_cast<ssize_t>(sizeof(Elf64_Ehdr)) && std::memcmp(head, ELFMAG, SELFMAG) == 0) {
      Elf64_Ehdr header;
      std::memcpy(&header, head, sizeof header);
      if (header.e_ident[EI_CLASS] == ELFCLASS64 && header.e_machine == EM_X86_64) return {};
      return Error{Errc::unsupported,
                   "cannot simulate PT for " + program + ": it is no 64-bit x86 program",
                   "ELF machine " + std::to_string(header.e_machine),
                   {}};
    }
    if (head[0] != '#' || head[1] != '!') break;
    std::string line(head + 2, std::min<size_t>(std::strcspn(head + 2, "\n"), sizeof head - 3));
    const auto trimmed = [](const std::string& t) {
      const size_t a = t.find_first_not_of(" \t\r"), b = t.find_last_not_of(" \t\r");
      return a == std::string::npos ? std::string{} : t.substr(a, b - a + 1);
    };
    line = trimmed(line);
    const size_t space = line.find_first_of(" \t");
    const std::string interpreter = line.substr(0, space);
    const std::string argument = space == std::string::npos ? std::string{} : trimmed(line.substr(space));
    if (interpreter.empty()) break;
    arguments[0] = program;
    if (!argument.empty()) arguments.insert(arguments.begin(), argument);
    arguments.insert(arguments.begin(), interpreter);
    program = interpreter;
  }
  return Error{Errc::unsupported,
               "cannot run " + program + ": it is neither an ELF program nor a script",
               {},
               "if it is a shell script without a first line like #!/bin/sh, run it with sh"};
}

class SimSource final : public PtSource {
 public:
  explicit SimSource(const SimConfig& config)
      : config_(config), filter_([this](uint64_t tsc) { return conversion().to_record_time(Tsc(tsc)); }) {}
  ~SimSource() override { stop(); }

  std::string name() const override { return "simulated"; }
  Result<void> prepare(const PtSourceConfig& config) override;
  Result<std::vector<std::string>> command(const std::vector<std::string>& argv) override;
  Result<void> on_started(Pid pid) override;
  RecordFate on_record(CpuId ring, perf::Record& record, std::span<uint8_t> whole) override;
  RecordFate on_wait(const wait::Record& record, std::span<uint8_t> whole) override {
    return filter_.filter(record, whole);
  }
  void sideband_complete_until(RecordTime t) override;
  Result<void> poll() override;
  Result<void> start_snapshot() override;
  Result<std::optional<std::vector<Cut>>> take_snapshot() override;
  Result<std::vector<Cut>> freeze() override;
  void describe(SnapshotInfo& info) const override;
  std::vector<capture::MemoryCopy> memory_copies() override;

 private:
  struct Process {
    uint64_t connection = 0;  // 0: ended
    Pid pid;
    std::shared_ptr<BlockTable> table;
    std::vector<ThreadMerge::Thread*> threads;
  };

  TscConversion conversion() const {
    std::lock_guard lock(mutex_);
    return fit_.conversion();
  }
  void work_loop();
  bool work_once(int timeout_ms);
  void hear(Incoming& in);
  void hear_code(Process& process, const Message& m);
  void note(const std::string& text);
  void note_error(const Error& error) { note("simulator: " + error.text()); }
  void stop();
  void snapshot_when_due(uint64_t now);
  std::vector<Cut> cuts_of_rings();

  SimConfig config_;
  PtSourceConfig source_config_;
  PtCpu cpu_;
  uint64_t tsc_hz_ = 0;  // as it was when the simulation began
  std::string qemu_, plugin_, program_;
  RecordFilter filter_;

  mutable std::mutex mutex_;  // guards what follows, to fit_
  std::vector<Told> told_;
  RecordTime complete_until_{0};
  CodeVersions code_;
  std::vector<std::string> notes_;
  std::vector<std::string> counts_;  // notes as of the last cut
  uint64_t snapshot_at_ = 0;         // TSC; 0: nobody waits for one
  std::optional<std::vector<Cut>> snapshot_;
  TscFit fit_;

  // the worker's, and after stop() the caller's
  std::unique_ptr<ChannelServer> server_;
  std::unique_ptr<ThreadMerge> merge_;
  std::vector<Process> processes_;
  size_t thread_count_ = 0;
  uint64_t processes_seen_ = 0;
  uint64_t horizon_ = 0;

  std::thread worker_;
  std::atomic<bool> stopping_{false};
};

Result<void> SimSource::prepare(const PtSourceConfig& config) {
  source_config_ = config;
  if (config.cgroup >= 0)
    return Error{Errc::usage, "the simulated source cannot watch a cgroup", "it traces what it starts itself",
                 "a command instead of the cgroup, or a machine with Intel PT"};
  if (source_config_.kernel)
    return Error{Errc::usage, "the simulated source cannot trace the kernel", "it runs user code only",
                 "leave out --kernel (trace.kernel), or use a machine with Intel PT"};
  if (source_config_.cpus.empty()) return Error{Errc::usage, "cannot simulate PT without a CPU", {}, {}};
  qemu_ = config_.qemu.empty() ? capture::find_qemu() : config_.qemu;
  if (qemu_.empty())
    return Error{Errc::unavailable, "cannot simulate PT: qemu-x86_64 is not installed", "nowhere in PATH",
                 "apt-get install qemu-user (or set HINDCAST_QEMU)"};
  plugin_ = config_.plugin.empty() ? capture::find_sim_plugin() : config_.plugin;
  if (plugin_.empty())
    return Error{Errc::unavailable, "cannot simulate PT: the QEMU plugin hindcast-sim.so is missing",
                 "neither beside this program nor in ../lib nor in ../lib/hindcast",
                 "build it (target hindcast_sim_plugin) or set HINDCAST_SIM_PLUGIN"};
  for (const std::string& s : {plugin_, config_.truth})
    if (s.find(',') != std::string::npos)
      return Error{Errc::usage, "cannot hand \"" + s + "\" to QEMU: it contains a comma", {}, "use another path"};
  HC_TRY(ChannelServer server, ChannelServer::listen());
  server_ = std::make_unique<ChannelServer>(std::move(server));

  // A rate that is good enough for the CPU's description and the clock model; samples go on while recording.
  const ClockSample first = sample_raw_clock();
  fit_.add(first);
  for (int i = 0; i < 10; ++i) {
    std::this_thread::sleep_for(milliseconds(2));
    fit_.add(sample_raw_clock());
  }
  if (!fit_.conversion().known)
    return Error{
        Errc::unavailable, "cannot relate the TSC to CLOCK_MONOTONIC_RAW", "the clock does not advance",
        "check that the clock source is tsc: /sys/devices/system/clocksource/clocksource0/current_clocksource"};
  tsc_hz_ = fit_.tsc_hz();
  cpu_ = simulated_cpu(tsc_hz_);

  MergeConfig m;
  m.encoder.pt = config.pt;
  m.encoder.cpu = cpu_;
  m.encoder.tsc_hz = tsc_hz_;
  m.encoder.ring_bytes = std::max<uint64_t>(capture::wanted_ring_bytes(config), 4096);
  m.encoder.start_tsc = __rdtsc();
  m.encoder.seed = config_.seed;
  m.encoder.changing_clock = config_.drift;
  m.encoder.deferred_tips = config_.deferred_tips;
  m.encoder.long_tnt = config_.long_tnt;
  m.encoder.mtc_drop_rate = config_.mtc_drop;
  m.encoder.ovf_per_kib = config_.ovf;
  m.cpus = config.cpus;
  m.tick_hz = config_.tick;
  merge_ = std::make_unique<ThreadMerge>(m);
  worker_ = std::thread([this] { work_loop(); });
  return {};
}

Result<std::vector<std::string>> SimSource::command(const std::vector<std::string>& argv) {
  if (argv.empty()) return Error{Errc::usage, "there is no command to run", {}, {}};
  // QEMU takes the program as a path: it does not look along PATH.
  std::string program = argv[0];
  if (program.find('/') == std::string::npos) {
    const char* path = std::getenv("PATH");
    std::string rest = path ? path : "/usr/local/bin:/usr/bin:/bin";
    program.clear();
    while (!rest.empty() && program.empty()) {
      const size_t colon = rest.find(':');
      const std::string directory = rest.substr(0, colon);
      const std::string candidate = (directory.empty() ? "." : directory) + "/" + argv[0];
      struct stat st {};
      if (::access(candidate.c_str(), X_OK) == 0 && ::stat(candidate.c_str(), &st) == 0 && S_ISREG(st.st_mode))
        program = candidate;
      rest = colon == std::string::npos ? "" : rest.substr(colon + 1);
    }
    if (program.empty())
      return Error{Errc::not_found, "cannot run \"" + argv[0] + "\": not found", "nowhere in PATH", {}};
  }
  program_ = program;
  std::vector<std::string> arguments = argv;
  HC_TRY_VOID(follow_scripts(program, arguments));
  std::string plugin = plugin_ + ",channel=" + server_->path();
  if (!config_.truth.empty()) plugin += ",truth=" + config_.truth;
  std::vector<std::string> words{qemu_, "-plugin", plugin};
  if (program != arguments[0]) {  // the program still sees the name that it was called by
    words.push_back("-0");
    words.push_back(arguments[0]);
  }
  words.push_back(program);  // it has a slash, so QEMU cannot take it for an option
  words.insert(words.end(), arguments.begin() + 1, arguments.end());
  return words;
}

Result<void> SimSource::on_started(Pid pid) {
  filter_.add_root(pid, program_);
  return {};
}

RecordFate SimSource::on_record(CpuId ring, perf::Record& record, std::span<uint8_t> whole) {
  Told told{Told::Kind::in, ring, kNoTid, RecordTime(0)};
  bool tell = false;
  if (record.type == perf::kSwitch || record.type == perf::kSwitchCpuWide) {
    if (const auto id = perf::read_sample_id(record, perf::kOurSampleType); id && id->time) {
      told.kind = record.misc & perf::kMiscSwitchOut ? Told::Kind::out : Told::Kind::in;
      told.tid = id->tid;
      told.time = *id->time;
      tell = true;
    }
  } else if (record.type == perf::kLost) {
    if (const auto id = perf::read_sample_id(record, perf::kOurSampleType); id && id->time) {
      told.kind = Told::Kind::lost;
      told.time = *id->time;
      tell = true;
    }
  } else if (record.type == perf::kSample) {
    if (const auto id = capture::read_sample(record); id && id->time) {
      told.kind = Told::Kind::fault;
      told.tid = id->tid;
      told.time = *id->time;
      tell = true;
    }
  }
  if (tell) {
    std::lock_guard lock(mutex_);
    told_.push_back(told);
  }
  return filter_.filter(record, whole);
}

void SimSource::sideband_complete_until(RecordTime t) {
  filter_.forget_ended();  // the caller showed the waits of that time before
  std::lock_guard lock(mutex_);
  complete_until_ = std::max(complete_until_, t);
}

Result<void> SimSource::poll() {
  const ClockSample sample = sample_raw_clock();
  std::lock_guard lock(mutex_);
  fit_.add(sample);
  return {};
}

void SimSource::note(const std::string& text) {
  std::lock_guard lock(mutex_);
  if (notes_.size() < 100 && std::find(notes_.begin(), notes_.end(), text) == notes_.end()) notes_.push_back(text);
}

void SimSource::hear(Incoming& in) {
  const auto process = std::find_if(processes_.begin(), processes_.end(),
                                    [&](const Process& p) { return p.connection == in.connection; });
  if (in.ended) {
    if (process == processes_.end()) return;
    for (ThreadMerge::Thread* t : process->threads) merge_->end_thread(t);
    process->threads.clear();
    process->connection = 0;
    const auto ended = std::count_if(processes_.begin(), processes_.end(), [](auto& p) { return p.connection == 0; });
    if (static_cast<size_t>(ended) > kKeptProcesses)
      processes_.erase(std::find_if(processes_.begin(), processes_.end(), [](auto& p) { return p.connection == 0; }));
    return;
  }
  const Message& m = in.message;
  switch (m.kind) {
    case MessageKind::process: {
      if (process != processes_.end()) return note("a simulated process introduced itself twice");
      const BlockTable* parent = nullptr;
      for (Process& p : processes_)
        if (m.value != 0 && p.pid == Pid(static_cast<int32_t>(m.value))) {
          if (auto r = p.table->refresh(); !r) note_error(r.error());
          parent = p.table.get();  // the latest of that pid
        }
      auto table = BlockTable::open(in.fd, parent);
      if (!table) return note_error(table.error());
      if (m.value == 0) {  // no fork: a new program
        std::lock_guard lock(mutex_);
        code_.exec(Pid(m.pid), m.tsc);
      }
      Process p;
      p.connection = in.connection;
      p.pid = Pid(m.pid);
      p.table = std::make_shared<BlockTable>(std::move(*table));
      processes_.push_back(std::move(p));
      ++processes_seen_;
      break;
    }
    case MessageKind::thread: {
      if (process == processes_.end()) return note("a simulated thread came before its process");
      if (thread_count_ >= kMaxThreads)
        return note("more than " + std::to_string(kMaxThreads) + " threads ran; later ones are not traced");
      auto ring = map_ring(in.fd);
      if (!ring) return note_error(ring.error());
      ++thread_count_;
      process->threads.push_back(merge_->add_thread(process->pid, Tid(m.tid), std::move(*ring), process->table, m.tsc));
      break;
    }
    case MessageKind::code:
      if (process != processes_.end()) hear_code(*process, m);
      break;
    case MessageKind::mapping: {
      std::lock_guard lock(mutex_);
      if (m.value == 0)
        code_.gone(Pid(m.pid), m.address, m.length, m.tsc);
      else
        code_.protect(Pid(m.pid), Tid(m.tid), m.address, m.length, m.prot & PROT_EXEC, m.prot & PROT_WRITE, m.tsc);
      break;
    }
    case MessageKind::exec:
      break;
  }
  filter_.heard(m);
}

void SimSource::hear_code(Process& process, const Message& m) {
  if (auto r = process.table->refresh(); !r) return note_error(r.error());
  if (m.value >= process.table->size()) return note("the simulator told of a block of code that it had not defined");
  const BlockInfo& block = process.table->data()[m.value];
  if (block.instructions == 0) return note("the simulator told of a block of code that it had not defined");
  std::lock_guard lock(mutex_);
  code_.translated(process.pid, block.ip, block.code(), m.tsc);
  if (code_.full() && std::find(notes_.begin(), notes_.end(), kTooMuchCode) == notes_.end())
    notes_.push_back(kTooMuchCode);
}

bool SimSource::work_once(int timeout_ms) {
  const uint64_t now = __rdtsc();
  server_->poll(timeout_ms, [this](Incoming& in) { hear(in); });
  for (Process& p : processes_)
    if (p.connection != 0)
      if (auto r = p.table->refresh(); !r) note_error(r.error());
  std::vector<Told> told;
  uint64_t horizon;
  {
    std::lock_guard lock(mutex_);
    told.swap(told_);
    horizon = complete_until_ == RecordTime(0) ? 0 : fit_.to_tsc(complete_until_);
    for (const Told& t : told) {
      const uint64_t tsc = fit_.to_tsc(t.time);
      switch (t.kind) {
        case Told::Kind::in:
          merge_->on_switch(t.cpu, t.tid, tsc, true);
          break;
        case Told::Kind::out:
          merge_->on_switch(t.cpu, t.tid, tsc, false);
          break;
        case Told::Kind::lost:
          merge_->on_lost(t.cpu, tsc);
          break;
        case Told::Kind::fault:
          merge_->on_fault(t.tid, tsc);
          break;
      }
    }
  }
  horizon_ = std::max(horizon_, horizon);
  const bool any = merge_->work(horizon_, now);
  snapshot_when_due(now);
  return any;
}

void SimSource::snapshot_when_due(uint64_t now) {
  uint64_t at = 0;
  {
    std::lock_guard lock(mutex_);
    at = snapshot_at_;
  }
  if (at == 0) return;
  if (merge_->encoded_until() < at) {
    if (now < at + static_cast<uint64_t>(kLongestSnapshotWait * static_cast<double>(tsc_hz_))) return;
    note("a thread had not said in time what it ran until the freeze: that is missing from the end of the trace");
  }
  merge_->cut(at);
  std::vector<Cut> cuts = cuts_of_rings();
  std::lock_guard lock(mutex_);
  snapshot_ = std::move(cuts);
  snapshot_at_ = 0;
}

Result<void> SimSource::start_snapshot() {
  if (!merge_) return Error{Errc::usage, "the simulator was not prepared", {}, {}};
  std::lock_guard lock(mutex_);
  snapshot_.reset();
  snapshot_at_ = __rdtsc();
  return {};
}

Result<std::optional<std::vector<Cut>>> SimSource::take_snapshot() {
  std::lock_guard lock(mutex_);
  return std::exchange(snapshot_, std::nullopt);
}

void SimSource::work_loop() {
  bool busy = false;
  while (!stopping_.load(std::memory_order_acquire)) busy = work_once(busy ? 0 : 1);
}

void SimSource::stop() {
  stopping_.store(true, std::memory_order_release);
  if (worker_.joinable()) worker_.join();
}

Result<std::vector<Cut>> SimSource::freeze() {
  if (!merge_) return Error{Errc::usage, "the simulator was not prepared", {}, {}};
  stop();
  fit_.add(sample_raw_clock());
  while (work_once(0)) {
  }
  uint64_t end = 0;
  {
    std::lock_guard lock(mutex_);
    end = fit_.to_tsc(complete_until_);
  }
  merge_->finish(end ? end : __rdtsc());
  return cuts_of_rings();
}

/// The rings as they are, and what is to be said of how they came about.
std::vector<Cut> SimSource::cuts_of_rings() {
  std::vector<Cut> cuts;
  std::vector<std::string> counts;
  EncoderStats total;
  for (const CpuId cpu : source_config_.cpus) {
    const PtEncoder& e = merge_->encoder(cpu);
    Cut cut;
    cut.info.kind = StreamKind::pt;
    cut.info.cpu = cpu;
    cut.bytes = e.ring().contents();
    cut.info.bytes = cut.bytes.size();
    cut.info.ring_bytes = e.ring().capacity();
    cut.info.wrapped = e.ring().wrapped();
    cuts.push_back(std::move(cut));
    total.mismatches += e.stats().mismatches;
    total.overflows += e.stats().overflows;
  }
  const MergeStats& s = merge_->stats();
  const auto count = [&](uint64_t n, const std::string& what) {
    if (n) counts.push_back("simulator: " + std::to_string(n) + " " + what);
  };
  count(total.overflows, "internal buffer overflows were injected");
  count(total.mismatches, "times the flow of a thread was not known; each is an overflow in the trace");
  count(s.unplaced_spans, "spans of words had no switch record and were placed by the plugin's own word");
  count(s.late_spans, "stretches of a thread became known too late to be placed; each is an overflow in the trace");
  count(s.takeovers, "times a thread began while another seemed to run: switch records are missing");
  count(s.bad_words, "threads sent words that break the channel's rules; they are not traced from there on");
  count(s.lost_words, "words were lost in the plugin");
  count(server_->refused(), "connections or messages were refused");
  if (processes_seen_ == 0) counts.push_back("simulator: no program ever connected; was it an x86-64 Linux program?");
  std::lock_guard lock(mutex_);
  counts_ = std::move(counts);
  return cuts;
}

void SimSource::describe(SnapshotInfo& info) const {
  std::lock_guard lock(mutex_);
  info.source = "simulated";
  info.pt = source_config_.pt;
  info.cpu = cpu_;
  info.clock = fit_.conversion();
  info.record_clock = "monotonic_raw";
  info.user_only = true;
  info.notes.push_back(
      "simulated PT: the program ran under QEMU's user-mode emulation; packets were made from what it executed, with "
      "made-up core clocks, timer ticks and C-states (seed " +
      std::to_string(config_.seed) + ")");
  info.notes.push_back(
      "only the launched program and its children are traced; a real CPU-wide trace would hold every process");
  if (!fit_.exact())
    info.notes.push_back("the TSC and the record clock are related by a fitted line, not by the kernel's constants");
  info.notes.insert(info.notes.end(), notes_.begin(), notes_.end());
  info.notes.insert(info.notes.end(), counts_.begin(), counts_.end());
}

std::vector<capture::MemoryCopy> SimSource::memory_copies() {
  std::lock_guard lock(mutex_);
  const TscConversion clock = fit_.conversion();
  std::vector<capture::MemoryCopy> out;
  const auto add = [&](const CodeVersions::Version& v) {
    PlacementInfo p;
    p.pid = v.pid;
    p.from = clock.to_record_time(Tsc(v.from));
    if (v.to) p.to = std::max(p.from, clock.to_record_time(Tsc(*v.to)));
    p.by = v.by;
    capture::MemoryCopy copy;
    copy.path = "//anon";
    copy.bytes = v.bytes;
    for (size_t i = 0; i < CodeVersions::kPage; ++i) {
      if (!v.known[i]) continue;
      p.address = v.address + i;
      p.image_offset = i;
      while (i < CodeVersions::kPage && v.known[i]) ++i;
      p.length = i - p.image_offset;
      copy.placements.push_back(p);
    }
    out.push_back(std::move(copy));
  };
  for (const CodeVersions::Version& v : code_.ended()) add(v);
  for (const CodeVersions::Version* v : code_.open()) add(*v);
  return out;
}

}  // namespace

std::unique_ptr<capture::PtSource> make_sim_source(const SimConfig& config) {
  return std::make_unique<SimSource>(config);
}

}  // namespace hindcast::sim
