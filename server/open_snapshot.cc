#include "server/open_snapshot.h"

#include <algorithm>

#include "decode/identity.h"
#include "decode/workload.h"

namespace hindcast::server {
namespace {

/// Intel cores since Nehalem's successors count TSC at the nominal ratio of a 100 MHz bus clock; used only when neither
/// the kernel's conversion nor CPUID.15H is in the snapshot.
constexpr double kBusHz = 100e6;

double ns_per_tick(const SnapshotInfo& info) {
  const TscConversion& c = info.clock;
  if (c.known && c.mult != 0 && c.shift < 64)
    return static_cast<double>(c.mult) / static_cast<double>(uint64_t{1} << c.shift);
  const PtCpu& cpu = info.cpu;
  if (cpu.ctc_hz && cpu.tsc_ctc_num && cpu.tsc_ctc_den)
    return 1e9 * cpu.tsc_ctc_den / (static_cast<double>(cpu.ctc_hz) * cpu.tsc_ctc_num);
  if (cpu.nominal_ratio) return 1e9 / (kBusHz * cpu.nominal_ratio);
  return 0;
}

/// The smallest interval around both, a side that is unknown in one being taken from the other.
void widen(TscInterval& all, bool& any, const TscInterval& one) {
  if (one.earliest == Tsc::min() && one.latest == Tsc::max()) return;
  if (!any) {
    all = one;
    any = true;
    return;
  }
  if (one.earliest != Tsc::min() && (all.earliest == Tsc::min() || one.earliest < all.earliest))
    all.earliest = one.earliest;
  if (one.latest != Tsc::max() && (all.latest == Tsc::max() || one.latest > all.latest)) all.latest = one.latest;
}

TscInterval hull(const TscInterval& first, const TscInterval& last) { return {first.earliest, last.latest}; }

/// Where times count from: the first tick of trace, or the best that is known in its place.
Tsc origin(const Overview& o) {
  if (o.window.earliest != Tsc::min()) return o.window.earliest;
  TscInterval seen;
  bool any = false;
  for (const ThreadRow& t : o.threads) widen(seen, any, t.time);
  if (seen.earliest != Tsc::min() && seen.earliest < o.window.latest) return seen.earliest;
  return o.window.latest == Tsc::max() ? Tsc::min() : o.window.latest;
}

CgroupName cgroup_name(const std::string& text) {
  CgroupName name;
  const std::vector<decode::CgroupLine> lines = decode::parse_cgroup_text(text);
  for (const decode::CgroupLine& l : lines) name.all.emplace_back(l.controllers, l.path);
  const decode::CgroupLine* line = decode::telling_line(lines);
  if (!line) return name;
  name.path = line->path;
  name.controllers = line->controllers;
  const decode::Workload w = decode::workload_of(line->path);
  name.runtime = w.runtime;
  name.container = w.container;
  name.pod = w.pod;
  name.qos = w.qos;
  name.unit = w.unit;
  name.slice = w.slice;
  name.name = decode::short_name(w, line->path);
  return name;
}

/// Who threads are, each cgroup's names made once.
class Identities {
 public:
  explicit Identities(const OpenSnapshot& s)
      : s_(s), window_(s.overview.info.traced), names_(s.trace->identities().texts()) {
    window_.earliest = std::max(window_.earliest, s.overview.window.earliest);
  }

  void add_to(ThreadRow& row) {
    const decode::ThreadIdentity* t = s_.trace->identities().find(row.tid);
    if (!t) return;
    for (const decode::CgroupSpan& span : t->cgroups) {
      CgroupRow out{time(span.from, span.to), span.sure, {}};
      if (!out.time.overlaps(window_)) continue;
      for (const uint32_t text : span.texts) out.any_of.push_back(name(text));
      row.cgroups.push_back(std::move(out));
    }
    for (const decode::NamespaceSpan& span : t->namespaces) {
      NamespacesRow out{time(span.from, span.to), {}};
      if (!out.time.overlaps(window_)) continue;
      for (size_t i = 0; i < out.kinds.size(); ++i) out.kinds[i] = {span.kinds[i].sure, span.kinds[i].any_of};
      row.namespaces.push_back(std::move(out));
    }
    for (const decode::ThreadIdentity::Levels& l : t->levels)
      if (time(l.from, l.to).overlaps(window_)) row.ids = l.ids;
  }

 private:
  TscInterval time(RecordTime from, RecordTime to) const {
    return hull(from == RecordTime::min() ? TscInterval::unknown() : s_.ticks(from),
                to == RecordTime::max() ? TscInterval::unknown() : s_.ticks(to));
  }
  std::shared_ptr<const CgroupName> name(uint32_t text) {
    if (!names_[text])
      names_[text] = std::make_shared<const CgroupName>(cgroup_name(s_.trace->identities().text(text)));
    return names_[text];
  }

  const OpenSnapshot& s_;
  TscInterval window_;
  std::vector<std::shared_ptr<const CgroupName>> names_;
};

ThreadRow thread_row(const OpenSnapshot& s, const decode::ThreadInfo& t) {
  ThreadRow row;
  row.tid = t.tid;
  row.pid = t.pid;
  row.comm = t.comm;
  row.cpus = t.cpus;
  row.slices = t.slices.size();
  row.stretches = t.stretches;
  row.pt_bytes = t.pt_bytes;
  for (const decode::Slice& slice : t.slices)
    if (!slice.open_start && !slice.open_end && slice.out >= slice.in)
      row.on_cpu_ns += slice.out.value() - slice.in.value();
  bool any = false;
  for (const SliceRow& slice : s.slices(t)) {
    if (!slice.open_start) widen(row.time, any, slice.in);
    if (!slice.open_end) widen(row.time, any, slice.out);
  }
  return row;
}

}  // namespace

TscInterval OpenSnapshot::ticks(RecordTime t) const {
  if (t == RecordTime::min() || t == RecordTime::max()) return TscInterval::unknown();
  const TscInterval i = overview.info.clock.to_tsc(t);
  return i.latest < i.earliest ? TscInterval::unknown() : i;  // past the end of the counter
}

std::vector<SliceRow> OpenSnapshot::slices(const decode::ThreadInfo& thread) const {
  std::vector<SliceRow> out;
  for (const decode::Slice& s : thread.slices) {
    SliceRow row;
    row.cpu = s.cpu;
    row.open_start = s.open_start;
    row.open_end = s.open_end;
    row.preempted = s.preempted;
    row.in = s.open_start ? TscInterval::unknown() : ticks(s.in);
    row.out = s.open_end ? TscInterval::unknown() : ticks(s.out);
    out.push_back(row);
  }
  return out;
}

Result<std::unique_ptr<OpenSnapshot>> open_snapshot(const transport::BundleReader& reader, size_t index,
                                                    const std::vector<std::string>& debug_dirs,
                                                    const ScanStore* scans) {
  auto s = std::make_unique<OpenSnapshot>(reader, index, scans);
  const SnapshotInfo& info = reader.snapshot(index);
  HC_TRY(s->trace, decode::HostTrace::build(info, s->source));
  s->places = std::make_unique<PlaceFinder>(*s->trace, s->source, debug_dirs);

  Overview& o = s->overview;
  o.snapshot = index;
  o.info = info;
  bool any = false;
  for (const StreamInfo& stream : info.streams) {
    StreamRow row;
    row.info = stream;
    for (const decode::CpuCoverage& c : s->trace->cpus()) {
      if (c.stream != stream.id) continue;
      row.first_psb = c.first_psb;
      row.time = c.time;
      row.stretches = c.stretches;
      row.attributed_stretches = c.attributed_stretches;
      row.unattributed_bytes = c.unattributed_bytes;
      row.overflows = c.overflows;
      widen(o.window, any, c.time);
    }
    o.streams.push_back(std::move(row));
  }
  o.scale.ns_per_tick = ns_per_tick(info);

  for (const decode::ProcessInfo& p : s->trace->processes()) {
    ProcessRow row{p.pid, p.parent, p.comm, p.tids, {}, {}};
    if (p.started) row.started = s->ticks(*p.started);
    if (p.exited) row.exited = s->ticks(*p.exited);
    o.processes.push_back(std::move(row));
  }
  Identities identities(*s);
  for (const decode::ThreadInfo& t : s->trace->threads()) {
    o.threads.push_back(thread_row(*s, t));
    identities.add_to(o.threads.back());
  }
  o.scale.origin = origin(o);
  for (const decode::HostGap& g : s->trace->gaps()) {
    o.gaps.push_back({g.cause, g.cpu, g.stream, hull(s->ticks(g.from), s->ticks(g.to)), g.count, g.words});
  }
  return s;
}

}  // namespace hindcast::server
