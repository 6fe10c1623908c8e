#include "decode/host_trace.h"

#include <algorithm>
#include <ctime>
#include <deque>
#include <future>
#include <set>
#include <thread>
#include <utility>

#include "decode/cr3_owners.h"
#include "decode/host_trace_impl.h"
#include "decode/kept_scan.h"
#include "decode/sampled_clock.h"
#include "decode/stretch_cuts.h"
#include "decode/trace_bytes.h"

namespace hindcast::decode {
namespace {

/// Reads sideband into processes, threads, address spaces, gaps and slices per CPU.
class SidebandPass {
 public:
  explicit SidebandPass(HostTrace::Impl& host) : host_(host) {}

  void run() {
    Sideband& sideband = host_.sideband;
    for (const StreamInfo& s : host_.info.streams)
      if (s.cpu != kNoCpu) {
        SliceBuilder& slices = builder(s.cpu);  // a silent CPU's, too, so that its losses have a place
        if (s.kind == StreamKind::sideband && s.wrapped) slices.older_were_dropped();
      }
    for (size_t i = 0; i < sideband.size(); ++i) take(sideband.record(i));
    for (const Sideband::StreamDamage& d : sideband.damage()) {
      CpuId cpu = kNoCpu;
      for (const StreamInfo& s : host_.info.streams)
        if (s.id == d.stream) cpu = s.cpu;
      for (auto& [c, builder] : builders_)
        if (cpu == kNoCpu || c == cpu) builder.lost_from(d.after);
      any_lost = true;
      host_.spaces.records_lost(d.after, RecordTime::max());
      host_.identities.add_loss(d.after, RecordTime::max());
      gap(GapCause::cut, cpu, d.stream, d.after, RecordTime::max(), d.bytes,
          "sideband of stream " + std::to_string(d.stream) + " is unreadable from byte " + std::to_string(d.offset) +
              " on: " + (d.bytes != 0 ? "a record is longer than what is left" : "what followed is lost"));
    }
    any_lost |= sideband.malformed() != 0;
    if (sideband.malformed() != 0) host_.identities.add_loss(RecordTime(0), RecordTime::max());
    // The simulated source has records of the recorded processes alone.
    std::set<Pid> recorded;
    if (host_.info.source == "simulated") recorded.insert(host_.info.root_pids.begin(), host_.info.root_pids.end());
    host_.identities.finish(recorded);
    if (sideband.malformed() != 0)
      gap(GapCause::cut, kNoCpu, 0, RecordTime(0), RecordTime::max(), sideband.malformed(),
          std::to_string(sideband.malformed()) + " sideband records are malformed and were skipped");
    // A LOST record without any after it on its CPU.
    for (auto& [stream, index] : open_lost_) host_.gaps[index].to = RecordTime::max();
    for (auto& [cpu, builder] : builders_) slices[cpu] = builder.finish();
    for (auto& [cpu, all] : slices)
      for (const Slice& s : all)
        if (s.tid.value() > 0) thread(s.tid, s.pid);
  }

  std::map<CpuId, std::vector<Slice>> slices;
  std::map<CpuId, std::set<Tid>> seen_on;  // who wrote records there
  std::map<Tid, ThreadInfo> threads;
  std::map<Pid, ProcessInfo> processes;
  bool any_switch = false;
  bool any_lost = false;

  ThreadInfo& thread(Tid tid, Pid pid) {
    ThreadInfo& t = threads[tid];
    t.tid = tid;
    if (pid.value() > 0) {
      t.pid = pid;
      process(pid);
    }
    return t;
  }
  ProcessInfo& process(Pid pid) {
    ProcessInfo& p = processes[pid];
    p.pid = pid;
    return p;
  }

 private:
  void gap(GapCause cause, CpuId cpu, uint32_t stream, RecordTime from, RecordTime to, uint64_t count,
           std::string words) {
    host_.gaps.push_back({cause, cpu, stream, from, to, count, std::move(words)});
  }

  SliceBuilder& builder(CpuId cpu) { return builders_.try_emplace(cpu, cpu).first->second; }

  void take(const SidebandRecord& r) {
    if (r.cpu != kNoCpu && r.has_time) {
      builder(r.cpu).add(r);
      if (r.tid.value() > 0) seen_on[r.cpu].insert(r.tid);
    }
    if (const auto open = open_lost_.find(r.stream); open != open_lost_.end() && r.has_time) {
      host_.gaps[open->second].to = r.time;
      open_lost_.erase(open);
    }
    std::visit([this, &r](const auto& body) { on(r, body); }, r.body);
    if (r.has_time) last_in_stream_[r.stream] = r.time;
  }

  void on(const SidebandRecord& r, const CommRecord& c) {
    if (c.tid.value() <= 0) return;
    ThreadInfo& t = thread(c.tid, c.pid);
    t.comm = c.comm;
    t.comms.push_back({r.time, std::string(c.comm), c.exec});
    if (c.exec) host_.spaces.exec(r.time, r.tid, c.pid);
  }
  void on(const SidebandRecord& r, const MapRecord& m) {
    if (m.pid.value() > 0 && m.tid.value() > 0) thread(m.tid, m.pid);
    host_.spaces.map(r.time, r.tid, m);
  }
  void on(const SidebandRecord& r, const TaskRecord& t) {
    if (t.tid.value() <= 0) return;
    ThreadInfo& info = thread(t.tid, t.pid);
    if (t.exit) {
      host_.identities.add_exit(r.time, t.tid);
      info.exited = r.time;
      if (t.tid.value() == t.pid.value()) process(t.pid).exited = r.time;
      return;
    }
    host_.identities.add_fork(r.time, t.parent_tid, t.tid);
    info.started = r.time;
    if (const auto parent = threads.find(t.parent_tid);
        info.comm.empty() && parent != threads.end() && !parent->second.comm.empty()) {
      info.comm = parent->second.comm;
      info.comms.push_back({r.time, info.comm, false});
    }
    if (t.pid == t.parent_pid) return;
    ProcessInfo& p = process(t.pid);
    p.parent = t.parent_pid;
    p.started = r.time;
    host_.spaces.fork(r.time, t.parent_pid, t.pid);
  }
  void on(const SidebandRecord&, const SwitchRecord& s) {
    any_switch = true;
    if (s.tid.value() > 0) thread(s.tid, s.pid);
  }
  void on(const SidebandRecord&, const ItraceStartRecord& s) {
    if (s.tid.value() > 0) thread(s.tid, s.pid);
  }
  void on(const SidebandRecord& r, const LostRecord& l) {
    any_lost = true;
    if (r.cpu == kNoCpu)
      for (auto& [cpu, builder] : builders_) builder.add(r);
    const auto before = last_in_stream_.find(r.stream);
    open_lost_[r.stream] = host_.gaps.size();
    const RecordTime from = before == last_in_stream_.end() ? RecordTime(0) : before->second;
    host_.spaces.records_lost(from, r.time);
    host_.identities.add_loss(from, r.time);
    gap(GapCause::sideband_lost, r.cpu, r.stream, from, r.time, l.count,
        "the kernel dropped " + std::to_string(l.count) + " sideband records");
  }
  void on(const SidebandRecord& r, const AuxRecord& a) {
    const uint64_t bad = a.flags & (perf::kAuxTruncated | perf::kAuxPartial | perf::kAuxCollision);
    const RecordTime before = std::exchange(last_aux_[r.stream], r.time);
    if (bad == 0) return;
    std::string why;
    if (bad & perf::kAuxTruncated) why += " truncated";
    if (bad & perf::kAuxPartial) why += " partial";
    if (bad & perf::kAuxCollision) why += " collision";
    // What was cut short ends where the record stands; a hole may be anywhere since the last one.
    const RecordTime from = bad == perf::kAuxTruncated ? r.time : before;
    // Of a ring in overwrite mode the record names the whole size, however much was written.
    const bool sized = !(a.flags & perf::kAuxOverwrite);
    gap(GapCause::aux_truncated, r.cpu, r.stream, from, r.time, sized ? a.size : 0,
        "the kernel marked " + (sized ? std::to_string(a.size) + " bytes of trace" : std::string("the trace")) + " as" +
            why);
  }
  void on(const SidebandRecord&, const TimeConvRecord& t) {
    if (host_.clock.known || t.shift > 63 || t.mult == 0 || t.mult > 0xffffffffu) return;
    host_.clock.known = true;
    host_.clock.shift = static_cast<uint16_t>(t.shift);
    host_.clock.mult = static_cast<uint32_t>(t.mult);
    host_.clock.zero = t.zero;
  }
  void on(const SidebandRecord& r, const KsymbolRecord& k) {
    if (!k.unregister) host_.spaces.ksymbol(r.time, k.address, k.length);
  }
  void on(const SidebandRecord& r, const TextPokeRecord& p) {
    host_.spaces.text_poke(r.time, p.address, p.old_bytes, p.new_bytes);
  }
  void on(const SidebandRecord& r, const NamespacesRecord& n) {
    using Told = IdentityBook::Told;
    const Told told = r.cpu == kNoCpu ? Told::as_state : r.tid == n.tid ? Told::as_change : Told::at_birth;
    host_.identities.add_namespaces(r.time, n.tid, told, n.namespaces);
  }
  void on(const SidebandRecord&, const CgroupRecord&) {}
  void on(const SidebandRecord&, const identity::ThreadNamespaces& n) { host_.identities.add_look(n); }
  void on(const SidebandRecord& r, const identity::CgroupText& t) { host_.identities.add_text(r.stream, t); }
  void on(const SidebandRecord& r, const identity::ThreadCgroup& c) { host_.identities.add_look(r.stream, c); }

  HostTrace::Impl& host_;
  std::map<CpuId, SliceBuilder> builders_;
  std::map<uint32_t, RecordTime> last_in_stream_;
  std::map<uint32_t, RecordTime> last_aux_;  // stream -> its last AUX record; from 0 on before the first
  std::map<uint32_t, size_t> open_lost_;     // stream -> gap without an end
};

/// Scans all PT streams, on all CPUs, while the caller does something else.
class StreamScans {
 public:
  explicit StreamScans(HostTrace::Impl& host) : host_(host), time_(host.time_config()) {}

  Result<void> start() {
    const size_t at_once = std::max(1u, std::thread::hardware_concurrency());
    for (const StreamInfo& s : host_.info.streams) {
      if (s.kind != StreamKind::pt) continue;
      streams_.push_back(std::make_unique<PtStream>());
      PtStream* stream = streams_.back().get();
      stream->info = s;
      HC_TRY(stream->bytes, host_.source.stream_in_parts(s.id));
      if (scans_.size() >= at_once) HC_TRY_VOID(finish_one());
      scans_.emplace_back(stream, std::async(std::launch::async, [&host = host_, stream, time = time_] {
                            return host.scan(*stream, time);
                          }));
    }
    return {};
  }

  Result<std::vector<std::unique_ptr<PtStream>>> finish() {
    while (!scans_.empty()) HC_TRY_VOID(finish_one());
    return std::move(streams_);
  }

 private:
  Result<void> finish_one() {
    PtStream& stream = *scans_.front().first;
    const bool scanned = scans_.front().second.get();
    scans_.pop_front();
    if (scanned) return {};
    // Of damaged bytes it has to be known beforehand where.
    HC_TRY(SharedBytes bytes, host_.source.stream(stream.info.id));
    stream.bytes = std::make_shared<WholeStream>(std::move(bytes));
    host_.scan(stream, time_);
    return {};
  }

  HostTrace::Impl& host_;
  const PtTimeConfig time_;
  std::vector<std::unique_ptr<PtStream>> streams_;
  std::deque<std::pair<PtStream*, std::future<bool>>> scans_;  // ends before the streams do
};

/// Processes that the recording was about: the roots and everything they forked.
std::set<Pid> family(const std::vector<Pid>& roots, const std::map<Pid, ProcessInfo>& processes) {
  std::set<Pid> members(roots.begin(), roots.end());
  for (size_t before = 0; before != members.size();) {
    before = members.size();
    for (const auto& [pid, p] : processes)
      if (members.count(p.parent) != 0) members.insert(pid);
  }
  return members;
}

Slice always(Tid tid, Pid pid, CpuId cpu) {
  Slice s;
  s.tid = tid;
  s.pid = pid;
  s.cpu = cpu;
  s.open_start = s.open_end = true;
  return s;
}

}  // namespace

bool PtStream::may_be(size_t stretch, Tid tid) const {
  const Owner& o = owners[stretch];
  if (o.certain) return false;
  if (o.first == kNoSlice) return true;
  for (uint32_t j = o.first; j <= o.last; ++j)
    if (slices[j].tid == tid || slices[j].tid == kNoTid) return true;
  return false;
}

size_t PtStream::inside(uint64_t offset) const {
  const size_t s = trace.stretch_at(offset);
  return s < trace.map.stretches.size() && offset <= trace.map.stretches[s].end ? s : trace.map.stretches.size();
}

RecordTime HostTrace::Impl::latest_record_time(Tsc t) const {
  if (!clock.known || t > Tsc(Tsc::max().value() - clock.error_ticks)) return RecordTime::max();
  return clock.to_record_time(Tsc(t.value() + clock.error_ticks));
}

RecordTime HostTrace::Impl::earliest_record_time(Tsc t) const {
  if (!clock.known || t.value() <= clock.error_ticks) return RecordTime(0);
  return clock.to_record_time(Tsc(t.value() - clock.error_ticks));
}

std::shared_ptr<const CodeImage> HostTrace::Impl::image_of(const PtStream& stream, size_t stretch) {
  if (stretch >= stream.owners.size()) return nullptr;
  const Slice* owner = stream.owner(stretch);
  const Stretch& s = stream.trace.map.stretches[stretch];
  if (!stream.cr3_pids.empty()) {
    // What ran across the cut is kernel code, or of a time when nothing changed.
    const TimeMap& times = stream.trace.times;
    const bool goes_on = s.start == StretchStart::handover;
    RecordTime from = earliest_record_time(goes_on ? times.at(s.begin + 1).earliest : s.begin_time.earliest);
    RecordTime to = latest_record_time(s.end_time.latest);
    if (owner) {
      from = std::max(from, owner->in);
      to = std::min(to, stream.slices[stream.owners[stretch].last].out);
    }
    auto image = spaces.image_during(owner ? owner->pid : stream.cr3_pids[stretch], from, std::max(from, to));
    const bool of_nobody = !owner && stream.cr3_pids[stretch] == kNoPid && image->sections().empty();
    return of_nobody ? nullptr : image;
  }
  if (!owner) return nullptr;
  const RecordTime left = stream.slices[stream.owners[stretch].last].out;
  const RecordTime begun = std::min(latest_record_time(s.begin_time.latest), left);
  const RecordTime earliest =
      std::max(earliest_record_time(s.begin_time.earliest), stream.slices[stream.owners[stretch].first].in);
  const RecordTime ended = std::min(latest_record_time(s.end_time.latest), left);
  return spaces.image_at(owner->pid, owner->tid, {std::min(earliest, begun), begun},
                         {std::min(earliest_record_time(s.end_time.earliest), ended), ended});
}

void HostTrace::Impl::cut(PtStream& stream) {
  CutStretches cut = cut_stretches(stream.trace.map, stream.owners, stream.trace.times, stream.slices, clock,
                                   [this](Pid pid) { return spaces.changes(pid); });
  stream.trace.map.stretches = std::move(cut.stretches);
  stream.owners = std::move(cut.owners);
  stream.cr3_pids.resize(stream.owners.size(), kNoPid);
}

void HostTrace::Impl::assign_cr3s() {
  Cr3Owners owners;
  for (const auto& s : streams) {
    if (s->cr3_pids.empty()) continue;
    owners.learn(s->trace.map, [&](size_t k) {
      const Slice* owner = s->owner(k);
      return owner && spaces.has_space(owner->pid) ? owner->pid : kNoPid;
    });
  }
  for (const auto& s : streams)
    if (!s->cr3_pids.empty()) s->cr3_pids = owners.of(s->trace.map);
}

const PtStream* HostTrace::Impl::find_stream(uint32_t id) const {
  for (const auto& s : streams)
    if (s->info.id == id) return s.get();
  return nullptr;
}

DecodeConfig HostTrace::Impl::decode_config(Resync resync) const {
  DecodeConfig c;
  c.cpu = info.cpu;
  c.options = info.pt;
  c.resync = resync;
  return c;
}

/// What its packets say, as it was kept or found now. False: some of its bytes cannot be read.
bool HostTrace::Impl::scan(PtStream& stream, const PtTimeConfig& time) {
  StreamBytes& bytes = *stream.bytes;
  PtTrace& trace = stream.trace;
  trace.bytes = bytes.bytes();
  trace.set_cuts(stream.info.cuts);
  const bool whole = bytes.holes().empty();
  const auto kept = whole ? source.kept(stream.info.id) : std::nullopt;
  if (!kept || !unpack_scan(*kept, time, trace)) {
    TraceBytes window(bytes.bytes(), &bytes);
    trace = PtTrace::scan(window, time, stream.info.cuts, bytes.holes());
    if (window.met_loss()) return false;
    if (whole) source.keep(stream.info.id, [&] { return pack_scan(trace, time); });
  }
  trace.parts = &bytes;
  return true;
}

PtTimeConfig HostTrace::Impl::time_config() const {
  PtTimeConfig time = PtTimeConfig::from(info.cpu, info.pt);
  time.traced = info.traced;
  if (info.traced.latest != Tsc::max()) time.near = info.traced.latest;
  for (size_t i = 0; i < sideband.size() && clock.known && time.near == Tsc(0); ++i) {
    const SidebandRecord r = sideband.record(i);
    if (r.has_time && r.time != RecordTime(0)) time.near = clock.to_tsc(r.time).earliest;
  }
  return time;
}

/// What JIT compilers said of their code, on the record clock.
Result<void> HostTrace::Impl::read_jit() {
  jit.read(info, source);
  std::vector<ClockSample> samples;
  for (const StreamInfo& s : info.streams) {
    if (s.kind != StreamKind::clocks) continue;
    HC_TRY(const SharedBytes bytes, source.stream(s.id));
    if (samples.empty()) samples = read_clock_samples(bytes.bytes, CLOCK_MONOTONIC);
  }
  const SampledClock monotonic(std::move(samples), 0);
  const auto on_record_clock = [this](TscInterval t) {
    return Interval<RecordTime>{earliest_record_time(t.earliest), latest_record_time(t.latest)};
  };
  JitTimes times;
  times.monotonic = [&](uint64_t ns) { return on_record_clock(monotonic.to_tsc(ns)); };
  times.tsc = [&](uint64_t ticks) { return on_record_clock(TscInterval::at(Tsc(ticks))); };
  jit.tell(times, [this](Pid pid, const JitClaim& claim) { spaces.jit(pid, claim); });
  for (HostGap& g : jit.gaps()) gaps.push_back(std::move(g));
  return {};
}

HostTrace::HostTrace(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
HostTrace::~HostTrace() = default;

Result<std::unique_ptr<HostTrace>> HostTrace::build(const SnapshotInfo& info, ByteSource& source) {
  auto impl = std::make_unique<Impl>(info, source);
  impl->clock = info.clock;
  // Without a time of its own the trace needs one of sideband to count from.
  std::optional<StreamScans> scans;
  const auto start = [&] { return scans.emplace(*impl).start(); };
  if (info.traced.latest != Tsc::max()) HC_TRY_VOID(start());
  for (const StreamInfo& s : info.streams) {
    if (s.kind != StreamKind::sideband) continue;
    HC_TRY(SharedBytes bytes, source.stream(s.id));
    impl->sideband.add(s, std::move(bytes));
  }
  impl->sideband.finish();
  SidebandPass pass(*impl);
  pass.run();
  HC_TRY_VOID(impl->read_jit());
  if (!scans) HC_TRY_VOID(start());

  for (const StreamInfo& s : info.streams)
    if (s.kind == StreamKind::pt && s.tid != kNoTid) pass.thread(s.tid, kNoPid);
  for (const PlacementInfo& p : info.placements)
    if (p.pid.value() > 0) pass.process(p.pid);
  for (const Pid pid : info.root_pids)
    if (pid.value() > 0) pass.process(pid);
  // A process of which no thread was named has its main thread.
  for (const auto& [pid, p] : pass.processes) {
    const bool named = std::any_of(pass.threads.begin(), pass.threads.end(),
                                   [pid = pid](const auto& t) { return t.second.pid == pid; });
    if (!named && pass.threads.empty()) pass.thread(Tid(pid.value()), pid);
  }
  // A thread of which no process is known belongs to the only process there is.
  for (auto& [tid, t] : pass.threads)
    if (t.pid == kNoPid && pass.processes.size() == 1) t.pid = pass.processes.begin()->first;

  // Only threads of the recorded processes can have run under the simulator; on hardware a CPU's trace holds everybody.
  const bool only_family = info.source == "simulated" && !info.root_pids.empty() && !pass.any_lost;
  const std::set<Pid> members = family(info.root_pids, pass.processes);
  const auto may_be_traced = [&](const Slice& s) {
    if (s.tid == Tid(0)) return !info.user_only;  // idle is the kernel's
    return (!only_family || s.tid == kNoTid || s.pid == kNoPid || members.count(s.pid) != 0);
  };

  HC_TRY(auto scanned, scans->finish());
  if (scanned.empty())
    return Error{Errc::unsupported,
                 "cannot open this snapshot: it has no PT stream",
                 std::to_string(info.streams.size()) + " streams, none of kind pt",
                 {}};
  bool whole_cpu = false;
  for (auto& stream : scanned) {
    const StreamInfo& s = stream->info;
    // A ring that wrapped may begin with a PSB by chance; what it overwrote is missing all the same.
    if (std::vector<Event>& gaps = stream->trace.map.gaps;
        s.wrapped && (gaps.empty() || gaps[0].cause != GapCause::not_captured || gaps[0].offset != 0)) {
      Event g;
      g.kind = EventKind::gap;
      g.cause = GapCause::not_captured;
      g.time = {Tsc::min(), stream->trace.times.at(0).latest};
      gaps.insert(gaps.begin(), g);
    }

    if (s.tid != kNoTid) {
      const ThreadInfo& t = pass.threads[s.tid];
      stream->slices = {always(s.tid, t.pid, s.cpu)};
    } else if (!pass.any_switch) {
      // Nothing tells threads apart: sure only when there is no more than one.
      if (pass.any_lost) {
        // Switches, and threads, may be among what was lost.
      } else if (pass.threads.size() == 1) {
        stream->slices = {always(pass.threads.begin()->first, pass.threads.begin()->second.pid, s.cpu)};
      } else if (pass.threads.empty()) {
        stream->slices = {always(kNoTid, kNoPid, s.cpu)};
        stream->whole_cpu = whole_cpu = true;
      }
    } else {
      const auto here = pass.slices.find(s.cpu);
      if (here != pass.slices.end()) stream->slices = here->second;
      const bool switched =
          std::any_of(stream->slices.begin(), stream->slices.end(), [](const Slice& x) { return x.tid != kNoTid; });
      const auto seen = pass.seen_on.find(s.cpu);
      if (!pass.any_lost && !switched && stream->slices.empty() && seen != pass.seen_on.end() &&
          seen->second.size() == 1) {
        // No switch in the whole window, so whoever wrote a record there ran all the time.
        const Tid tid = *seen->second.begin();
        stream->slices = {always(tid, pass.threads[tid].pid, s.cpu)};
      }
    }
    std::erase_if(stream->slices, [&](const Slice& x) { return !may_be_traced(x); });
    stream->owners = attribute(stream->trace.map.stretches, stream->slices, impl->clock, info.user_only);
    const bool one_owner = stream->slices.size() == 1 && stream->slices[0].open_start && stream->slices[0].open_end &&
                           stream->slices[0].in == RecordTime(0) && stream->slices[0].out == RecordTime::max();
    if (one_owner && (stream->whole_cpu || stream->slices[0].tid != kNoTid)) {
      // Whoever it is, there is nobody else, whatever the clocks say and even if the kernel was traced.
      for (Owner& o : stream->owners) o = {0, 0, true};
    }
    if (!info.user_only && impl->clock.known) impl->cut(*stream);

    CpuCoverage c;
    c.stream = s.id;
    c.cpu = s.cpu;
    c.tid = s.tid;
    c.bytes = stream->trace.bytes.size();
    c.wrapped = s.wrapped;
    const StretchMap& map = stream->trace.map;
    const bool starts_late =
        !map.gaps.empty() && map.gaps[0].cause == GapCause::not_captured && map.gaps[0].offset == 0;
    c.first_psb = starts_late ? std::min<uint64_t>(map.gaps[0].count, c.bytes) : 0;
    c.time = stream->trace.times.window(c.first_psb, c.bytes);
    if (!map.stretches.empty()) {
      c.time.earliest = std::max(c.time.earliest, map.stretches.front().begin_time.earliest);
      c.time.latest = std::min(c.time.latest, map.stretches.back().end_time.latest);
    }
    for (size_t k = 0; k < map.stretches.size(); ++k) {
      const uint64_t bytes_of = map.stretches[k].end - map.stretches[k].begin;
      ++c.stretches;
      if (const Slice* owner = stream->owner(k)) {
        ++c.attributed_stretches;
        c.attributed_bytes += bytes_of;
        if (owner->tid == Tid(0)) continue;  // every CPU has an idle thread of this number
        ThreadInfo& t = owner->tid == kNoTid ? pass.threads[kNoTid] : pass.thread(owner->tid, owner->pid);
        ++t.stretches;
        t.pt_bytes += bytes_of;
        if (t.cpus.empty() || t.cpus.back() != s.cpu) t.cpus.push_back(s.cpu);
      } else {
        c.unattributed_bytes += bytes_of;
      }
    }
    for (const Event& g : map.gaps) {
      if (g.cause == GapCause::pt_overflow) ++c.overflows;
      impl->gaps.push_back({g.cause, s.cpu, s.id, impl->earliest_record_time(g.time.earliest),
                            impl->latest_record_time(g.time.latest), g.count,
                            std::string(to_string(g.cause)) + " at byte " + std::to_string(g.offset) + " of stream " +
                                std::to_string(s.id)});
    }
    if (c.unattributed_bytes != 0)
      impl->gaps.push_back({GapCause::unattributed, s.cpu, s.id, RecordTime(0), RecordTime::max(), c.unattributed_bytes,
                            std::to_string(c.stretches - c.attributed_stretches) + " of " +
                                std::to_string(c.stretches) + " traced stretches fit more than one thread, or none"});
    impl->coverage.push_back(c);
    impl->streams.push_back(std::move(stream));
  }
  impl->assign_cr3s();
  for (const auto& [cpu, slices] : pass.slices)
    for (const Slice& s : slices)
      if (s.tid.value() > 0) pass.threads[s.tid].slices.push_back(s);
  for (auto& [tid, t] : pass.threads) {
    std::stable_sort(t.slices.begin(), t.slices.end(), [](const Slice& a, const Slice& b) { return a.in < b.in; });
    std::sort(t.cpus.begin(), t.cpus.end());
    t.cpus.erase(std::unique(t.cpus.begin(), t.cpus.end()), t.cpus.end());
    if (t.tid == kNoTid && !whole_cpu) continue;
    if (t.pid != kNoPid) pass.process(t.pid).tids.push_back(t.tid);
    impl->threads.push_back(t);
  }
  for (auto& [pid, p] : pass.processes) {
    const auto main = pass.threads.find(Tid(pid.value()));
    if (main != pass.threads.end()) p.comm = main->second.comm;
    if (p.comm.empty() && !p.tids.empty()) p.comm = pass.threads[p.tids.front()].comm;
    impl->processes.push_back(p);
  }
  std::stable_sort(impl->gaps.begin(), impl->gaps.end(),
                   [](const HostGap& a, const HostGap& b) { return a.from < b.from; });
  return std::unique_ptr<HostTrace>(new HostTrace(std::move(impl)));
}

EngineCounts HostTrace::engine_counts() const { return impl_->engine_counts; }
const SnapshotInfo& HostTrace::info() const { return impl_->info; }
std::span<const ProcessInfo> HostTrace::processes() const { return impl_->processes; }
std::span<const ThreadInfo> HostTrace::threads() const { return impl_->threads; }
std::span<const CpuCoverage> HostTrace::cpus() const { return impl_->coverage; }
const IdentityBook& HostTrace::identities() const { return impl_->identities; }
std::span<const HostGap> HostTrace::gaps() const { return impl_->gaps; }

const ThreadInfo* HostTrace::find_thread(Tid tid) const {
  for (const ThreadInfo& t : impl_->threads)
    if (t.tid == tid) return &t;
  return nullptr;
}

const ProcessInfo* HostTrace::find_process(Pid pid) const {
  for (const ProcessInfo& p : impl_->processes)
    if (p.pid == pid) return &p;
  return nullptr;
}

Result<std::unique_ptr<SeekableFlow>> HostTrace::thread_flow(Tid tid, const FlowOptions& options) const {
  const ThreadInfo* t = find_thread(tid);
  if (!t)
    return Error{Errc::not_found, "cannot show thread " + std::to_string(tid.value()) + ": it is not in this snapshot",
                 std::to_string(impl_->threads.size()) + " threads are", "list them: hindcast ls"};
  return open_thread_flow(*impl_, *t, options);
}

Result<std::unique_ptr<SeekableFlow>> HostTrace::stream_flow(uint32_t stream, const FlowOptions& options) const {
  const PtStream* s = impl_->find_stream(stream);
  if (!s)
    return Error{Errc::not_found,
                 "cannot show stream " + std::to_string(stream) + ": this snapshot has no such PT stream",
                 {},
                 {}};
  return open_stream_flow(*impl_, *s, options);
}

Result<std::unique_ptr<SeekableFlow>> HostTrace::cpu_flow(CpuId cpu, const FlowOptions& options) const {
  for (const auto& s : impl_->streams)
    if (s->info.cpu == cpu && s->info.tid == kNoTid) return open_stream_flow(*impl_, *s, options);
  return Error{Errc::not_found,
               "cannot show CPU " + std::to_string(cpu.value()) + ": its trace is not in this snapshot",
               {},
               {}};
}

std::shared_ptr<const CodeImage> HostTrace::image_of(const FlowEvent& event) const {
  const PtStream* s = impl_->find_stream(event.stream);
  return s ? impl_->image_of(*s, event.stretch) : nullptr;
}

std::shared_ptr<const CodeImage> HostTrace::image_at(Pid pid, RecordTime time) const {
  return impl_->spaces.image_at(pid, kNoTid, time, time);
}

std::optional<MadeFunction> HostTrace::made_function(Pid pid, const std::optional<CodeLocation>& where, Ip ip) const {
  return impl_->jit.function(pid, where, ip);
}

std::optional<CodeLocation> HostTrace::locate(Pid pid, Interval<RecordTime> time, Ip ip) const {
  return impl_->spaces.locate(pid, time, ip);
}

Interval<RecordTime> HostTrace::record_times_of(const FlowEvent& event) const {
  const PtStream* s = impl_->find_stream(event.stream);
  const RecordTime happened = impl_->latest_record_time(event.event.time.latest);
  if (!s || event.stretch >= s->owners.size() || !s->cr3_pids.empty()) return {happened, happened};
  RecordTime begun = impl_->latest_record_time(s->trace.map.stretches[event.stretch].begin_time.latest);
  if (s->owner(event.stretch)) begun = std::min(begun, s->slices[s->owners[event.stretch].last].out);
  return {begun, std::max(begun, happened)};
}

}  // namespace hindcast::decode
