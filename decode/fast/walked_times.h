// When what a walk wrote down ran. A superblock ran between the packet that was used before it and the one that its branch
// used; a bound of the time changes only where one of them passes a timing packet, so most of them share an interval.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "decode/fast/stretch_walk.h"
#include "decode/stretch_events.h"
#include "hindcast/units.h"

namespace hindcast::decode {

/// From the superblock `first` of some on, up to where the next one begins.
struct TimeFrom {
  uint32_t first = 0;
  TscInterval time;
};

/// Of the superblocks that one StretchWalk::next() wrote: each has the interval and the offset that its events get.
class WalkedTimes {
 public:
  /// Not empty; the first one is of 0. Each differs from the one before.
  ///   previous  the packet that was used before them
  ///   times     bound in order: what is placed next happened behind them
  /// Cost: 10 ns for each superblock where packets were not used in the order in which they stand (a deferred TIP); else 1 ns,
  /// and 10 for each interval, or nothing when there is one for all.
  void find(const StretchWalk& walk, std::span<const BlockId> ids, uint64_t previous, const Stretch& stretch,
            EventTimes& times);
  std::span<const TimeFrom> times() const { return std::span(times_).first(time_count_); }
  /// The packet that they used last: `previous` when they used none.
  uint64_t last_used() const { return last_used_; }

  /// Behind find(), of the same: Event::offset of each, from base().
  void find_offsets(const StretchWalk& walk);
  uint64_t base() const { return base_; }
  std::span<const uint32_t> offsets() const { return std::span(offsets_).first(count_); }

 private:
  void find_in_order(const StretchWalk& walk, std::span<const BlockId> ids, const Stretch& stretch, EventTimes& times);
  void find_one_by_one(const StretchWalk& walk, std::span<const BlockId> ids, uint64_t previous, const Stretch& stretch,
                       EventTimes& times);
  void make_room(size_t n);
  void add(size_t first, TscInterval time) {
    if (time_count_ == 0 || times_[time_count_ - 1].time != time)
      times_[time_count_++] = {static_cast<uint32_t>(first), time};
  }

  std::vector<TimeFrom> times_;  // of which so many are in use:
  size_t time_count_ = 0;
  size_t count_ = 0;
  uint64_t last_used_ = 0;
  uint64_t base_ = 0;
  std::vector<uint32_t> offsets_;
  bool has_offsets_ = false;
};

}  // namespace hindcast::decode
