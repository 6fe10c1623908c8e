// The events of a flow, part by part, from any place on.
//
// A page is what lies between two PSBs of a part, by the packets that decided the events. To tell a page as a reader does
// that comes from the part's beginning, decoding starts one PSB earlier: a block may run across a PSB.
#include <algorithm>
#include <deque>
#include <utility>

#include "decode/stream_reader.h"
#include "decode/stretch_events.h"
#include "decode/thread_flow.h"

namespace hindcast::decode {
namespace {

class Cursor final : public SeekableFlow {
 public:
  Cursor(HostTrace::Impl& host, FlowPlan plan, Tid tid, Pid pid, const FlowOptions& options)
      : host_(host), plan_(std::move(plan)), tid_(tid), pid_(pid), options_(options) {
    for (size_t i = 0; i < plan_.parts.size(); ++i) add_pages(i);
    first_page_.push_back(pages_.size());
    pages_.push_back({plan_.parts.size(), 0});
    number_parts();
    told_ = {Tsc::min(), Tsc::min()};
    if (options_.time.earliest != Tsc::min()) seek(options_.time.earliest);
  }

  size_t next(std::span<FlowEvent> out) override {
    size_t n = 0;
    while (n < out.size()) {
      if (buffered_ && at_ < buffer_.size()) {
        out[n] = buffer_[at_++];
      } else {
        leave_buffer();
        size_t page;
        if (!read(out[n], page)) break;
        if (out[n].event.time.earliest > options_.time.latest) {
          unread(out[n], page);
          break;
        }
        came_by(page);
      }
      if (out[n].event.time.overlaps(options_.time)) ++n;
    }
    return n;
  }

  size_t previous(std::span<FlowEvent> out) override {
    size_t n = 0;
    while (n < out.size()) {
      if (!buffered_) load(place_);
      if (at_ == 0) {
        if (first_ == 0 && buffer_page_ == 0) break;
        load(first_ == 0 ? Place{buffer_page_ - 1, kAll} : Place{buffer_page_, first_});
        continue;
      }
      const FlowEvent& e = buffer_[at_ - 1];
      if (e.event.time.latest < options_.time.earliest) break;
      --at_;
      if (e.event.time.overlaps(options_.time)) out[n++] = e;
    }
    return n;
  }

  void seek(Tsc time) override {
    time = std::max(time, options_.time.earliest);
    const auto [page, before] = surely_before(time);
    open(page, before);
    place_ = {pages_.size() - 1, kAll};
    FlowEvent e;
    for (size_t p; read(e, p);) {
      if (e.event.time.latest < time) continue;
      place_.page = p;
      place_.time = time;
      unread(e, p);
      break;
    }
  }

  void seek_end() override {
    if (options_.time.latest == Tsc::max()) {
      load({pages_.size() - 1, kAll});
      return;
    }
    seek(options_.time.latest);
    FlowEvent e;
    for (size_t page; read(e, page); came_by(page)) {
      if (e.event.time.earliest <= options_.time.latest) continue;
      unread(e, page);
      break;
    }
  }

  bool seek_instruction(uint64_t number) override {
    if (!instructions() || number >= *instructions()) return false;
    const auto behind = std::upper_bound(numbers_.begin(), numbers_.end(), number);
    const auto part = static_cast<size_t>(behind - numbers_.begin()) - 1;
    const FlowPart& p = plan_.parts[part];
    const FlowIndex& index = *p.stream->index;
    const uint64_t in_stream = number - numbers_[part] + index.before[p.first];
    const FlowIndex::Place* place = index.place(in_stream, p.end);
    if (place && place->psb <= p.begin) place = nullptr;
    while (!go_to_instruction(part, place, number))
      place = place == index.places.data() || (place - 1)->psb <= p.begin ? nullptr : place - 1;
    return true;
  }

  std::optional<uint64_t> instructions() const override {
    return numbers_.empty() ? std::nullopt : std::optional(numbers_.back());
  }

 private:
  static constexpr size_t kAll = ~size_t{0};

  struct Page {
    size_t part;    // plan_.parts.size(): the gaps behind all parts
    uint64_t from;  // events that a packet behind it decided; 0: the part's first ones, and the gaps before it
  };
  struct Place {
    size_t page = 0;
    size_t index = 0;              // events of the page before it; kAll: the page's end, unless it stands
    uint64_t number = kNoNumber;   // before the block that has this instruction,
    std::optional<Tsc> time = {};  // or before the first event that may have happened then,
    size_t behind = 0;             // or so many events behind that
  };

  void add_pages(size_t part) {
    const FlowPart& p = plan_.parts[part];
    first_page_.push_back(pages_.size());
    pages_.push_back({part, 0});
    const std::vector<uint64_t>& psbs = p.stream->trace.map.psbs;
    for (auto psb = std::upper_bound(psbs.begin(), psbs.end(), p.begin); psb != psbs.end() && *psb < p.end; ++psb)
      pages_.push_back({part, *psb});
  }

  void number_parts() {
    if (options_.engine != Engine::fast || options_.resync != Resync::earliest) return;
    for (const FlowPart& p : plan_.parts)
      if (!p.stream->index) return;
    uint64_t number = 0;
    for (const FlowPart& p : plan_.parts) {
      numbers_.push_back(number);
      const std::vector<uint64_t>& before = p.stream->index->before;
      number += before[std::min(p.last + 1, before.size() - 1)] - before[p.first];
    }
    numbers_.push_back(number);
  }

  // ---- reading on
  /// The next event and its page.
  bool read(FlowEvent& out, size_t& page) {
    if (unread_) {
      std::tie(out, page) = *std::exchange(unread_, std::nullopt);
      return true;
    }
    while (!read_part(out)) {
      if (part_ == plan_.parts.size()) return false;
      leave_part();
    }
    page = page_;
    return true;
  }
  void unread(const FlowEvent& e, size_t page) { unread_.emplace(e, page); }

  /// False at the end of the part, or behind the last gap.
  bool read_part(FlowEvent& out) {
    const bool last = part_ == plan_.parts.size();
    const size_t gaps = last ? plan_.gaps.size() : plan_.parts[part_].gaps;
    if (gap_ < gaps) {
      out = plan_.gaps[gap_++];
      tell(out);
      return true;
    }
    if (last) return false;
    const FlowPart& p = plan_.parts[part_];
    if (!entered_) {
      entered_ = true;
      if (const auto g = enter(p)) {
        out = *g;
        tell(out);
        return true;
      }
    }
    const Event* e = peek();
    if (!e || e->offset > p.end || (e->offset == p.end && begins_stretch(*e))) return false;
    turn_page(*e);
    take(out);
    return true;
  }

  /// To that of an event of the part.
  void turn_page(const Event& e) {
    while (page_ + 1 < pages_.size() && pages_[page_ + 1].part == part_ && e.offset > pages_[page_ + 1].from) ++page_;
  }

  void leave_part() {
    ++part_;
    page_ = first_page_[part_];
    entered_ = false;
    told_ = bound_by(told_, told_before(part_));
  }

  /// Perhaps a gap that it begins in.
  std::optional<FlowEvent> enter(const FlowPart& p) {
    reader_ = reader_of(*p.stream);
    if (!numbers_.empty()) number_ = numbers_[part_];
    if (!reader_) {
      Event e;
      e.kind = EventKind::gap;
      e.cause = GapCause::unsupported;
      e.time = p.time;
      return gap(p, e);
    }
    if (!plan_.whole_stream)
      reader_->go_to(p.first);
    else if (reader_->is_elsewhere())
      reader_->seek(p.begin);
    reader_->pop_before(p.begin);
    // What ends where a stretch begins may be another one's.
    const bool follows =
        part_ > 0 && plan_.parts[part_ - 1].stream == p.stream && plan_.parts[part_ - 1].end == p.begin;
    if (follows || (!plan_.whole_stream && begins_by_handover(p)))
      for (const Event* e = peek(); e && e->offset == p.begin && !begins_stretch(*e); e = peek()) reader_->pop();
    if (plan_.whole_stream || reader_->gap_end() <= p.begin) return std::nullopt;
    Event e = reader_->farthest_gap();
    e.ip = 0;
    const Tsc latest = p.stream->trace.map.stretches[p.first].begin_time.latest;
    e.time = {p.time.earliest, std::max(p.time.earliest, std::min(p.time.latest, latest))};
    return gap(p, e);
  }

  static bool begins_by_handover(const FlowPart& p) {
    return p.stream->trace.map.stretches[p.first].start == StretchStart::handover;
  }

  FlowEvent gap(const FlowPart& p, const Event& e) const {
    FlowEvent g;
    g.event = e;
    g.tid = tid_;
    g.pid = pid_;
    g.cpu = p.stream->info.cpu;
    g.stream = p.stream->info.id;
    g.stretch = kNoStretch;
    return g;
  }

  /// The event that peek() shows.
  void take(FlowEvent& out) {
    reader_->take(out);
    if (!plan_.whole_stream) {
      // It ran inside its slice, but for what was under way at a handover.
      const FlowPart& p = plan_.parts[part_];
      const TscInterval& ran = p.time;
      TscInterval& t = out.event.time;
      if (!begins_by_handover(p)) t.earliest = std::max(t.earliest, ran.earliest);
      t.latest = std::max(t.earliest, std::min(t.latest, ran.latest));
      out.tid = tid_;
      out.pid = pid_;
    }
    tell(out);
  }

  void tell(FlowEvent& e) {
    e.event.time = told_ = bound_by(told_, e.event.time);
    e.number = number_;
    if (number_ != kNoNumber && e.event.kind == EventKind::block) number_ += e.event.count;
  }

  const TscInterval& told_before(size_t part) const {
    return part == plan_.parts.size() ? plan_.told : plan_.parts[part].told;
  }

  StreamReader* reader_of(const PtStream& stream) {
    for (const auto& r : readers_)
      if (&r->stream() == &stream) return r->error() ? nullptr : r.get();
    readers_.push_back(std::make_unique<StreamReader>(host_, stream, options_));
    return readers_.back()->error() ? nullptr : readers_.back().get();
  }

  // ---- going elsewhere
  /// Before the page's first event; or before one behind it, past events that packets before `before` decided.
  void open(size_t page, uint64_t before = 0) {
    buffered_ = false;
    buffer_.clear();
    unread_.reset();
    place_ = {page, 0};
    page_ = page;
    part_ = pages_[page].part;
    for (const auto& r : readers_) r->leave();
    entered_ = false;
    gap_ = part_ == 0 ? 0 : plan_.parts[part_ - 1].gaps;
    told_ = told_before(part_);
    number_ = !numbers_.empty() ? numbers_[part_] : page == 0 ? 0 : kNoNumber;
    if (pages_[page].from == 0) return;
    const FlowPart& p = plan_.parts[part_];
    uint64_t from = pages_[page - 1].from;
    const FlowIndex::Place* place = nullptr;
    if (!numbers_.empty() && from != 0) {
      place = p.stream->index->place(kNoNumber, from);
      if (place && place->psb <= p.begin) place = nullptr;
      from = place ? place->psb : 0;
    }
    enter_at(from, place);
    skip(kNoNumber, std::max(pages_[page].from, before));
    FlowEvent dropped;
    for (const Event* e = peek(); e && e->offset <= pages_[page].from; e = peek()) take(dropped);
  }

  uint64_t skip(uint64_t most, uint64_t before) {
    const uint64_t skipped = reader_ ? reader_->skip(most, before) : 0;
    if (number_ != kNoNumber) number_ += skipped;
    return skipped;
  }

  const Event* peek() { return reader_ ? reader_->peek() : nullptr; }

  /// Into the part, past the gaps before it, at a PSB inside it; 0: at its beginning.
  void enter_at(uint64_t psb, const FlowIndex::Place* place) {
    const FlowPart& p = plan_.parts[part_];
    for (; gap_ < p.gaps; ++gap_) told_ = bound_by(told_, plan_.gaps[gap_].event.time);
    entered_ = true;
    if (psb == 0) {
      if (const auto g = enter(p)) told_ = bound_by(told_, g->event.time);
      return;
    }
    reader_ = reader_of(*p.stream);
    if (reader_) reader_->seek(psb);
    if (place) number_ = numbers_[part_] + place->number - p.stream->index->before[p.first];
  }

  /// False: what begins at the place is the rest of a block.
  bool go_to_instruction(size_t part, const FlowIndex::Place* place, uint64_t number) {
    open(first_page_[part]);
    enter_at(place ? place->psb : 0, place);
    if (!reader_) return true;
    bool passed = !place;
    for (;;) {
      passed |= skip(number - number_, ~uint64_t{0}) != 0;
      const Event* e = peek();
      if (!e) break;
      if (e->kind == EventKind::block && number - number_ < e->count) {
        turn_page(*e);
        break;
      }
      passed |= e->kind == EventKind::block;
      FlowEvent dropped;
      take(dropped);
    }
    place_ = {page_, kAll, number};
    return passed;
  }

  /// A page and a packet: no event before the page, and none of it that a packet before this one decided, may have happened
  /// then or later.
  std::pair<size_t, uint64_t> surely_before(Tsc time) const {
    size_t low = 0, high = plan_.parts.size();
    while (low < high) {  // parts: the gaps before a part bound those behind it
      const size_t middle = (low + high) / 2;
      if (told_before(middle + 1).latest < time)
        low = middle + 1;
      else
        high = middle;
    }
    if (low == plan_.parts.size()) return {first_page_[low], 0};
    const FlowPart& p = plan_.parts[low];
    for (size_t g = low == 0 ? 0 : plan_.parts[low - 1].gaps; g < p.gaps; ++g)
      if (plan_.gaps[g].event.time.latest >= time) return {first_page_[low], 0};
    if (p.told.latest >= time || p.time.earliest >= time) return {first_page_[low], 0};
    const PtTrace& trace = p.stream->trace;
    const std::optional<uint64_t> last = trace.times.last_before(time);
    uint64_t before = last ? std::max(*last, *last + 1) : 0;
    // Gaps last longer than the packet that they begin with.
    const auto gap = std::partition_point(trace.map.gaps.begin(), trace.map.gaps.end(),
                                          [&](const Event& g) { return g.time.latest < time; });
    if (gap != trace.map.gaps.end()) before = std::min(before, gap->offset);
    const auto& all = trace.map.stretches;
    const auto stretch =
        std::partition_point(all.begin(), all.end(), [&](const Stretch& s) { return s.end_time.latest < time; });
    if (stretch != all.end() && !host_.image_of(*p.stream, static_cast<size_t>(stretch - all.begin())))
      before = std::min(before, stretch->begin);
    const auto first = pages_.begin() + static_cast<ptrdiff_t>(first_page_[low]);
    const auto end = pages_.begin() + static_cast<ptrdiff_t>(first_page_[low + 1]);
    const auto page = std::partition_point(first + 1, end, [&](const Page& q) { return q.from < before; });
    return {static_cast<size_t>(page - pages_.begin()) - 1, before};
  }

  // ---- going back
  /// Keeps the events of its page before it.
  void load(Place place) {
    open(place.page);
    first_ = 0;
    FlowEvent e;
    for (size_t page; first_ + buffer_.size() < place.index && read(e, page); buffer_.push_back(e)) {
      if (place.index == kAll && is_at(place, e)) place.index = first_ + buffer_.size() + place.behind;
      if (page != place.page || first_ + buffer_.size() == place.index) {
        unread(e, page);
        break;
      }
      if (buffer_.size() < 2 * kMostKept) continue;
      buffer_.erase(buffer_.begin(), buffer_.begin() + kMostKept);
      first_ += kMostKept;
    }
    buffered_ = true;
    buffer_page_ = place.page;
    at_ = buffer_.size();
  }

  static bool is_at(const Place& place, const FlowEvent& e) {
    if (place.time) return e.event.time.latest >= *place.time;
    return place.number != kNoNumber && e.event.kind == EventKind::block && place.number - e.number < e.event.count;
  }

  void leave_buffer() {
    if (!std::exchange(buffered_, false)) return;
    place_ = {buffer_page_, first_ + buffer_.size()};
    buffer_.clear();
  }

  void came_by(size_t page) {
    if (page != place_.page)
      place_ = {page, 1};
    else if (place_.index == kAll)
      ++place_.behind;
    else
      ++place_.index;
  }

  HostTrace::Impl& host_;
  const FlowPlan plan_;
  const Tid tid_;
  const Pid pid_;
  const FlowOptions options_;
  std::vector<Page> pages_;
  std::vector<size_t> first_page_;  // of each part, and of what is behind all
  std::vector<uint64_t> numbers_;   // of each part's first instruction, and how many there are; empty: not known
  std::vector<std::unique_ptr<StreamReader>> readers_;

  // What is read next:
  size_t part_ = 0, page_ = 0, gap_ = 0;
  bool entered_ = false;
  StreamReader* reader_ = nullptr;
  TscInterval told_;  // no event before had later bounds
  uint64_t number_ = 0;
  std::optional<std::pair<FlowEvent, size_t>> unread_;

  // Where the position is: in the buffer, right behind which is what is read next; else
  Place place_;
  bool buffered_ = false;
  std::deque<FlowEvent> buffer_;
  size_t buffer_page_ = 0, first_ = 0, at_ = 0;  // first_: events of the page before the buffer's
};

}  // namespace

std::unique_ptr<SeekableFlow> open_stream_flow(HostTrace::Impl& host, const PtStream& stream,
                                               const FlowOptions& options) {
  return std::make_unique<Cursor>(host, plan_stream(stream), kNoTid, kNoPid, options);
}

std::unique_ptr<SeekableFlow> open_thread_flow(HostTrace::Impl& host, const ThreadInfo& thread,
                                               const FlowOptions& options) {
  return std::make_unique<Cursor>(host, plan_thread(host, thread), thread.tid, thread.pid, options);
}

}  // namespace hindcast::decode
