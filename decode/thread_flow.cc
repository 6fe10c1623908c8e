#include "decode/thread_flow.h"

#include <algorithm>
#include <array>
#include <deque>

namespace hindcast::decode {
namespace {

/// Decodes one stream and says of each event whose it is.
class StreamReader final : ImageSelector {
 public:
  StreamReader(HostTrace::Impl& host, const PtStream& stream, const FlowOptions& options)
      : host_(host), stream_(stream) {
    const DecodeConfig config = host.decode_config(options.resync);
    auto decoder = options.engine == Engine::libipt
                       ? make_libipt_decoder(stream.trace, config, *this, host.code)
                       : make_fast_decoder(stream.trace, config, *this, host.code, host.graphs, host.engine_counts);
    if (decoder.ok())
      decoder_ = std::move(decoder).value();
    else
      error_ = decoder.error();
  }

  const std::optional<Error>& error() const { return error_; }
  const PtStream& stream() const { return stream_; }

  /// The next event, or nothing at the end; stays until pop().
  const FlowEvent* peek() {
    if (at_ == have_) {
      at_ = 0;
      have_ = decoder_->next(batch_);
      if (have_ == 0) return nullptr;
      fresh_ = true;
    }
    if (fresh_) {
      label(batch_[at_]);
      fresh_ = false;
    }
    return &current_;
  }
  void pop() {
    const Event& e = current_.event;
    read_to_ = std::max(read_to_, e.offset);
    if (e.kind == EventKind::gap && e.offset + e.count > gap_end()) farthest_gap_ = current_;
    ++at_;
    fresh_ = true;
  }

  /// The gap that reaches farthest of those that were read.
  const FlowEvent& farthest_gap() const { return farthest_gap_; }
  uint64_t gap_end() const { return farthest_gap_.event.offset + farthest_gap_.event.count; }

  /// Moves on to stretch s: by reading when it is near, else from its PSB.
  void go_to(size_t s) {
    const Stretch& st = stream_.trace.map.stretches[s];
    if (st.sync <= read_to_ || s == 0) return;
    decoder_->seek(st.begin);
    at_ = have_ = 0;
    read_to_ = st.sync;
  }

 private:
  std::shared_ptr<const CodeImage> image_at(uint64_t offset, Ip) override {
    const size_t s = stream_.inside(offset);
    return s < stream_.owners.size() ? host_.image_of(stream_, s) : nullptr;
  }

  void label(const Event& e) {
    current_ = {};
    current_.event = e;
    current_.cpu = stream_.info.cpu;
    current_.stream = stream_.info.id;
    // Most events lie in the stretch of the one before.
    const auto& all = stream_.trace.map.stretches;
    if (stretch_ >= all.size() || e.offset < all[stretch_].begin || e.offset > all[stretch_].end) {
      stretch_ = stream_.inside(e.offset);
      owner_ = stretch_ < all.size() ? stream_.owner(stretch_) : nullptr;
    }
    current_.stretch = stretch_ < all.size() ? static_cast<uint32_t>(stretch_) : kNoStretch;
    if (owner_) {
      current_.tid = owner_->tid;
      current_.pid = owner_->pid;
    }
  }

  HostTrace::Impl& host_;
  const PtStream& stream_;
  std::unique_ptr<FlowDecoder> decoder_;
  std::optional<Error> error_;
  std::array<Event, 256> batch_;
  size_t at_ = 0, have_ = 0;
  bool fresh_ = false;
  FlowEvent current_;
  FlowEvent farthest_gap_;
  size_t stretch_ = ~size_t{0};
  const Slice* owner_ = nullptr;
  uint64_t read_to_ = 0;
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

class StreamCursor final : public FlowCursor {
 public:
  StreamCursor(std::unique_ptr<StreamReader> reader, const FlowOptions& options)
      : reader_(std::move(reader)), time_(options.time) {
    const auto& all = reader_->stream().trace.map.stretches;
    const auto first =
        std::find_if(all.begin(), all.end(), [this](const Stretch& s) { return s.end_time.latest >= time_.earliest; });
    if (first != all.begin() && first != all.end()) reader_->go_to(static_cast<size_t>(first - all.begin()));
  }

  size_t next(std::span<FlowEvent> out) override {
    size_t n = 0;
    while (n < out.size()) {
      const FlowEvent* e = reader_->peek();
      // Lower bounds never decrease: once past the range, everything is.
      if (!e || e->event.time.earliest > time_.latest) break;
      if (e->event.time.latest >= time_.earliest) out[n++] = *e;
      reader_->pop();
    }
    return n;
  }

 private:
  std::unique_ptr<StreamReader> reader_;
  TscInterval time_;
};

class ThreadCursor final : public FlowCursor {
 public:
  ThreadCursor(HostTrace::Impl& host, const ThreadInfo& thread, const FlowOptions& options)
      : host_(host), thread_(thread), options_(options), parts_(thread_parts(host, thread.tid, options.time)) {
    find_uncaptured();
    find_aux_losses();
    std::stable_sort(losses_.begin(), losses_.end(), [](const FlowEvent& a, const FlowEvent& b) {
      return a.event.time.earliest < b.event.time.earliest;
    });
  }

  size_t next(std::span<FlowEvent> out) override {
    size_t n = 0;
    while (n < out.size()) {
      if (!ready_.empty()) {
        FlowEvent e = ready_.front();
        ready_.pop_front();
        // Program order is order in time, so what bounds one event from below bounds all later ones.
        e.event.time.earliest = std::max(e.event.time.earliest, last_.earliest);
        e.event.time.latest = std::max({e.event.time.latest, last_.latest, e.event.time.earliest});
        last_ = e.event.time;
        if (e.event.time.overlaps(options_.time)) out[n++] = e;
        continue;
      }
      if (part_ == parts_.size()) {
        if (losses_.empty()) break;
        take_losses(Tsc::max());
        continue;
      }
      step();
    }
    return n;
  }

 private:
  void step() {
    const FlowPart& part = parts_[part_];
    if (part.gap) {
      take_losses(part.time.earliest);
      FlowEvent g = gap(part.gap->cause, part.stream, part.time);
      g.event.offset = part.gap->offset;
      g.event.count = part.gap->count;
      ready_.push_back(g);
      ++part_;
      return;
    }
    StreamReader* reader = reader_of(*part.stream);
    if (!reader) {
      ready_.push_back(gap(GapCause::unsupported, part.stream, part.time));
      ++part_;
      return;
    }
    if (!entered_) {
      entered_ = true;
      take_losses(part.time.earliest);
      if (part_ > 0 && parts_[part_ - 1].stream != part.stream && thread_.tid != kNoTid) {
        const FlowPart& before = parts_[part_ - 1];
        // Two CPUs and neither clock says which came first.
        if (before.out > part.in && before.time.latest > part.time.earliest)
          ready_.push_back(gap(GapCause::sideband_lost, part.stream, {part.time.earliest, before.time.latest}));
      }
      reader->go_to(part.first);
      // A gap that this part begins in, and that was read for an earlier one.
      if (reader->gap_end() > part.stream->trace.map.stretches[part.first].begin) {
        FlowEvent again = gap(reader->farthest_gap().event.cause, part.stream, part.time);
        again.event.offset = reader->farthest_gap().event.offset;
        again.event.count = reader->farthest_gap().event.count;
        ready_.push_back(again);
      }
    }
    const FlowEvent* e = reader->peek();
    const uint64_t end = part.stream->trace.map.stretches[part.last].end;
    const uint64_t begin = part.stream->trace.map.stretches[part.first].begin;
    if (!e || e->event.offset > end) {
      ++part_;
      entered_ = false;
      return;
    }
    if (e->event.offset >= begin || hides(*e, begin)) {
      FlowEvent mine = *e;
      // It ran inside its slice.
      mine.event.time.earliest = std::max(mine.event.time.earliest, part.time.earliest);
      mine.event.time.latest = std::max(mine.event.time.earliest, std::min(mine.event.time.latest, part.time.latest));
      mine.tid = thread_.tid;
      mine.pid = thread_.pid;
      ready_.push_back(mine);
    }
    reader->pop();
  }

  /// A gap that began in somebody else's stretch and lasts into ours.
  static bool hides(const FlowEvent& e, uint64_t begin) {
    return e.event.kind == EventKind::gap && e.event.offset + e.event.count > begin;
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

  void take_losses(Tsc before) {
    while (!losses_.empty()) {
      const Event& e = losses_.front().event;
      const Tsc from = e.time.earliest;
      // What a ring no longer held came before what it does. Other losses may lie behind a stretch that begins no later.
      const bool first = e.cause == GapCause::not_captured ? from <= before : from < before;
      if (!first && before != Tsc::max() && from != Tsc::min()) return;
      ready_.push_back(losses_.front());
      losses_.pop_front();
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

  StreamReader* reader_of(const PtStream& stream) {
    for (const auto& r : readers_)
      if (&r->stream() == &stream) return r->error() ? nullptr : r.get();
    readers_.push_back(std::make_unique<StreamReader>(host_, stream, options_));
    return readers_.back()->error() ? nullptr : readers_.back().get();
  }

  HostTrace::Impl& host_;
  const ThreadInfo& thread_;
  FlowOptions options_;
  std::vector<FlowPart> parts_;
  size_t part_ = 0;
  bool entered_ = false;
  std::vector<std::unique_ptr<StreamReader>> readers_;
  std::deque<FlowEvent> ready_;
  std::deque<FlowEvent> losses_;  // known by time alone
  TscInterval last_{Tsc::min(), Tsc::min()};
};

}  // namespace

std::vector<FlowPart> thread_parts(const HostTrace::Impl& host, Tid tid, const TscInterval& time) {
  const auto thread =
      std::find_if(host.threads.begin(), host.threads.end(), [tid](const ThreadInfo& t) { return t.tid == tid; });
  const bool has_slices = thread != host.threads.end() && !thread->slices.empty();
  std::vector<std::vector<FlowPart>> per_stream;
  for (const auto& s : host.streams) {
    std::vector<FlowPart> parts;
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
        if (leftover || shown || !gaps[g].time.overlaps(time)) continue;
        for (const TscInterval& t : times_on(host, *s, tid, gaps[g].time)) {
          parts.push_back({s.get(), &gaps[g], 0, 0, t});
          whole = false;
        }
      }
    };
    for (size_t k = 0; k < stretches.size(); ++k) {
      take_gaps(stretches[k].begin);
      const Slice* owner = s->owner(k);
      if (owner ? owner->tid != tid : !s->may_be(k, tid)) continue;
      TscInterval ran{stretches[k].begin_time.earliest, stretches[k].end_time.latest};
      if (!ran.overlaps(time)) continue;
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
        parts.push_back({s.get(), nullptr, k, k, ran, in, out});
        whole = true;
      }
    }
    take_gaps(~uint64_t{0});
    if (!parts.empty()) per_stream.push_back(std::move(parts));
  }
  // Merge: order inside a stream is certain, between streams it is by time.
  std::vector<FlowPart> merged;
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

Result<std::unique_ptr<FlowCursor>> make_stream_cursor(HostTrace::Impl& host, const PtStream& stream,
                                                       const FlowOptions& options) {
  auto reader = std::make_unique<StreamReader>(host, stream, options);
  if (reader->error()) return Error(*reader->error());
  return std::unique_ptr<FlowCursor>(std::make_unique<StreamCursor>(std::move(reader), options));
}

Result<std::unique_ptr<FlowCursor>> make_thread_cursor(HostTrace::Impl& host, const ThreadInfo& thread,
                                                       const FlowOptions& options) {
  return std::unique_ptr<FlowCursor>(std::make_unique<ThreadCursor>(host, thread, options));
}

}  // namespace hindcast::decode
