#include "decode/engine_compare.h"

#include <algorithm>
#include <array>
#include <vector>

namespace hindcast::decode {
namespace {

bool is_loss(const Event& e) { return e.kind == EventKind::gap || e.kind == EventKind::overflow; }

/// One engine's events, with a look at the next one.
class Side {
 public:
  Side(std::unique_ptr<FlowCursor> cursor, std::function<void(const Event&)> told)
      : cursor_(std::move(cursor)), told_(std::move(told)) {
    fill();
  }
  const FlowEvent* peek() const { return at_ < have_ ? &batch_[at_] : nullptr; }
  void pop() {
    lost_ = is_loss(batch_[at_].event);
    if (++at_ == have_) fill();
  }
  /// What it said last is that something is lost.
  bool lost() const { return lost_; }

 private:
  void fill() {
    at_ = 0;
    have_ = cursor_->next(batch_);
    for (size_t i = 0; told_ && i < have_; ++i) told_(batch_[i].event);
  }

  std::unique_ptr<FlowCursor> cursor_;
  std::function<void(const Event&)> told_;
  std::array<FlowEvent, 256> batch_;
  size_t at_ = 0, have_ = 0;
  bool lost_ = false;
};

bool same(const Event& a, const Event& b) {
  return a.kind == b.kind && a.end == b.end && a.count == b.count && a.ip == b.ip && a.last_ip == b.last_ip &&
         a.to == b.to && a.time.overlaps(b.time);
}

/// What one side says is lost.
struct Loss {
  uint32_t stretch = 0;
  uint64_t from = 0, to = 0;
  GapCause cause = GapCause::none;
};

class Comparer {
 public:
  Comparer(Side fast, Side libipt) : fast_(std::move(fast)), libipt_(std::move(libipt)) {}

  EngineComparison run(const std::function<void(uint64_t)>& progress) {
    for (;;) {
      const FlowEvent* f = next_told(fast_);
      const FlowEvent* l = next_told(libipt_);
      if (!f && !l) break;
      const uint32_t stretch = !f ? l->stretch : !l ? f->stretch : std::min(f->stretch, l->stretch);
      const uint64_t offset = (f ? f : l)->event.offset;
      compare(stretch);
      if (progress && result_.stretches % 64 == 0) progress(offset);
    }
    return std::move(result_);
  }

 private:
  void compare(uint32_t stretch) {
    std::optional<Event> before, f, l;
    std::optional<EngineDifference> found;
    bool given_up = false;          // the engine that says no more of the stretch says next that something is lost
    uint64_t behind = 0;            // events behind the difference
    uint64_t begin = last_offset_;  // of the stretch, or of nothing before it
    for (const Side* side : {&fast_, &libipt_})
      if (const FlowEvent* e = side->peek(); e && e->stretch == stretch && e->event.kind == EventKind::enabled)
        begin = e->event.offset;
    for (;;) {
      if (!f) f = take(fast_, stretch);
      if (!l) l = take(libipt_, stretch);
      if (!f && !l) break;
      if (found) {
        ++behind;
      } else if (f && l && same(*f, *l)) {
        ++result_.events;
        before = f;
      } else if (f && l && begins(*f, *l)) {
        const Event piece = *f;
        f = take(fast_, stretch);
        l = rest_of(*l, piece, f);
        continue;
      } else if (f && l && begins(*l, *f)) {
        const Event piece = *l;
        l = take(libipt_, stretch);
        f = rest_of(*f, piece, l);
        continue;
      } else {
        found = {stretch, (l ? l : f)->offset, f, l, before};
        given_up = (!f && fast_.lost()) || (!l && libipt_.lost());
      }
      f.reset();
      l.reset();
    }
    ++result_.stretches;
    const auto lost_at = [&](const std::optional<Event>& e) { return e && is_beside_loss(stretch, e->offset); };
    const bool hidden =
        found && (given_up || lost_at(found->fast) || lost_at(found->libipt) || is_behind_damage(begin, found->offset));
    std::erase_if(losses_, [&](const Loss& l) {
      return (l.stretch <= stretch || l.stretch == kNoStretch) && l.to < last_offset_;
    });
    if (!found) return;
    const bool unproven = !found->fast && found->libipt->kind == EventKind::block && behind == 0;
    if (unproven) return;
    if (hidden) {
      ++result_.beside_gaps;
      return;
    }
    ++result_.different;
    if (!result_.first) result_.first = found;
  }

  /// The next event in a stretch that is no loss; nullptr at the end. What lies in no stretch (a PIP while tracing is off) is
  /// not walked, and told by libipt alone.
  const FlowEvent* next_told(Side& side) {
    for (const FlowEvent* e = side.peek(); e; e = side.peek()) {
      if (is_loss(e->event))
        losses_.push_back({e->stretch, e->event.offset, e->event.offset + e->event.count, e->event.cause});
      else if (e->stretch != kNoStretch)
        return e;
      side.pop();
    }
    return nullptr;
  }

  std::optional<Event> take(Side& side, uint32_t stretch) {
    const FlowEvent* e = next_told(side);
    if (!e || e->stretch != stretch) return std::nullopt;
    const Event taken = e->event;
    last_offset_ = std::max(last_offset_, taken.offset);
    side.pop();
    return taken;
  }

  /// The losses behind a stretch are known by now too: they explain nothing in front of them.
  bool is_beside_loss(uint32_t stretch, uint64_t offset) const {
    return std::any_of(losses_.begin(), losses_.end(),
                       [&](const Loss& l) { return l.stretch == stretch || (l.from <= offset && offset <= l.to); });
  }

  /// What was given up, mostly to the next PSB, may reach over the beginning of the stretch, which has no event of its own
  /// when tracing was on already.
  bool is_behind_damage(uint64_t begin, uint64_t offset) const {
    return std::any_of(losses_.begin(), losses_.end(), [&](const Loss& l) {
      const bool given_up = l.cause == GapCause::desync || l.cause == GapCause::image_missing ||
                            l.cause == GapCause::code_version_unknown;
      return given_up && l.to > begin && l.from <= offset;
    });
  }

  /// Where one engine cuts a run of instructions in two is up to it.
  static bool begins(const Event& piece, const Event& whole) {
    return piece.kind == EventKind::block && whole.kind == EventKind::block && piece.end == BlockEnd::none &&
           piece.ip == whole.ip && piece.count < whole.count && piece.last_ip < whole.last_ip;
  }
  static Event rest_of(Event whole, const Event& piece, const std::optional<Event>& next) {
    whole.count -= piece.count;
    whole.ip = next && next->ip > piece.last_ip && next->ip <= piece.last_ip + kMaxInsn ? next->ip : 0;
    return whole;
  }

  static constexpr uint64_t kMaxInsn = 15;  // bytes

  Side fast_, libipt_;
  EngineComparison result_;
  std::vector<Loss> losses_;  // that may explain a difference in this stretch or a later one
  uint64_t last_offset_ = 0;
};

}  // namespace

EngineComparison compare_flows(std::unique_ptr<FlowCursor> fast, std::unique_ptr<FlowCursor> libipt,
                               const std::function<void(const Event&)>& told,
                               const std::function<void(uint64_t)>& progress) {
  return Comparer(Side(std::move(fast), told), Side(std::move(libipt), {})).run(progress);
}

Result<EngineComparison> compare_engines(const HostTrace& host, uint32_t stream, Resync resync,
                                         const std::function<void(const Event&)>& told,
                                         const std::function<void(uint64_t)>& progress) {
  FlowOptions options;
  options.resync = resync;
  HC_TRY(auto fast, host.stream_flow(stream, options));
  options.engine = Engine::libipt;
  HC_TRY(auto libipt, host.stream_flow(stream, options));
  return compare_flows(std::move(fast), std::move(libipt), told, progress);
}

}  // namespace hindcast::decode
