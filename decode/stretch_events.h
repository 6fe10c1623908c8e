// What both engines do alike to an event before it is handed out: where and when it was, and in which order it is told.
#pragma once

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include "decode/pt_time.h"
#include "decode/stretches.h"

namespace hindcast::decode {

/// For Event::count of a gap.
inline uint32_t saturate(uint64_t v) {
  return static_cast<uint32_t>(std::min<uint64_t>(v, std::numeric_limits<uint32_t>::max()));
}

/// All of a stretch that nobody claims.
inline Event unattributed_gap(const Stretch& stretch) {
  Event e;
  e.kind = EventKind::gap;
  e.cause = GapCause::unattributed;
  e.ip = stretch.begin_ip;
  e.offset = stretch.begin;
  e.count = saturate(stretch.end - stretch.begin);
  e.time = {stretch.begin_time.earliest, stretch.end_time.latest};
  return e;
}

/// A stretch's first event, where it begins: another stretch may end with the same packet.
inline bool begins_stretch(const Event& e) {
  return e.kind == EventKind::enabled || (e.kind == EventKind::gap && e.cause == GapCause::unattributed);
}

/// The TraceStop behind a stretch.
inline Event stopped_event(const Stretch& stretch) {
  Event e;
  e.kind = EventKind::stopped;
  e.offset = stretch.end;
  e.time = stretch.end_time;
  return e;
}

/// A block that ended nowhere goes on in this one: they are told as one.
inline void go_on_from(std::optional<Event>& held, Event& block) {
  if (!held) return;
  block.ip = held->ip;
  block.count += held->count;
  block.time.earliest = held->time.earliest;
  held.reset();
}

/// Of one decoder over one stream. Borrows the map.
class EventTimes {
 public:
  explicit EventTimes(const TimeMap& times) : times_(times) {}

  /// When something happened that lies between two packets. Most answers are the last one again.
  TscInterval window(uint64_t first, uint64_t last) {
    if (!same_window(first, last)) window_ = times_.window(first, last);
    return window_;
  }
  bool same_window(uint64_t first, uint64_t last) const { return times_.same_window(first, last); }
  /// Step by step from the last window() on: TimeMap::Reader.
  uint64_t lower_until() const { return times_.lower_until(); }
  uint64_t upper_until() const { return times_.upper_until(); }
  void pass_lower() { times_.pass_lower(); }
  void pass_upper() { times_.pass_upper(); }
  TscInterval here() { return window_ = times_.here(); }

  static uint64_t offset_in(const Stretch& stretch, uint64_t packet) {
    return std::clamp(packet, stretch.begin + 1, stretch.end);
  }

  /// Where and when: between two packets, and inside the stretch (nullptr: nobody knows which).
  void place(Event& e, uint64_t first, uint64_t last, const Stretch* stretch) {
    e.offset = stretch ? offset_in(*stretch, last) : last;
    e.time = window(first, last);
    if (stretch) e.time = inside(*stretch, e.time);
  }
  static TscInterval inside(const Stretch& stretch, TscInterval time) {
    // What is under way at a handover began before it.
    if (stretch.start != StretchStart::handover) time.earliest = std::max(time.earliest, stretch.begin_time.earliest);
    time.latest = std::max(time.earliest, std::min(time.latest, stretch.end_time.latest));
    return time;
  }

  /// Events are in the order in which things happened, so what bounds one from below bounds all later ones.
  void bound(Event& e) { e.time = bounded(e.time); }
  TscInterval bounded(TscInterval time) {
    told_.earliest = std::max(time.earliest, told_.earliest);
    told_.latest = std::max(time.latest, told_.latest);
    return told_;
  }
  /// What comes next may lie before what was told.
  void forget_order() { told_ = {Tsc::min(), Tsc::min()}; }

 private:
  TimeMap::Reader times_;
  TscInterval window_;
  TscInterval told_{Tsc::min(), Tsc::min()};
};

}  // namespace hindcast::decode
