#include "decode/fast/walked_times.h"

#include <algorithm>

namespace hindcast::decode {
namespace {

/// The first from `at` on that is not below `least`; they ascend, and behind them are kOffsetsBehind of the highest number. No
/// CPU can guess how far it is, but that it is near.
size_t find_from(const uint32_t* offsets, size_t at, uint32_t least) {
  static_assert(kOffsetsBehind == 8);
  while (offsets[at + 7] < least) at += 8;
  at += offsets[at + 3] < least ? 4 : 0;
  at += offsets[at + 1] < least ? 2 : 0;
  return at + (offsets[at] < least ? 1 : 0);
}

}  // namespace

void WalkedTimes::find(const StretchWalk& walk, std::span<const BlockId> ids, uint64_t previous, const Stretch& stretch,
                       EventTimes& times) {
  count_ = ids.size();
  times_.resize(std::max(times_.size(), count_));
  time_count_ = 0;
  base_ = walk.base();
  has_offsets_ = false;
  const uint64_t next = walk.replay().next_offset(walk);
  const auto last = walk.last_used();
  if (!walk.in_order() || previous > next || !last) return find_one_by_one(walk, ids, previous, stretch, times);
  last_used_ = *last;
  times.window(previous, next);
  find_in_order(walk, ids, stretch, times);
}

/// Behind times.window() for the first superblock.
void WalkedTimes::find_in_order(const StretchWalk& walk, std::span<const BlockId> ids, const Stretch& stretch,
                                EventTimes& times) {
  // What the last superblock is before: what it used, unless it used none.
  const uint64_t last = kind_of(ids.back()) == SuperKind::cut ? walk.next_offset() : last_used_;
  const bool changes = times.lower_until() <= last_used_ || times.upper_until() < last;
  if (changes) find_offsets(walk);
  const auto from_base = [this](uint64_t offset) { return static_cast<uint32_t>(offset - std::min(offset, base_)); };
  // The first superblock with another bound.
  size_t behind = 0, before = 0;
  const auto find_lower = [&] {  // behind a use from there on
    const uint64_t from = times.lower_until();
    if (from > last_used_) return count_;
    behind = find_from(offsets_.data(), behind, from_base(from));
    while (behind < count_ && kind_of(ids[behind]) == SuperKind::cut) ++behind;
    return behind + 1;
  };
  const auto find_upper = [&] {  // before a use behind it
    const uint64_t upto = times.upper_until();
    if (upto >= last) return count_;
    return before = find_from(offsets_.data(), before, from_base(upto + 1));
  };
  size_t i = 0, lower = find_lower(), upper = find_upper();
  do {
    for (; lower == i; lower = find_lower()) times.pass_lower();
    for (; upper == i; upper = find_upper()) times.pass_upper();
    add(i, times.bounded(EventTimes::inside(stretch, times.here())));
    i = std::min(lower, upper);
  } while (i < count_);
}

void WalkedTimes::find_one_by_one(const StretchWalk& walk, std::span<const BlockId> ids, uint64_t previous,
                                  const Stretch& stretch, EventTimes& times) {
  StretchWalk::Replay replay = walk.replay();
  make_room(count_);
  has_offsets_ = true;
  for (size_t i = 0; i < count_; ++i) {
    const uint64_t next = replay.next_offset(walk);
    const uint64_t first = std::min(previous, next), behind = std::max(previous, next);
    offsets_[i] = static_cast<uint32_t>(EventTimes::offset_in(stretch, behind) - base_);
    if (i == 0 || !times.same_window(first, behind))
      add(i, times.bounded(EventTimes::inside(stretch, times.window(first, behind))));
    if (const auto used = replay.pass(walk, ids[i])) previous = *used;
  }
  last_used_ = previous;
}

void WalkedTimes::find_offsets(const StretchWalk& walk) {
  if (has_offsets_) return;
  has_offsets_ = true;
  const std::span<const uint32_t> cuts = walk.cuts();
  // Behind a cut at the end comes a use that is not of these.
  const size_t uses = count_ - cuts.size() + (cuts.empty() ? 0 : 1);
  make_room(std::max(count_, uses));
  walk.write_offsets(std::span(offsets_).first(uses + kOffsetsBehind));
  size_t to = count_;
  for (size_t c = cuts.size(); c-- > 0;) {
    for (; to > cuts[c] + 1; --to) offsets_[to - 1] = offsets_[to - 2 - c];
    offsets_[--to] = offsets_[cuts[c] - c];
  }
  std::fill_n(offsets_.begin() + static_cast<ptrdiff_t>(count_), kOffsetsBehind, UINT32_MAX);
}

void WalkedTimes::make_room(size_t n) {
  if (offsets_.size() < n + kOffsetsBehind) offsets_.resize(n + kOffsetsBehind);
}

}  // namespace hindcast::decode
