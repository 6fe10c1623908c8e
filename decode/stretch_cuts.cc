#include "decode/stretch_cuts.h"

#include <algorithm>

namespace hindcast::decode {
namespace {

/// Of a stretch: behind the one before it, up to `end`.
struct Cut {
  uint64_t end;
  Owner owner;
};

class Cutter {
 public:
  Cutter(const StretchMap& map, const TimeMap& times, std::span<const Slice> slices, const TscConversion& clock,
         const std::function<std::span<const RecordTime>(Pid)>& changes)
      : map_(map), times_(times), slices_(slices), clock_(clock), changes_(changes) {
    // How far the slices before each one reach, and from when on those behind it may have begun.
    ran_until_.resize(slices.size());
    Tsc until = Tsc::min();
    for (size_t j = 0; j < slices.size(); ++j) {
      ran_until_[j] = until;
      until = std::max(until, latest(slices[j].out));
    }
    Tsc from = Tsc::max();
    runs_from_.resize(slices.size());
    for (size_t j = slices.size(); j-- > 0;) {
      runs_from_[j] = from;
      from = std::min(from, earliest(slices[j].in));
    }
  }

  CutStretches cut(std::span<const Owner> owners) {
    CutStretches out;
    for (size_t k = 0; k < map_.stretches.size(); ++k) {
      const Stretch& whole = map_.stretches[k];
      cuts_.clear();
      begin_ = whole.begin;
      end_ = whole.end;
      if (owners[k].certain)
        cut_owned(end_, owners[k]);
      else
        cut_by_slices(whole, owners[k]);
      write(whole, out);
    }
    return out;
  }

 private:
  Tsc earliest(RecordTime t) const { return t == RecordTime(0) ? Tsc::min() : clock_.to_tsc(t).earliest; }
  Tsc latest(RecordTime t) const { return t == RecordTime::max() ? Tsc::max() : clock_.to_tsc(t).latest; }

  /// The last packet that is surely before t, but not behind `end`; `begin` when there is none behind it.
  uint64_t before(Tsc t, uint64_t begin, uint64_t end) const {
    const auto last = t == Tsc::max() ? end : times_.last_before(t).value_or(begin);
    return std::clamp(last, begin, end);
  }
  /// Packets behind it surely came at t or later.
  uint64_t behind(Tsc t, uint64_t begin, uint64_t end) const {
    if (t == Tsc::min()) return begin;
    const auto first = times_.first_from(t);
    return first && *first > begin ? std::min(*first - 1, end) : first ? begin : end;
  }

  uint64_t cut_at() const { return cuts_.empty() ? begin_ : cuts_.back().end; }
  void add(uint64_t end, const Owner& owner) {
    // A decoder that begins at a PSB belongs to what follows.
    if (end != end_ && std::binary_search(map_.psbs.begin(), map_.psbs.end(), end)) --end;
    if (end <= cut_at()) return;
    cuts_.push_back({end, owner});
  }
  /// And at those of the packets before it that change CR3: all, or where a decoder can start that knows nothing.
  void add_with_pagings(uint64_t end, const Owner& owner, bool all) {
    for (auto p = paging_behind(cut_at()); p != map_.pagings.end() && p->offset < end; ++p)
      if (all || p->ip != 0) add(p->offset, owner);
    add(end, owner);
  }
  std::vector<Paging>::const_iterator paging_behind(uint64_t offset) const {
    return std::upper_bound(map_.pagings.begin(), map_.pagings.end(), offset,
                            [](uint64_t o, const Paging& p) { return o < p.offset; });
  }

  void cut_by_slices(const Stretch& whole, const Owner& owner) {
    const auto ends = [this](const Slice& s, Tsc t) { return latest(s.out) < t; };
    const auto first = std::lower_bound(slices_.begin(), slices_.end(), whole.begin_time.earliest, ends);
    size_t done = kNoSlice;  // the last slice that is surely in it
    for (auto j = static_cast<size_t>(first - slices_.begin()); j < slices_.size(); ++j) {
      const Slice& s = slices_[j];
      if (earliest(s.in) > whole.end_time.latest) break;
      if (s.tid == kNoTid || (s.open_start && s.in != RecordTime(0)) || (s.open_end && s.out != RecordTime::max()))
        continue;
      const uint64_t from = behind(std::max(latest_in(s), ran_until_[j]), begin_, end_);
      const uint64_t to = before(std::min(earliest_out(s), runs_from_[j]), begin_, end_);
      if (from >= to) continue;
      cut_unsure(from, owner, done, j);
      cut_owned(to, {static_cast<uint32_t>(j), static_cast<uint32_t>(j), true});
      done = j;
    }
    cut_unsure(end_, owner, done, kNoSlice);
  }
  Tsc latest_in(const Slice& s) const { return s.in == RecordTime(0) ? Tsc::min() : latest(s.in); }
  Tsc earliest_out(const Slice& s) const { return s.out == RecordTime::max() ? Tsc::max() : earliest(s.out); }

  /// Up to where slice `next` surely runs: it is one of those from `done` on. Where another address space comes, it is cut.
  void cut_unsure(uint64_t end, Owner owner, size_t done, size_t next) {
    if (end <= cut_at()) return;
    owner.certain = false;
    if (done != kNoSlice) owner.first = static_cast<uint32_t>(done);
    if (next != kNoSlice) owner.last = static_cast<uint32_t>(next);
    if (owner.first == kNoSlice || owner.last == kNoSlice || owner.first > owner.last) owner = {};
    add_with_pagings(end, owner, true);
  }

  /// What is surely one slice's: its code changes.
  void cut_owned(uint64_t end, const Owner& owner) {
    const uint64_t begin = cut_at();
    const std::span<const RecordTime> all = changes_(slices_[owner.first].pid);
    const auto may_be = [this](RecordTime change, Tsc t) { return latest(change) < t; };
    auto change = std::lower_bound(all.begin(), all.end(), times_.at(begin).earliest, may_be);
    for (const Tsc last = times_.at(end).latest; change != all.end() && earliest(*change) <= last; ++change) {
      if (*change == RecordTime(0)) continue;
      add_with_pagings(before(earliest(*change), begin, end), owner, false);
      add_with_pagings(behind(latest(*change), begin, end), owner, false);
    }
    add_with_pagings(end, owner, false);
  }

  void write(const Stretch& whole, CutStretches& out) const {
    uint64_t begin = begin_;
    for (size_t i = 0; i < cuts_.size(); ++i) {
      Stretch s = whole;
      const bool first = i == 0, last = i + 1 == cuts_.size();
      if (!first) {
        s.begin = begin;
        const auto paging = paging_behind(begin);
        const bool can_start = paging != map_.pagings.begin() && paging[-1].offset == begin && paging[-1].ip != 0;
        s.begin_ip = can_start ? paging[-1].ip : 0;
        if (can_start) s.bits = paging[-1].bits;
        s.start = StretchStart::handover;
        s.in_psb = false;
        s.begin_time = times_.at(begin);
        const auto psb = std::upper_bound(map_.psbs.begin(), map_.psbs.end(), begin);
        if (psb != map_.psbs.begin()) s.sync = psb[-1];
      }
      if (!last) {
        s.end = begin = cuts_[i].end;
        s.end_ip = s.end_to = 0;
        s.how = StretchEnd::handover;
        s.stopped = false;
        s.end_time = times_.at(s.end);
      }
      out.stretches.push_back(s);
      out.owners.push_back(cuts_[i].owner);
    }
  }

  const StretchMap& map_;
  const TimeMap& times_;
  const std::span<const Slice> slices_;
  const TscConversion& clock_;
  const std::function<std::span<const RecordTime>(Pid)>& changes_;
  std::vector<Tsc> ran_until_, runs_from_;
  uint64_t begin_ = 0, end_ = 0;
  std::vector<Cut> cuts_;
};

}  // namespace

CutStretches cut_stretches(const StretchMap& map, std::span<const Owner> owners, const TimeMap& times,
                           std::span<const Slice> slices, const TscConversion& clock,
                           const std::function<std::span<const RecordTime>(Pid)>& changes) {
  return Cutter(map, times, slices, clock, changes).cut(owners);
}

}  // namespace hindcast::decode
