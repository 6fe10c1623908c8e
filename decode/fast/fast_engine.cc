#include "decode/fast/fast_engine.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "decode/fast/walker.h"
#include "decode/packet_reader.h"

namespace hindcast::decode {
namespace {

constexpr size_t kBatch = 1024;

uint32_t saturate(uint64_t v) { return static_cast<uint32_t>(std::min<uint64_t>(v, 0xffffffffu)); }

class FastEngine final : public FlowDecoder {
 public:
  FastEngine(const PtTrace& trace, const DecodeConfig& config, ImageSelector& images,
             std::unique_ptr<FlowDecoder> libipt, BlockGraphs& graphs, EngineCounts& counts)
      : trace_(trace),
        all_(trace.map.stretches),
        times_(trace.times),
        resync_(config.resync),
        ret_compression_(!config.options.noretcomp),
        images_(images),
        libipt_(std::move(libipt)),
        graphs_(graphs),
        counts_(counts) {}

  size_t next(std::span<Event> out) override {
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
        const WalkStop why = *stopped_;
        stopped_.reset();
        go_on(why);
        continue;
      }
      if (state_ == State::done) break;
      step();
    }
    return n;
  }

  void seek(uint64_t offset) override {
    ready_.clear();
    taken_ = written_ = walked_ = 0;
    stopped_.reset();
    held_.reset();
    last_time_ = {Tsc::min(), Tsc::min()};
    last_event_.reset();
    unknown_stack();
    const uint64_t psb = psb_at_or_before(offset);
    gap_ = 0;
    while (gap_ < trace_.map.gaps.size() && trace_.map.gaps[gap_].offset < psb) ++gap_;
    s_ = trace_.stretch_at(psb);
    if (s_ < all_.size() && psb < all_[s_].end) {
      if (enter(s_, false)) resume_at_psb(psb);
      return;
    }
    s_ = s_ < all_.size() ? s_ + 1 : 0;
    state_ = State::between;
  }

 private:
  enum class State : uint8_t { between, walking, libipt, done };

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
      case State::libipt:
        forward_libipt();
        break;
      case State::done:
        break;
    }
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
    if (st.sync != sync_ || st.start != StretchStart::enabled) stack_.clear();
    sync_ = st.sync;
    if (!enter(s_, true)) return;
    PacketReader reader(trace_.bytes);
    reader.seek(st.begin);
    Packet first;
    if (reader.next(first) != Step::ok) return fail(GapCause::desync, st.begin, 0);
    if (st.start == StretchStart::enabled) {
      Event e;
      e.kind = EventKind::enabled;
      e.ip = st.begin_ip;
      e.offset = st.begin;
      e.time = st.begin_time;
      emit(e);
    }
    lexer_.emplace(trace_.bytes, reader.offset(), st.end, st.begin_ip);
    previous_ = st.begin;
    begin_walk(st.begin_ip);
  }

  /// Finds the code of stretch s, or passes it on. False when it is not walked here.
  bool enter(size_t s, bool from_its_begin) {
    const Stretch& st = all_[s];
    std::shared_ptr<const CodeImage> code = images_.image_at(st.begin, Ip(st.begin_ip));
    if (!code) {
      Event e;
      e.kind = EventKind::gap;
      e.cause = GapCause::unattributed;
      e.ip = st.begin_ip;
      e.offset = st.begin;
      e.count = saturate(st.end - st.begin);
      e.time = {st.begin_time.earliest, st.end_time.latest};
      emit(e);
      unknown_stack();
      next_stretch();
      return false;
    }
    if (!st.plain || st.bits == 0 || st.begin_ip == 0) {
      begin_libipt(from_its_begin ? st.begin : 0);
      return false;
    }
    if (from_its_begin) ++counts_.fast;
    use_graph(code, st.bits);
    return true;
  }

  void use_graph(const std::shared_ptr<const CodeImage>& code, int bits) {
    if (graph_ && graph_->code() == code && graph_->bits() == bits && !graph_->full()) return;
    if (graph_) stack_.leave(*graph_);
    graph_ = graphs_.of(code, bits);
  }

  void begin_walk(uint64_t ip) {
    lanes_.bits = 0;
    lanes_.tips = lanes_.tnts = 0;
    lanes_.base = lexer_->offset();
    restart_lanes();
    walk_.at = graph_->at(ip);
    state_ = State::walking;
  }

  void restart_lanes() {
    walk_.bit = 0;
    walk_.tip = 0;
    walk_.free.reset();
    walk_.used = 0;
    replay_ = {};
  }

  void next_stretch() {
    release_held();
    ++s_;
    state_ = State::between;
  }

  void unknown_stack() {
    stack_.clear();
    sync_ = kNowhere;
  }

  // ---- walking
  void walk() {
    replay_.bit = walk_.bit;
    replay_.tip = walk_.tip;
    written_ = walked_ = 0;
    stopped_ = walk_blocks(*graph_, lanes_, ret_compression_, walk_, stack_, ids_, walked_);
  }

  /// When the events of all that was walked are out.
  void go_on(WalkStop why) {
    previous_or_next_ = next_offset();
    switch (why) {
      case WalkStop::out_full:
        if (graph_->full()) {
          const uint64_t ip = graph_->block(walk_.at).ip;
          use_graph(graph_->code(), graph_->bits());
          walk_.at = graph_->at(ip);
        }
        break;
      case WalkStop::used_all:
        if (!fill_lanes()) finish_stretch();
        break;
      case WalkStop::wants_tip:
        if (!fill_lanes()) fail_here();
        break;
      case WalkStop::unseen_call:
        emit_block(walk_.at);
        fail_here();
        break;
      case WalkStop::no_code:
      case WalkStop::wants_bit:
      case WalkStop::bad_return:
      case WalkStop::circle:
        fail_here();
        break;
    }
  }

  /// False when the stretch has no more.
  bool fill_lanes() {
    if (lexer_->stop() == LaneLexer::Stop::full) {
      const uint32_t whole = walk_.bit / 8 * 8;
      lexer_->more(lanes_, walk_.bit, walk_.tip);
      walk_.bit -= whole;
      walk_.tip = 0;
      walk_.free.reset();
      walk_.used = 0;
      replay_ = {};
      while (replay_.tnt < lanes_.tnts && lanes_.tnt_at[replay_.tnt].end <= walk_.bit) ++replay_.tnt;
      return true;
    }
    return lexer_->stop() == LaneLexer::Stop::psb && walk_.used_all(lanes_) && cross_psb();
  }

  bool cross_psb() {
    const uint64_t psb = lexer_->offset();
    const uint64_t ip = lexer_->cross_psb(lanes_);
    if (ip != 0 && !can_be_at(ip)) {
      fail(GapCause::desync, psb, ip);
      return true;
    }
    stack_.clear();
    sync_ = psb;
    restart_lanes();
    return true;
  }

  /// Whether the walk may stand before ip now, when it has used all trace up to here.
  bool can_be_at(uint64_t ip) {
    uint64_t ignored;
    CircleGuard guard;
    for (BlockId at = walk_.at;; at = graph_->next(at, true)) {
      if (graph_->instructions_before(at, ip, &ignored)) return true;
      if (kind_of(at) != BlockKind::jump && kind_of(at) != BlockKind::call) return false;
      if (guard.is_circle(at)) return false;
    }
  }

  // ---- the end of a stretch: what ran after the last TNT or TIP
  void finish_stretch() {
    const Stretch& st = stretch();
    previous_or_next_ = st.end;
    if (st.how == StretchEnd::async_disabled) {
      if (!run_to(st.end_ip)) return fail_here();
      end_event(EventKind::async_disabled, st.end_ip, st.end_to);
    } else if (st.how == StretchEnd::disabled) {
      if (!run_to_exit(st.end_to)) return fail_here();
      end_event(EventKind::disabled, 0, st.end_to);
    }
    if (st.how == StretchEnd::overflow) stack_.clear();
    next_stretch();
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

  /// Goes on without trace until before the instruction at ip. The first time that it is reached counts.
  bool run_to(uint64_t ip) {
    CircleGuard guard;
    for (;;) {
      uint64_t last;
      if (const auto n = graph_->instructions_before(walk_.at, ip, &last)) {
        if (*n != 0) emit_part(graph_->block(walk_.at).ip, last, *n);
        return true;
      }
      if (!step_free(guard)) return false;
    }
  }

  /// Goes on without trace up to and with the branch that leaves the trace, for `to` when that is known.
  bool run_to_exit(uint64_t to) {
    CircleGuard guard;
    for (;;) {
      const CodeBlock& b = graph_->block(walk_.at);
      switch (kind_of(walk_.at)) {
        case BlockKind::ret:
        case BlockKind::indirect:
        case BlockKind::indirect_call:
        case BlockKind::far:
          if (kind_of(walk_.at) == BlockKind::indirect_call) stack_.push(walk_.at);
          emit_block(walk_.at);
          return true;
        case BlockKind::branch:
          if (to == 0 || b.target != to) return false;
          emit_block(walk_.at);
          return true;
        case BlockKind::call:
        case BlockKind::jump:
          if (to != 0 && b.target == to) {
            if (kind_of(walk_.at) == BlockKind::call) stack_.push(walk_.at);
            emit_block(walk_.at);
            return true;
          }
          if (!step_free(guard)) return false;
          break;
        case BlockKind::stop:
          return false;
      }
    }
  }

  bool step_free(CircleGuard& guard) {
    const BlockKind kind = kind_of(walk_.at);
    if ((kind != BlockKind::jump && kind != BlockKind::call) || guard.is_circle(walk_.at)) return false;
    if (kind == BlockKind::call) stack_.push(walk_.at);
    emit_block(walk_.at);
    walk_.at = graph_->next(walk_.at, true);
    return true;
  }

  // ---- errors
  /// The walk cannot go on from the block where it stands.
  void fail_here() {
    const CodeBlock& b = graph_->block(walk_.at);
    if (kind_of(walk_.at) != BlockKind::stop) return fail(GapCause::desync, next_offset(), b.last_ip());
    if (b.count != 0) emit_block(walk_.at);
    fail(b.bad ? GapCause::desync : GapCause::image_missing, next_offset(), b.behind());
  }

  /// What follows `at` is lost up to where the path is certain again.
  void fail(GapCause cause, uint64_t at, uint64_t ip) {
    const Stretch& st = stretch();
    at = std::clamp(at, st.begin, st.end);
    const auto cut = std::upper_bound(trace_.cuts.begin(), trace_.cuts.end(), at);
    const uint64_t limit = cut == trace_.cuts.end() ? trace_.bytes.size() : *cut;
    // The PSB that a stretch begins with is behind us.
    const auto found = next_psb(trace_.bytes.first(limit), std::max(at, std::max(st.begin, last_psb_failed_) + 1));
    const uint64_t psb = found.value_or(limit);
    unknown_stack();
    const bool in_this = psb < st.end;
    size_t next = s_ + 1;
    if (!in_this && resync_ == Resync::earliest && next < all_.size() && all_[next].begin < psb &&
        all_[next].start != StretchStart::resync && all_[next].begin_ip != 0) {
      gap(cause, at, std::max(at, std::min(all_[next].begin, st.end)), ip);
      next_stretch();
      return;
    }
    gap(cause, at, psb, ip);
    if (in_this) {
      last_psb_failed_ = psb;
      resume_at_psb(psb);
      return;
    }
    while (s_ + 1 < all_.size() && all_[s_ + 1].begin < psb) ++s_;
    next_stretch();
  }

  /// Goes on inside the stretch at one of its PSBs, whose FUP says where.
  void resume_at_psb(uint64_t psb) {
    const Stretch& st = stretch();
    lexer_.emplace(trace_.bytes, psb, st.end, 0);
    lanes_.base = psb;
    const uint64_t ip = lexer_->cross_psb(lanes_);
    sync_ = psb;
    previous_ = psb;
    if (ip == 0) return fail(GapCause::desync, psb + 1, 0);
    begin_walk(ip);
  }

  // ---- the libipt engine, for what is not plain
  void begin_libipt(uint64_t from) {
    // Up to a stretch that has a PSB of its own: until there the calls that it saw are not known here.
    size_t t = s_ + 1;
    while (t < all_.size() && all_[t].sync < all_[t - 1].end) ++t;
    counts_.libipt += t - s_;
    libipt_from_ = from;
    libipt_until_ = t < all_.size() ? all_[t].begin : kNowhere;
    const uint64_t begin = stretch().begin;
    if (!last_event_ || last_event_->offset > begin || stretch().sync > last_event_->offset) {
      libipt_->seek(from == 0 ? begin : from);
      last_event_.reset();
    }
    s_ = t;
    unknown_stack();
    state_ = State::libipt;
  }

  void forward_libipt() {
    for (;;) {
      if (!last_event_) {
        Event e;
        if (libipt_->next({&e, 1}) == 0) break;
        last_event_ = e;
      }
      if (last_event_->offset >= libipt_until_) break;
      if (last_event_->offset >= libipt_from_) {
        emit(*last_event_);
        last_event_.reset();
        return;
      }
      last_event_.reset();
    }
    while (gap_ < trace_.map.gaps.size() && trace_.map.gaps[gap_].offset < libipt_until_) ++gap_;
    state_ = State::between;
  }

  // ---- events
  struct Replay {
    uint32_t bit = 0;
    size_t tip = 0, tnt = 0;
  };

  /// The offset of the packet that what is read next comes from.
  uint64_t next_offset() const {
    if (replay_.bit < bit_limit(lanes_, replay_.bit, replay_.tip) && replay_.tnt < lanes_.tnts)
      return lanes_.base + lanes_.tnt_at[replay_.tnt].offset;
    if (replay_.tip < lanes_.tips) return lanes_.base + lanes_.tip_offset[replay_.tip];
    return lexer_->offset();
  }

  /// Turns walked ids into events, taking the lanes once more to see which packet each belongs to. How many events.
  size_t write_down(std::span<Event> out) {
    size_t n = 0;
    for (; written_ < walked_ && n < out.size(); ++written_) {
      const BlockId id = ids_[written_];
      previous_or_next_ = next_offset();
      // What no branch ends goes on in the block that follows.
      if (block(id, out[n]))
        ++n;
      else
        held_ = out[n];
      switch (kind_of(id)) {
        case BlockKind::jump:
        case BlockKind::call:
        case BlockKind::stop:
          continue;
        case BlockKind::ret:
          if (!ret_compression_ || !is_compressed(replay_.bit, bit_limit(lanes_, replay_.bit, replay_.tip))) {
            take_tip();
            continue;
          }
          [[fallthrough]];
        case BlockKind::branch:
          previous_ = lanes_.base + lanes_.tnt_at[replay_.tnt].offset;
          if (++replay_.bit == lanes_.tnt_at[replay_.tnt].end) ++replay_.tnt;
          continue;
        case BlockKind::indirect:
        case BlockKind::indirect_call:
        case BlockKind::far:
          take_tip();
          continue;
      }
    }
    return n;
  }
  void take_tip() { previous_ = lanes_.base + lanes_.tip_offset[replay_.tip++]; }

  void emit_block(BlockId id) {
    Event e;
    if (block(id, e))
      ready_.push_back(e);
    else
      held_ = e;
  }
  void emit_part(uint64_t ip, uint64_t last_ip, uint32_t count) {
    Event e;
    part(ip, last_ip, count, e);
    held_ = e;
  }

  /// False when no branch ends it.
  bool block(BlockId id, Event& e) {
    const CodeBlock& b = graph_->block(id);
    part(b.ip, b.last_ip(), b.count, e);
    e.end = b.end;
    return b.end != BlockEnd::none;
  }

  void part(uint64_t ip, uint64_t last_ip, uint32_t count, Event& e) {
    e = {};
    e.kind = EventKind::block;
    e.count = count;
    e.ip = ip;
    e.last_ip = last_ip;
    place(e);
    if (held_) {
      e.ip = held_->ip;
      e.count += held_->count;
      e.time.earliest = held_->time.earliest;
      held_.reset();
    }
    bound(e);
  }

  void place(Event& e) {
    const uint64_t first = std::min(previous_, previous_or_next_), last = std::max(previous_, previous_or_next_);
    if (first != window_first_ || last != window_last_) {
      window_ = times_.window(first, last);
      window_first_ = first;
      window_last_ = last;
    }
    const Stretch& st = stretch();
    e.offset = std::clamp(last, st.begin + 1, st.end);
    e.time.earliest = std::max(window_.earliest, st.begin_time.earliest);
    e.time.latest = std::max(e.time.earliest, std::min(window_.latest, st.end_time.latest));
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
    release_held();
    bound(e);
    ready_.push_back(e);
  }

  void bound(Event& e) {
    // Events are in the order in which things happened, so what bounds one from below bounds all later ones.
    e.time.earliest = std::max(e.time.earliest, last_time_.earliest);
    e.time.latest = std::max(e.time.latest, last_time_.latest);
    last_time_ = e.time;
  }

  uint64_t psb_at_or_before(uint64_t offset) const {
    uint64_t psb = 0, from = 0;
    // Stretches know the PSB before them; from there on it is near.
    const size_t s = trace_.stretch_at(offset);
    if (s < all_.size()) psb = from = all_[s].sync;
    for (;;) {
      const auto found = next_psb(trace_.bytes, from);
      if (!found || *found > offset) return psb;
      psb = *found;
      from = *found + 1;
    }
  }

  static constexpr uint64_t kNowhere = ~uint64_t{0};

  const PtTrace& trace_;
  const std::vector<Stretch>& all_;
  TimeMap::Reader times_;
  const Resync resync_;
  const bool ret_compression_;
  ImageSelector& images_;
  std::unique_ptr<FlowDecoder> libipt_;
  BlockGraphs& graphs_;
  EngineCounts& counts_;

  State state_ = State::between;
  size_t s_ = 0;              // of all_: the stretch that is walked, or the next one
  size_t gap_ = 0;            // next of map.gaps
  uint64_t sync_ = kNowhere;  // the PSB since which the return stack is known
  uint64_t last_psb_failed_ = 0;
  std::shared_ptr<BlockGraph> graph_;
  ReturnStack stack_;
  std::optional<LaneLexer> lexer_;
  Lanes lanes_;
  Walk walk_;
  std::array<BlockId, kBatch> ids_;
  size_t walked_ = 0, written_ = 0;  // of ids_: how many there are, and how many became events
  std::optional<WalkStop> stopped_;  // why the walk stopped behind them

  uint64_t libipt_from_ = 0, libipt_until_ = 0;
  std::optional<Event> last_event_;  // of libipt's, not handed out

  Replay replay_;
  uint64_t previous_ = 0;          // the packet that was used last
  uint64_t previous_or_next_ = 0;  // and the one that is used next
  uint64_t window_first_ = kNowhere, window_last_ = kNowhere;
  TscInterval window_;
  TscInterval last_time_{Tsc::min(), Tsc::min()};
  std::optional<Event> held_;  // a block that ended nowhere
  std::vector<Event> ready_;   // made and not yet handed out, from taken_ on
  size_t taken_ = 0;
};

}  // namespace

Result<std::unique_ptr<FlowDecoder>> make_fast_decoder(const PtTrace& trace, const DecodeConfig& config,
                                                       ImageSelector& images, std::shared_ptr<IptCode> code,
                                                       BlockGraphs& graphs, EngineCounts& counts) {
  HC_TRY(std::unique_ptr<FlowDecoder> libipt, make_libipt_decoder(trace, config, images, std::move(code)));
  return std::unique_ptr<FlowDecoder>(
      std::make_unique<FastEngine>(trace, config, images, std::move(libipt), graphs, counts));
}

}  // namespace hindcast::decode
