#include "decode/engine_compare.h"

#include <algorithm>
#include <array>

namespace hindcast::decode {
namespace {

/// One engine's events, with a look at the next one.
class Side {
 public:
  Side(std::unique_ptr<FlowCursor> cursor, std::function<void(const Event&)> told)
      : cursor_(std::move(cursor)), told_(std::move(told)) {
    fill();
  }
  const FlowEvent* peek() const { return at_ < have_ ? &batch_[at_] : nullptr; }
  void pop() {
    if (++at_ == have_) fill();
  }

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
};

bool is_loss(const Event& e) { return e.kind == EventKind::gap || e.kind == EventKind::overflow; }

bool same(const Event& a, const Event& b) {
  return a.kind == b.kind && a.end == b.end && a.count == b.count && a.ip == b.ip && a.last_ip == b.last_ip &&
         a.to == b.to;
}

class Comparer {
 public:
  Comparer(Side fast, Side libipt) : fast_(std::move(fast)), libipt_(std::move(libipt)) {}

  EngineComparison run(const std::function<void(uint64_t)>& progress) {
    while (fast_.peek() || libipt_.peek()) {
      const FlowEvent* f = fast_.peek();
      const FlowEvent* l = libipt_.peek();
      const uint32_t stretch = !f ? l->stretch : !l ? f->stretch : std::min(f->stretch, l->stretch);
      compare(stretch);
      if (progress && result_.stretches % 64 == 0) progress((f ? f : l)->event.offset);
    }
    return std::move(result_);
  }

 private:
  void compare(uint32_t stretch) {
    std::optional<Event> before, f, l;
    std::optional<EngineDifference> found;
    uint64_t behind = 0;  // events behind the difference
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
      }
      f.reset();
      l.reset();
    }
    ++result_.stretches;
    if (!found) return;
    const bool unproven = !found->fast && found->libipt->kind == EventKind::block && behind == 0;
    if (unproven) return;
    if (lost_in_ == stretch || found->offset <= lost_to_) {
      ++result_.beside_gaps;
      return;
    }
    ++result_.different;
    if (!result_.first) result_.first = found;
  }

  /// The next event of the stretch that is no loss.
  std::optional<Event> take(Side& side, uint32_t stretch) {
    for (const FlowEvent* e = side.peek(); e; e = side.peek()) {
      if (is_loss(e->event)) {
        lost_in_ = e->stretch;
        lost_to_ = std::max(lost_to_, e->event.offset + e->event.count);
        side.pop();
        continue;
      }
      if (e->stretch != stretch) return std::nullopt;
      const Event taken = e->event;
      side.pop();
      return taken;
    }
    return std::nullopt;
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
  std::optional<uint32_t> lost_in_;  // the last stretch with a loss
  uint64_t lost_to_ = 0;             // how far the losses reach
};

}  // namespace

Result<EngineComparison> compare_engines(const HostTrace& host, uint32_t stream, Resync resync,
                                         const std::function<void(const Event&)>& told,
                                         const std::function<void(uint64_t)>& progress) {
  FlowOptions options;
  options.resync = resync;
  HC_TRY(auto fast, host.stream_flow(stream, options));
  options.engine = Engine::libipt;
  HC_TRY(auto libipt, host.stream_flow(stream, options));
  return Comparer(Side(std::move(fast), told), Side(std::move(libipt), {})).run(progress);
}

}  // namespace hindcast::decode
