#include "decode/thread_flow.h"

#include <algorithm>
#include <array>
#include <deque>

namespace hindcast::decode {
namespace {

/// Decodes one stream and says of each event whose it is.
class StreamReader final : ImageSelector {
 public:
  StreamReader(HostTrace::Impl& host, const PtStream& stream, Resync resync) : host_(host), stream_(stream) {
    auto decoder = make_libipt_decoder(stream.trace, host.decode_config(resync), *this, host.code);
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
    read_to_ = std::max(read_to_, current_.event.offset);
    ++at_;
    fresh_ = true;
  }

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
    current_.stretch = static_cast<uint32_t>(stretch_);
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
  size_t stretch_ = ~size_t{0};
  const Slice* owner_ = nullptr;
  uint64_t read_to_ = 0;
};

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
        if (uncaptured_.empty()) break;
        take_uncaptured(Tsc::max());
        continue;
      }
      step();
    }
    return n;
  }

 private:
  void step() {
    const FlowPart& part = parts_[part_];
    StreamReader* reader = reader_of(*part.stream);
    if (!reader) {
      ready_.push_back(gap(GapCause::unsupported, part.stream, part.time));
      ++part_;
      return;
    }
    if (!entered_) {
      entered_ = true;
      take_uncaptured(part.time.earliest);
      if (part_ > 0 && parts_[part_ - 1].stream != part.stream && thread_.tid != kNoTid) {
        const FlowPart& before = parts_[part_ - 1];
        // Two CPUs and neither clock says which came first.
        if (before.out > part.in && before.time.latest > part.time.earliest)
          ready_.push_back(gap(GapCause::sideband_lost, part.stream, {part.time.earliest, before.time.latest}));
      }
      reader->go_to(part.first);
    }
    const FlowEvent* e = reader->peek();
    const uint64_t end = part.stream->trace.map.stretches[part.last].end;
    const uint64_t begin = part.stream->trace.map.stretches[part.first].begin;
    if (!e || e->event.offset > end) {
      ++part_;
      entered_ = false;
      return;
    }
    if (e->event.offset >= begin || hides(*e, begin) || touches(*e)) {
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

  /// A gap between stretches hides this thread if it was on that CPU meanwhile.
  bool touches(const FlowEvent& e) const {
    if (e.event.kind != EventKind::gap) return false;
    if (e.event.cause == GapCause::not_captured && !thread_.slices.empty())
      return false;  // find_uncaptured() knows more
    const PtStream* stream = host_.find_stream(e.stream);
    if (!stream || e.stretch < stream->owners.size()) return false;  // another thread's stretch
    const RecordTime from = host_.earliest_record_time(e.event.time.earliest);
    const RecordTime to = host_.latest_record_time(e.event.time.latest);
    return std::any_of(stream->slices.begin(), stream->slices.end(), [&](const Slice& s) {
      return (s.tid == thread_.tid || s.tid == kNoTid) && s.in <= to && from <= s.out;
    });
  }

  /// Slices on a CPU whose ring does not reach back that far, or whose trace is not here.
  void find_uncaptured() {
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
      if (ran.earliest >= covered || !host_.clock.known) continue;
      FlowEvent g = gap(GapCause::not_captured, stream, {ran.earliest, std::min(ran.latest, covered)});
      g.cpu = s.cpu;
      // One gap for slices that follow each other on a CPU.
      if (!uncaptured_.empty() && uncaptured_.back().cpu == s.cpu)
        uncaptured_.back().event.time.latest = std::max(uncaptured_.back().event.time.latest, g.event.time.latest);
      else
        uncaptured_.push_back(g);
    }
  }

  /// From then on nothing is missing for having been overwritten: the latest time that the first PSB can stand for.
  static Tsc surely_captured_from(const PtStream& stream) {
    for (const Event& g : stream.trace.map.gaps)
      if (g.cause == GapCause::not_captured) return g.time.latest;
    const auto& stretches = stream.trace.map.stretches;
    return stretches.empty() ? Tsc::max() : stretches.front().begin_time.latest;
  }

  void take_uncaptured(Tsc before) {
    while (!uncaptured_.empty() && uncaptured_.front().event.time.earliest <= before) {
      ready_.push_back(uncaptured_.front());
      uncaptured_.pop_front();
    }
  }

  FlowEvent gap(GapCause cause, const PtStream* stream, TscInterval time) const {
    FlowEvent g;
    g.event.kind = EventKind::gap;
    g.event.cause = cause;
    g.event.time = time;
    g.tid = thread_.tid;
    g.pid = thread_.pid;
    g.stretch = 0xffffffffu;
    if (stream) {
      g.cpu = stream->info.cpu;
      g.stream = stream->info.id;
    }
    return g;
  }

  StreamReader* reader_of(const PtStream& stream) {
    for (const auto& r : readers_)
      if (&r->stream() == &stream) return r->error() ? nullptr : r.get();
    readers_.push_back(std::make_unique<StreamReader>(host_, stream, options_.resync));
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
  std::deque<FlowEvent> uncaptured_;
  TscInterval last_{Tsc::min(), Tsc::min()};
};

}  // namespace

std::vector<FlowPart> thread_parts(const HostTrace::Impl& host, Tid tid, const TscInterval& time) {
  std::vector<std::vector<FlowPart>> per_stream;
  for (const auto& s : host.streams) {
    std::vector<FlowPart> parts;
    const auto& stretches = s->trace.map.stretches;
    for (size_t k = 0; k < stretches.size(); ++k) {
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
      if (!parts.empty() && parts.back().last + 1 == k && s->owners[k].certain == s->owners[k - 1].certain &&
          (!owner || s->owners[k].first == s->owners[k - 1].first)) {
        parts.back().last = k;
        parts.back().time.latest = std::max(parts.back().time.latest, ran.latest);
        parts.back().out = std::max(parts.back().out, out);
      } else {
        parts.push_back({s.get(), k, k, ran, in, out});
      }
    }
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
  auto reader = std::make_unique<StreamReader>(host, stream, options.resync);
  if (reader->error()) return Error(*reader->error());
  return std::unique_ptr<FlowCursor>(std::make_unique<StreamCursor>(std::move(reader), options));
}

Result<std::unique_ptr<FlowCursor>> make_thread_cursor(HostTrace::Impl& host, const ThreadInfo& thread,
                                                       const FlowOptions& options) {
  return std::unique_ptr<FlowCursor>(std::make_unique<ThreadCursor>(host, thread, options));
}

}  // namespace hindcast::decode
