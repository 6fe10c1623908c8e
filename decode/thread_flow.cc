#include "decode/thread_flow.h"

#include <algorithm>
#include <deque>
#include <optional>

#include "decode/stretch_events.h"

namespace hindcast::decode {
namespace {

/// Neighbouring stretches, or a gap between stretches in which the thread may have run.
struct Piece {
  const PtStream* stream = nullptr;
  std::optional<Event> gap;                   // then first and last mean nothing
  size_t first = 0, last = 0;                 // stretches, inclusive
  TscInterval time;                           // when it ran, by stretches and slices
  RecordTime in{0}, out = RecordTime::max();  // of the slices it lies in
};

/// When a thread may have been on a stream's CPU within a time. Slices that touch are one; between others it may have run
/// elsewhere.
std::vector<TscInterval> times_on(const HostTrace::Impl& host, const PtStream& stream, Tid tid,
                                  const TscInterval& time) {
  std::vector<TscInterval> out;
  const Slice* open = nullptr;  // the slice before was the thread's too
  const RecordTime from = host.earliest_record_time(time.earliest), to = host.latest_record_time(time.latest);
  for (const Slice& s : stream.slices) {
    if (s.in > to) break;
    if (s.out < from) continue;
    if (s.tid != tid && s.tid != kNoTid) {
      open = nullptr;
      continue;
    }
    TscInterval t = time;
    if (host.clock.known && s.in != RecordTime(0)) t.earliest = std::max(t.earliest, host.clock.to_tsc(s.in).earliest);
    if (host.clock.known && s.out != RecordTime::max())
      t.latest = std::max(t.earliest, std::min(t.latest, host.clock.to_tsc(s.out).latest));
    if (open && s.in <= open->out)
      out.back().latest = std::max(out.back().latest, t.latest);
    else
      out.push_back(t);
    open = &s;
  }
  return out;
}

/// In program order.
std::vector<Piece> pieces_of(const HostTrace::Impl& host, const ThreadInfo& thread) {
  const Tid tid = thread.tid;
  const bool has_slices = !thread.slices.empty();
  std::vector<std::vector<Piece>> per_stream;
  for (const auto& s : host.streams) {
    std::vector<Piece> parts;
    const auto& stretches = s->trace.map.stretches;
    const auto& gaps = s->trace.map.gaps;
    size_t g = 0;
    uint64_t shown_to = 0;  // the engine shows gaps up to here as part of a stretch of the thread
    bool whole = true;      // no gap since the last part
    const auto take_gaps = [&](uint64_t to) {
      for (; g < gaps.size() && gaps[g].offset <= to; ++g) {
        // Of what came before the first PSB, the slices tell more.
        const bool leftover = gaps[g].cause == GapCause::not_captured && gaps[g].offset == 0 && has_slices;
        // libipt need not notice that packets contradict each other, but the engine shows all other gaps.
        const bool shown = shown_to != 0 && gaps[g].offset <= shown_to && gaps[g].cause != GapCause::desync;
        if (leftover || shown) continue;
        for (const TscInterval& t : times_on(host, *s, tid, gaps[g].time)) {
          parts.push_back({s.get(), gaps[g], 0, 0, t});
          whole = false;
        }
      }
    };
    for (size_t k = 0; k < stretches.size(); ++k) {
      take_gaps(stretches[k].begin);
      const Slice* owner = s->owner(k);
      if (owner ? owner->tid != tid : !s->may_be(k, tid)) continue;
      if (!owner && !s->cr3_pids.empty()) {
        // Around a context switch: what ran is the stream's to tell, and nobody's.
        const Event e = unattributed_gap(stretches[k]);
        for (const TscInterval& t : times_on(host, *s, tid, e.time)) parts.push_back({s.get(), e, 0, 0, t});
        whole = false;
        shown_to = 0;
        continue;
      }
      TscInterval ran{stretches[k].begin_time.earliest, stretches[k].end_time.latest};
      RecordTime in{0}, out = RecordTime::max();
      if (owner && host.clock.known) {
        const Slice& last = s->slices[s->owners[k].last];
        in = owner->in;
        out = last.out;
        if (owner->in != RecordTime(0)) ran.earliest = std::max(ran.earliest, host.clock.to_tsc(owner->in).earliest);
        if (last.out != RecordTime::max()) ran.latest = std::min(ran.latest, host.clock.to_tsc(last.out).latest);
      }
      shown_to = owner ? stretches[k].end : 0;
      // Of one slice only: between stretches that may be the thread's it may have run on another CPU.
      if (whole && owner && !parts.empty() && parts.back().last + 1 == k && s->owner(k - 1) &&
          s->owners[k].first == s->owners[k - 1].first) {
        parts.back().last = k;
        parts.back().time.latest = std::max(parts.back().time.latest, ran.latest);
        parts.back().out = std::max(parts.back().out, out);
      } else {
        parts.push_back({s.get(), std::nullopt, k, k, ran, in, out});
        whole = true;
      }
    }
    take_gaps(~uint64_t{0});
    if (!parts.empty()) per_stream.push_back(std::move(parts));
  }
  // Merge: order inside a stream is certain, between streams it is by time.
  std::vector<Piece> merged;
  std::vector<size_t> at(per_stream.size(), 0);
  for (;;) {
    size_t best = per_stream.size();
    for (size_t i = 0; i < per_stream.size(); ++i) {
      if (at[i] == per_stream[i].size()) continue;
      if (best == per_stream.size() || per_stream[i][at[i]].time.earliest < per_stream[best][at[best]].time.earliest)
        best = i;
    }
    if (best == per_stream.size()) return merged;
    merged.push_back(per_stream[best][at[best]++]);
  }
}

class Planner {
 public:
  Planner(const HostTrace::Impl& host, const ThreadInfo& thread) : host_(host), thread_(thread) {
    find_uncaptured();
    find_aux_losses();
    std::stable_sort(losses_.begin(), losses_.end(), [](const FlowEvent& a, const FlowEvent& b) {
      return a.event.time.earliest < b.event.time.earliest;
    });
  }

  FlowPlan plan() {
    const std::vector<Piece> pieces = pieces_of(host_, thread_);
    const Piece* before = nullptr;
    for (const Piece& p : pieces) {
      take_losses(p.time.earliest);
      if (p.gap) {
        FlowEvent g = gap(p.gap->cause, p.stream, p.time);
        g.event.offset = p.gap->offset;
        g.event.count = p.gap->count;
        tell(g);
      } else {
        // Two CPUs and neither clock says which came first.
        if (before && before->stream != p.stream && thread_.tid != kNoTid && before->out > p.in &&
            before->time.latest > p.time.earliest)
          tell(gap(GapCause::sideband_lost, p.stream, {p.time.earliest, before->time.latest}));
        add(p);
      }
      before = &p;
    }
    plan_.told = told_before_gaps_;
    take_losses(Tsc::max());
    return std::move(plan_);
  }

 private:
  void add(const Piece& p) {
    const auto& all = p.stream->trace.map.stretches;
    FlowPart part;
    part.stream = p.stream;
    part.first = p.first;
    part.last = p.last;
    part.begin = all[p.first].begin;
    part.end = all[p.last].end;
    part.time = p.time;
    part.gaps = plan_.gaps.size();
    part.told = told_before_gaps_;
    plan_.parts.push_back(part);
    const Tsc ends = std::max(all[p.last].end_time.earliest, p.time.earliest);
    told_ = bound_by(told_, {ends, p.time.latest});
    told_before_gaps_ = told_;
  }

  void tell(const FlowEvent& g) {
    plan_.gaps.push_back(g);
    told_ = bound_by(told_, g.event.time);
  }

  /// Slices on a CPU whose ring does not reach back that far, or whose trace is not here.
  void find_uncaptured() {
    const Slice* before = nullptr;  // the slice before, when nothing of it was captured
    for (const Slice& s : thread_.slices) {
      const PtStream* stream = nullptr;
      const CpuCoverage* coverage = nullptr;
      for (size_t i = 0; i < host_.streams.size(); ++i) {
        const PtStream& c = *host_.streams[i];
        if (c.info.tid == thread_.tid || (c.info.tid == kNoTid && c.info.cpu == s.cpu)) {
          stream = &c;
          coverage = &host_.coverage[i];
          break;
        }
      }
      const TscInterval ran{s.in == RecordTime(0) ? Tsc::min() : host_.clock.to_tsc(s.in).earliest,
                            s.out == RecordTime::max() ? Tsc::max() : host_.clock.to_tsc(s.out).latest};
      const Tsc covered = !stream                                          ? Tsc::max()
                          : coverage->first_psb == 0 && !coverage->wrapped ? Tsc::min()
                                                                           : surely_captured_from(*stream);
      if (ran.earliest >= covered || !host_.clock.known) {
        before = nullptr;
        continue;
      }
      FlowEvent g = gap(GapCause::not_captured, stream, {ran.earliest, std::min(ran.latest, covered)});
      g.cpu = s.cpu;
      // One gap for slices that follow each other on a CPU: had it run elsewhere in between, that would stand in the gap.
      if (before && before->cpu == s.cpu)
        losses_.back().event.time.latest = std::max(losses_.back().event.time.latest, g.event.time.latest);
      else
        losses_.push_back(g);
      before = ran.latest > covered ? nullptr : &s;
    }
  }

  /// Trace that the kernel says is missing, while this thread may have been on that CPU.
  void find_aux_losses() {
    for (const HostGap& h : host_.gaps) {
      if (h.cause != GapCause::aux_truncated || !host_.clock.known) continue;
      for (const auto& stream : host_.streams) {
        if (stream->info.cpu != h.cpu || (stream->info.tid != kNoTid && stream->info.tid != thread_.tid)) continue;
        const TscInterval lost =
            around(*stream, {host_.clock.to_tsc(h.from).earliest, host_.clock.to_tsc(h.to).latest});
        for (const TscInterval& t : times_on(host_, *stream, thread_.tid, lost))
          losses_.push_back(gap(GapCause::aux_truncated, stream.get(), t));
      }
    }
  }

  /// A moment, widened to the trace before and behind it that is surely there.
  static TscInterval around(const PtStream& stream, TscInterval moment) {
    TscInterval lost{Tsc::min(), Tsc::max()};
    for (const Stretch& s : stream.trace.map.stretches) {
      if (s.begin_time.latest <= moment.earliest) lost.earliest = s.begin_time.earliest;
      if (s.end_time.latest <= moment.earliest) lost.earliest = s.end_time.earliest;
      if (s.begin_time.earliest < moment.latest) continue;
      lost.latest = s.begin_time.latest;
      break;
    }
    return lost;
  }

  /// From then on nothing is missing for having been overwritten: the latest time that the first PSB can stand for.
  static Tsc surely_captured_from(const PtStream& stream) {
    for (const Event& g : stream.trace.map.gaps)
      if (g.cause == GapCause::not_captured && g.offset == 0) return g.time.latest;
    const auto& stretches = stream.trace.map.stretches;
    return stretches.empty() ? Tsc::max() : stretches.front().begin_time.latest;
  }

  /// Those that lie before what begins then, or all that are left.
  void take_losses(Tsc before) {
    for (; !losses_.empty(); losses_.pop_front()) {
      const Event& e = losses_.front().event;
      const Tsc from = e.time.earliest;
      // What a ring no longer held came before what it does. Other losses may lie behind a stretch that begins no later.
      const bool first = e.cause == GapCause::not_captured ? from <= before : from < before;
      if (!first && before != Tsc::max() && from != Tsc::min()) return;
      tell(losses_.front());
    }
  }

  FlowEvent gap(GapCause cause, const PtStream* stream, TscInterval time) const {
    FlowEvent g;
    g.event.kind = EventKind::gap;
    g.event.cause = cause;
    g.event.time = time;
    g.tid = thread_.tid;
    g.pid = thread_.pid;
    g.stretch = kNoStretch;
    if (stream) {
      g.cpu = stream->info.cpu;
      g.stream = stream->info.id;
    }
    return g;
  }

  const HostTrace::Impl& host_;
  const ThreadInfo& thread_;
  std::deque<FlowEvent> losses_;  // known by time alone
  FlowPlan plan_;
  TscInterval told_{Tsc::min(), Tsc::min()}, told_before_gaps_ = told_;
};

}  // namespace

FlowPlan plan_thread(const HostTrace::Impl& host, const ThreadInfo& thread) { return Planner(host, thread).plan(); }

FlowPlan plan_stream(const PtStream& stream) {
  FlowPlan plan;
  plan.whole_stream = true;
  FlowPart part;
  part.stream = &stream;
  part.last = std::max<size_t>(stream.trace.map.stretches.size(), 1) - 1;
  plan.parts.push_back(part);
  plan.told = TscInterval::unknown();
  return plan;
}

}  // namespace hindcast::decode
