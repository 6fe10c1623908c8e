#include "decode/fast/fast_engine.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "decode/fast/stretch_walk.h"
#include "decode/fast/walked_times.h"
#include "decode/stretch_events.h"

namespace hindcast::decode {
namespace {

constexpr size_t kBatch = 1024;
/// Up to some instruction or packet inside a batch: all of that is written down.
constexpr size_t kSmallBatch = 256;

class FastEngine final : public FastDecoder {
 public:
  FastEngine(const PtTrace& trace, const DecodeConfig& config, ImageSelector& images,
             std::unique_ptr<FlowDecoder> libipt, BlockGraphs& graphs, EngineCounts& counts)
      : trace_(trace),
        all_(trace.map.stretches),
        times_(trace.times),
        resync_(config.resync),
        images_(images),
        libipt_(std::move(libipt)),
        graphs_(graphs),
        counts_(counts),
        all_walked_(std::all_of(all_.begin(), all_.end(), is_walked)),
        walk_(trace, !config.options.noretcomp, graphs.memo()) {}

  size_t next(std::span<Event> out) override {
    batch_ = kBatch;
    size_t n = 0;
    while (n < out.size()) {
      if (taken_ < ready_.size()) {
        out[n++] = ready_[taken_++];
        continue;
      }
      ready_.clear();
      taken_ = 0;
      if (written_ < walked_) {
        n += write_down(out.subspan(n));
        continue;
      }
      if (stopped_) {
        go_on(*std::exchange(stopped_, std::nullopt));
        continue;
      }
      if (state_ == State::done) break;
      step();
    }
    return n;
  }

  bool next(Ran& out) override {
    batch_ = kBatch;
    for (;;) {
      if (taken_ < ready_.size()) {
        out = {};
        out.events = std::span<const Event>(ready_).subspan(taken_);
        taken_ = ready_.size();
        return true;
      }
      ready_.clear();
      taken_ = 0;
      if (written_ < walked_) {
        if (hand_out_ids(out)) return true;
        // Of a block that began before the first one, or goes on behind the last one.
        Event e;
        if (write_down({&e, 1}) != 0) ready_.push_back(e);
        continue;
      }
      if (stopped_) {
        go_on(*std::exchange(stopped_, std::nullopt));
        continue;
      }
      if (state_ == State::done) return false;
      step();
    }
  }

  void skip(uint64_t most, uint64_t before, Skipped& skipped) override {
    skipped.part = 0;
    const auto& psbs = trace_.map.psbs;
    const bool stops_at_psb = before == ~uint64_t{0} || std::binary_search(psbs.begin(), psbs.end(), before);
    batch_ = most == ~uint64_t{0} && stops_at_psb ? kBatch : kSmallBatch;
    const uint64_t last = most > ~uint64_t{0} - skipped.instructions ? ~uint64_t{0} : skipped.instructions + most;
    for (;;) {
      for (; taken_ < ready_.size(); ++taken_) {
        const Event& e = ready_[taken_];
        begun(begins_stretch(e) ? e.offset + 1 : e.offset, skipped);
        const uint64_t n = e.kind == EventKind::block ? e.count : 0;
        // A gap is over where it ends.
        const uint64_t decided = e.offset + (e.kind == EventKind::gap ? e.count : 0);
        if (n > last - skipped.instructions || decided >= before) return;
        skipped.instructions += n;
      }
      ready_.clear();
      taken_ = 0;
      if (written_ < walked_) {
        if (skip_walked(last, before, skipped)) continue;
        Event e;
        if (write_down({&e, 1}) != 0) ready_.push_back(e);
      } else if (stopped_) {
        const bool at_psb = stopped_ == StretchWalk::Found::psb;
        if (at_psb && walk_.offset() > before) return;
        const bool is_there = at_psb && walk_.offset() == before;
        go_on(*std::exchange(stopped_, std::nullopt));
        if (!is_there || state_ != State::walking) continue;
        for (const Event& e : ready_) skipped.instructions += e.count;
        ready_.clear();
        if (held_) skipped.part = held_->count;
        return;
      } else if (state_ == State::done || is_behind(before)) {
        return;
      } else {
        step();
      }
    }
  }
  uint64_t seekable_from() const override { return seekable_from_; }

  void seek(uint64_t offset) override {
    ready_.clear();
    taken_ = written_ = walked_ = inside_ = 0;
    stopped_.reset();
    held_.reset();
    times_.forget_order();
    between_previous_ = kNowhere;
    last_event_.reset();
    lost_to_ = 0;
    unknown_stack();
    last_psb_failed_ = seekable_from_ = 0;
    const uint64_t psb = trace_.last_psb(offset);
    gap_ = 0;
    while (gap_ < trace_.map.gaps.size() && trace_.map.gaps[gap_].offset < psb) ++gap_;
    s_ = trace_.stretch_at(psb);
    if (s_ < all_.size() && psb < all_[s_].end) {
      if (const auto first = shared_with_libipt()) {
        s_ = *first;
        begin_libipt(stretch().begin);
        libipt_from_ = psb;
      } else if (enter(psb)) {
        resume_at(psb);
      }
      return;
    }
    s_ = s_ < all_.size() ? s_ + 1 : 0;
    state_ = State::between;
  }

 private:
  enum class State : uint8_t { between, walking, resuming, libipt, done };

  const Stretch& stretch() const { return all_[s_]; }

  // ---- each step makes some progress and leaves zero or more events in ready_
  void step() {
    switch (state_) {
      case State::between:
        begin_stretch();
        break;
      case State::walking:
        walk();
        break;
      case State::resuming:
        resume();
        break;
      case State::libipt:
        forward_libipt();
        break;
      case State::done:
        break;
    }
  }

  // ---- passing over
  /// All that was walked, unless it is too much, or what comes next has to know of it.
  bool skip_walked(uint64_t last, uint64_t before, Skipped& skipped) {
    if (written_ != 0 || inside_ != 0 || stopped_ == StretchWalk::Found::stuck) return false;
    if (graph_->last_block(ids_[walked_ - 1]).end == BlockEnd::none) return false;
    const uint64_t used = walk_.last_used().value_or(previous_);
    if (used >= before) return false;
    begun(stretch().begin + 1, skipped);
    uint64_t n = held_ ? held_->count : 0;
    for (const BlockId id : std::span(ids_).first(walked_)) n += graph_->block(index_of(id)).through;
    if (n > last - skipped.instructions) return false;
    skipped.instructions += n;
    held_.reset();
    previous_ = used;
    written_ = walked_;
    return true;
  }

  void begun(uint64_t before, Skipped& skipped) const {
    while (skipped.first + skipped.before.size() < all_.size() &&
           all_[skipped.first + skipped.before.size()].begin < before)
      skipped.before.push_back(skipped.instructions);
  }

  bool is_behind(uint64_t psb) const {
    return state_ == State::resuming ? sync_ >= psb
                                     : state_ == State::between && s_ < all_.size() && all_[s_].begin >= psb;
  }

  void begin_stretch() {
    if (s_ >= all_.size()) {
      emit_packet_gaps(trace_.bytes.size() + 1);
      state_ = State::done;
      return;
    }
    const Stretch& st = stretch();
    emit_packet_gaps(st.begin + 1);
    // The CPU forgets the calls at a PSB, and after what was lost nobody knows them.
    if (st.sync != sync_ || st.start != StretchStart::enabled) walk_.stack().clear();
    sync_ = st.sync;
    if (!enter(st.begin)) return;
    previous_ = st.begin;
    // What went on here came from code that is not known whose it was.
    if (st.begin_ip == 0 && st.start == StretchStart::handover) return fail(GapCause::unattributed, st.begin, 0);
    if (!walk_.begin(st, *graph_)) return fail(walk_.stuck().cause, st.begin, 0);
    if (st.start == StretchStart::enabled) {
      Event e;
      e.kind = EventKind::enabled;
      e.ip = st.begin_ip;
      e.offset = st.begin;
      e.time = st.begin_time;
      emit(e);
    }
    state_ = State::walking;
  }

  /// Finds the code of the stretch, which is walked from `at` on, or passes it on. False when it is not walked here.
  bool enter(uint64_t at) {
    const Stretch& st = stretch();
    std::shared_ptr<const CodeImage> code = images_.image_at(st.begin, Ip(st.begin_ip));
    if (!code) {
      emit(unattributed_gap(st));
      unknown_stack();
      next_stretch();
      return false;
    }
    if (!is_walked(st)) {
      begin_libipt(at);
      return false;
    }
    ++counts_.fast;
    use_graph(code, st.bits);
    return true;
  }

  void use_graph(const std::shared_ptr<const CodeImage>& code, int bits) {
    if (graph_ && graph_->code() == code && graph_->bits() == bits && !graph_->full()) return;
    if (graph_) walk_.stack().leave(*graph_);
    graph_ = graphs_.of(code, bits);
  }

  void next_stretch() {
    release_held();
    between_previous_ = kNowhere;
    ++s_;
    state_ = State::between;
  }

  void unknown_stack() {
    walk_.stack().clear();
    sync_ = kNowhere;
  }

  // ---- walking
  void walk() {
    if (graph_->full()) change_graph(graph_->bits());
    written_ = walked_ = inside_ = 0;
    placed_ = false;
    stopped_ = walk_.next(std::span(ids_).first(batch_), walked_);
  }

  /// When the events of all that was walked are out.
  void go_on(StretchWalk::Found found) {
    next_ = walk_.next_offset();
    switch (found) {
      case StretchWalk::Found::blocks:
        break;
      case StretchWalk::Found::psb:
        cross_psb();
        break;
      case StretchWalk::Found::event:
        cross_event();
        break;
      case StretchWalk::Found::end:
        finish_stretch();
        break;
      case StretchWalk::Found::stuck:
        get_stuck();
        break;
    }
  }

  /// A block that the PSB's FUP stands inside of goes on behind it.
  void cross_psb() {
    std::optional<BlockPart> part;
    tail_.clear();
    const bool fits = walk_.cross_psb(tail_, part);
    ran_free(part);
    if (!fits && walk_.stuck().cause == GapCause::cut) last_psb_failed_ = walk_.stuck().offset;
    if (!fits) return get_stuck();
    sync_ = previous_ = walk_.last_psb();  // as for a walk that begins there
  }

  void cross_event() {
    PacketEvent event;
    std::optional<BlockPart> part;
    tail_.clear();
    const bool fits = walk_.cross_event(event, tail_, part);
    ran_free(part);
    if (!fits) return get_stuck();
    previous_ = event.last;
    for (const PacketEvent::Told& told : std::span(event.told).first(event.tells)) {
      if (told.kind == EventKind::exec_mode && event.bits == graph_->bits()) continue;
      Event e;
      e.kind = told.kind;
      if (told.kind == EventKind::exec_mode)
        e.ip = event.to;
      else if (told.kind != EventKind::paging)
        e.ip = event.at;
      if (told.kind == EventKind::exec_mode || told.kind == EventKind::tsx)
        e.count = static_cast<uint32_t>(told.value);
      else
        e.to = told.value;
      times_.place(e, event.first, event.last, &stretch());
      emit(e);
    }
    change_mode(event.bits);
  }

  void change_mode(int bits) {
    if (bits != 0 && bits != graph_->bits()) change_graph(bits);
  }
  /// The walk stands in the old one until it has moved.
  void change_graph(int bits) {
    const auto left = std::exchange(graph_, graphs_.of(graph_->code(), bits));
    walk_.move_to(*graph_);
  }

  /// What ran so far is told as the stretch's that ends, what is under way as that of the one that goes on.
  void hand_over() {
    const auto left = graph_;  // the walk stands in it until it has moved
    const std::shared_ptr<const CodeImage> code = images_.image_at(all_[s_ + 1].begin, Ip(0));
    if (!code) {
      unknown_stack();
      return next_stretch();
    }
    ++s_;
    ++counts_.fast;
    if (graph_->code() != code) graph_ = graphs_.of(code, graph_->bits());
    walk_.hand_over(stretch(), *graph_);
    state_ = State::walking;
  }

  void finish_stretch() {
    if (stretch().how == StretchEnd::handover) return hand_over();
    const Stretch& st = stretch();
    next_ = st.end;
    std::optional<BlockPart> part;
    tail_.clear();
    const bool fits = walk_.finish(tail_, part);
    ran_free(part);
    if (!fits) return get_stuck();
    if (st.how == StretchEnd::async_disabled) end_event(EventKind::async_disabled, st.end_ip, st.end_to);
    if (st.how == StretchEnd::disabled) end_event(EventKind::disabled, 0, st.end_to);
    if (st.stopped) emit(stopped_event(st));
    next_stretch();
  }

  void ran_free(const std::optional<BlockPart>& part) {
    for (const uint32_t index : tail_) emit_block(index);
    if (part) emit_part(*part);
  }

  void end_event(EventKind kind, uint64_t ip, uint64_t to) {
    Event e;
    e.kind = kind;
    e.ip = ip;
    e.to = to;
    e.offset = stretch().end;
    e.time = stretch().end_time;
    emit(e);
  }

  // ---- errors
  void get_stuck() {
    const StretchWalk::Stuck& stuck = walk_.stuck();
    for (uint32_t i = index_of(stuck.entered); i != 0; i = graph_->block(i).onward)
      if (graph_->block(i).onward != 0 || stuck.to_its_end) emit_block(i);
    fail(stuck.cause, stuck.offset, stuck.ip);
  }

  /// What follows `at` is lost up to where the path is certain again.
  void fail(GapCause cause, uint64_t at, uint64_t ip) {
    const Stretch& st = stretch();
    at = std::clamp(at, st.begin, st.end);
    const auto cut = std::upper_bound(trace_.cuts.begin(), trace_.cuts.end(), at);
    const uint64_t limit = cut == trace_.cuts.end() ? trace_.bytes.size() : *cut;
    const uint64_t from = std::max(at, last_psb_failed_ + 1);
    // All that is lost at once is one gap.
    const uint64_t psb =
        cause == GapCause::cut ? trace_.first_whole_psb(walk_.bytes(), from, limit) : trace_.first_psb(from, limit);
    unknown_stack();
    if (psb < st.end) {
      gap(cause, at, psb, ip);
      last_psb_failed_ = psb;
      resume_at(psb);
      return;
    }
    size_t next = s_ + 1;
    const auto before_psb = [&](size_t s) { return s < all_.size() && all_[s].begin < psb; };
    if (resync_ == Resync::earliest)
      while (before_psb(next) && (all_[next].start == StretchStart::resync || all_[next].begin_ip == 0)) ++next;
    else
      while (before_psb(next)) ++next;
    if (!before_psb(next) && next > s_ + 1 && psb <= all_[next - 1].end && psb < limit) {
      // In the middle of one that goes on with another.
      gap(cause, at, psb, ip);
      last_psb_failed_ = psb;
      release_held();
      s_ = next - 1;
      if (enter(psb)) resume_at(psb);
      return;
    }
    // Behind the stretch's end tracing was off: nothing of it is lost there.
    const bool went_off = next == s_ + 1 && st.how != StretchEnd::handover;
    gap(cause, at, went_off ? st.end : before_psb(next) ? all_[next].begin : psb, ip);
    s_ = next - 1;
    next_stretch();
  }

  /// Goes on inside the stretch at one of its PSBs, whose FUP says where: in the next step, since any number of them may
  /// say nothing.
  void resume_at(uint64_t psb) {
    sync_ = previous_ = psb;
    state_ = State::resuming;
  }
  void resume() {
    if (!walk_.begin_at_psb(stretch(), *graph_, sync_)) return fail(walk_.stuck().cause, sync_ + 1, 0);
    change_mode(walk_.psb_bits());  // it may have changed since the stretch began
    state_ = State::walking;
  }

  // ---- the libipt engine, for what is not plain
  static bool is_walked(const Stretch& st) {
    return st.plain && st.bits != 0 && (st.begin_ip != 0 || st.start == StretchStart::handover);
  }

  /// The stretch's calls may have been seen in the one before it.
  bool shares_stack(size_t s) const { return s > 0 && all_[s].sync < all_[s - 1].end; }

  /// The stretch from which on libipt has the stack, when it is left to libipt.
  std::optional<size_t> shared_with_libipt() {
    std::optional<size_t> first;
    if (all_walked_) return first;
    for (size_t s = s_;; --s) {
      if (!is_walked(all_[s]) && images_.image_at(all_[s].begin, Ip(all_[s].begin_ip))) first = s;
      if (!shares_stack(s)) return first;
    }
  }

  void begin_libipt(uint64_t at) {
    // Up to a stretch that has a PSB of its own: until there the calls that it saw are not known here.
    size_t t = s_ + 1;
    while (t < all_.size() && shares_stack(t)) ++t;
    counts_.libipt += t - s_;
    libipt_from_ = at;
    libipt_until_ = t < all_.size() ? all_[t].begin : kNowhere;
    seekable_from_ = t < all_.size() ? all_[t].sync : trace_.bytes.size();
    if (!last_event_ || last_event_->offset > at || stretch().sync > last_event_->offset) {
      libipt_->seek(at);
      last_event_.reset();
    }
    s_ = t;
    between_previous_ = kNowhere;
    unknown_stack();
    state_ = State::libipt;
  }

  /// What was read on the way to the stretch is not told, but for what a gap hides of it.
  static bool keep_behind(uint64_t from, Event& e) {
    if (e.offset >= from) return true;
    if (e.kind != EventKind::gap || e.offset + e.count <= from) return false;
    e.count -= static_cast<uint32_t>(from - e.offset);
    e.offset = from;
    return true;
  }

  void forward_libipt() {
    for (;;) {
      if (!last_event_) {
        Event e;
        if (libipt_->next({&e, 1}) == 0) break;
        last_event_ = e;
      }
      if (last_event_->offset >= libipt_until_) break;
      if (keep_behind(libipt_from_, *last_event_)) {
        emit(*last_event_);
        last_event_.reset();
        return;
      }
      last_event_.reset();
    }
    // The damage in front of the next stretch is not libipt's any more.
    for (; gap_ < trace_.map.gaps.size() && trace_.map.gaps[gap_].offset < libipt_until_; ++gap_) {
      const Event& g = trace_.map.gaps[gap_];
      if (g.cause == GapCause::desync && g.offset >= all_[s_ - 1].end && g.offset + g.count > lost_to_) emit(g);
    }
    state_ = State::between;
  }

  // ---- events
  /// Walked ids as they are, but for those that share a block with what is not among them. False: there is no such one next.
  bool hand_out_ids(Ran& out) {
    if (held_ || (inside_ != 0 && inside_ != index_of(ids_[written_]))) return false;
    const size_t until = graph_->last_block(ids_[walked_ - 1]).end == BlockEnd::none ? walked_ - 1 : walked_;
    if (written_ >= until) return false;
    place_walked();
    find_time();
    out = {};
    out.ids = std::span(ids_).first(until).subspan(written_);
    out.graph = graph_.get();
    out.first = written_;
    out.times = walked_times_.times().subspan(time_);
    written_ = until;
    inside_ = 0;
    return true;
  }

  /// Turns walked ids into events. How many events.
  size_t write_down(std::span<Event> out) {
    place_walked();
    walked_times_.find_offsets(walk_);
    Event* e = out.data();
    Event* const end = e + out.size();
    while (written_ < walked_ && e != end) {
      find_time();
      const bool last = time_ + 1 == walked_times_.times().size();
      e = write_down(walked_times_.times()[time_].time, last ? walked_ : walked_times_.times()[time_ + 1].first, e,
                     end);
    }
    return static_cast<size_t>(e - out.data());
  }

  /// Those before ids_[until], which share an interval. Behind the last event.
  Event* write_down(const TscInterval& time, size_t until, Event* e, Event* const end) {
    const uint32_t* const offsets = walked_times_.offsets().data();
    const uint64_t base = walked_times_.base();
    size_t i = written_;
    uint32_t inside = inside_ != 0 ? inside_ : index_of(ids_[i]);
    // Which superblock has how many blocks, no CPU can guess: only what is rare is a branch here.
    while (i < until && e != end) {
      const CodeBlock& b = graph_->block(inside);
      e->kind = EventKind::block;
      e->end = b.end;
      e->cause = GapCause::none;
      e->reserved = 0;
      e->count = b.count;
      e->ip = b.ip;
      e->last_ip = b.last_ip();
      e->to = 0;
      e->offset = base + offsets[i];
      e->time = time;
      if (held_) [[unlikely]]
        go_on_from(held_, *e);
      // What no branch ends goes on in the block that follows.
      if (b.end != BlockEnd::none) [[likely]]
        ++e;
      else
        held_ = *e;
      const bool through = b.onward == 0;
      i += through;
      const uint32_t next = index_of(ids_[i]);
      inside = through ? next : b.onward;
    }
    // Where ids_[i] was not begun, it begins with its own first block.
    written_ = i;
    inside_ = inside;
    return e;
  }

  /// Before the first of them is told, and not when they are passed over.
  void place_walked() {
    if (std::exchange(placed_, true)) return;
    walked_times_.find(walk_, std::span(ids_).first(walked_), previous_, stretch(), times_);
    time_ = 0;
    between_previous_ = kNowhere;
    previous_ = walked_times_.last_used();
  }

  void find_time() {
    while (time_ + 1 < walked_times_.times().size() && walked_times_.times()[time_ + 1].first <= written_) ++time_;
  }

  void emit_block(uint32_t index) {
    const CodeBlock& b = graph_->block(index);
    Event e;
    place_between();
    fill({b.ip, b.last_ip(), b.count}, b.end, e);
    if (b.end != BlockEnd::none)
      ready_.push_back(e);
    else
      held_ = e;
  }
  void emit_part(const BlockPart& p) {
    Event e;
    place_between();
    fill(p, BlockEnd::none, e);
    held_ = e;
  }

  /// What all blocks between the same two packets share.
  void place_between() {
    if (previous_ == between_previous_ && next_ == between_next_) return;
    const bool anew = between_previous_ == kNowhere;
    between_previous_ = previous_;
    between_next_ = next_;
    if (!anew && times_.same_window(std::min(previous_, next_), std::max(previous_, next_))) {
      between_.offset = EventTimes::offset_in(stretch(), std::max(previous_, next_));
      return;
    }
    between_ = {};
    between_.kind = EventKind::block;
    times_.place(between_, std::min(previous_, next_), std::max(previous_, next_), &stretch());
    times_.bound(between_);
  }

  void fill(const BlockPart& p, BlockEnd end, Event& e) {
    e = between_;
    e.end = end;
    e.count = p.count;
    e.ip = p.ip;
    e.last_ip = p.last_ip;
    go_on_from(held_, e);
  }

  void gap(GapCause cause, uint64_t from, uint64_t to, uint64_t ip) {
    Event e;
    e.kind = EventKind::gap;
    e.cause = cause;
    e.ip = ip;
    e.count = saturate(to - std::min(from, to));
    e.offset = from;
    e.time = trace_.times.window(std::min(previous_, from), std::max(from, to));
    emit(e);
  }

  /// What the packet scan knows to be missing before offset.
  void emit_packet_gaps(uint64_t offset) {
    const auto& gaps = trace_.map.gaps;
    for (; gap_ < gaps.size() && gaps[gap_].offset < offset; ++gap_) {
      if (gaps[gap_].cause == GapCause::pt_overflow) {
        Event e = gaps[gap_];
        e.kind = EventKind::overflow;
        e.cause = GapCause::none;
        e.count = 0;
        e.time = trace_.times.at(e.offset);
        if (s_ < all_.size() && all_[s_].start == StretchStart::overflow) e.to = all_[s_].begin_ip;
        emit(e);
      }
      emit(gaps[gap_]);
    }
  }

  void release_held() {
    if (held_) ready_.push_back(*std::exchange(held_, std::nullopt));
  }

  void emit(Event e) {
    if (e.kind == EventKind::gap) lost_to_ = std::max(lost_to_, e.offset + e.count);
    between_previous_ = kNowhere;  // times go on from here
    release_held();
    times_.bound(e);
    ready_.push_back(e);
  }

  static constexpr uint64_t kNowhere = ~uint64_t{0};

  const PtTrace& trace_;
  const std::vector<Stretch>& all_;
  EventTimes times_;
  const Resync resync_;
  ImageSelector& images_;
  std::unique_ptr<FlowDecoder> libipt_;
  BlockGraphs& graphs_;
  EngineCounts& counts_;

  State state_ = State::between;
  size_t s_ = 0;              // of all_: the stretch that is walked, or the next one
  size_t gap_ = 0;            // next of map.gaps
  uint64_t sync_ = kNowhere;  // the PSB since which the return stack is known
  uint64_t last_psb_failed_ = 0;
  const bool all_walked_;
  std::shared_ptr<BlockGraph> graph_;
  StretchWalk walk_;
  std::array<BlockId, kBatch + 1> ids_{};  // one more may be read
  WalkedTimes walked_times_;               // of ids_, when they are placed_
  bool placed_ = false;
  size_t time_ = 0;                            // that of ids_[written_], or one before it
  std::vector<uint32_t> tail_;                 // blocks before a PSB or a FUP, or of a stretch's end
  size_t batch_ = kBatch;                      // ids to walk at once
  size_t walked_ = 0, written_ = 0;            // of ids_: how many there are, and how many became events
  uint32_t inside_ = 0;                        // the next block of ids_[written_]; 0: its first
  std::optional<StretchWalk::Found> stopped_;  // why the walk stopped behind them

  uint64_t libipt_from_ = 0, libipt_until_ = 0;
  uint64_t seekable_from_ = 0;
  uint64_t lost_to_ = 0;             // gaps were told up to here
  std::optional<Event> last_event_;  // of libipt's, not handed out

  uint64_t previous_ = 0;                                           // the packet that was used last
  uint64_t next_ = 0;                                               // and the one that is used next
  Event between_;                                                   // of a block between these two
  uint64_t between_previous_ = kNowhere, between_next_ = kNowhere;  // kNowhere: it has to be made anew
  std::optional<Event> held_;                                       // a block that ended nowhere
  std::vector<Event> ready_;                                        // made and not yet handed out, from taken_ on
  size_t taken_ = 0;
};

}  // namespace

Result<std::unique_ptr<FastDecoder>> make_fast_decoder(const PtTrace& trace, const DecodeConfig& config,
                                                       ImageSelector& images, std::shared_ptr<IptCode> code,
                                                       BlockGraphs& graphs, EngineCounts& counts) {
  HC_TRY(std::unique_ptr<FlowDecoder> libipt, make_libipt_decoder(trace, config, images, std::move(code)));
  return std::unique_ptr<FastDecoder>(
      std::make_unique<FastEngine>(trace, config, images, std::move(libipt), graphs, counts));
}

}  // namespace hindcast::decode
