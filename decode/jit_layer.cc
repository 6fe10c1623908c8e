#include "decode/jit_layer.h"

#include <algorithm>

namespace hindcast::decode {

void JitLayer::add(const JitClaim& claim) {
  if (claim.length == 0 || claim.address + claim.length < claim.address) return;
  claims_.push_back(claim);
  prepared_ = false;
}

void JitLayer::prepare() {
  if (prepared_) return;
  prepared_ = true;
  for_layouts_ = for_places_ = {};
  for (const RecordTime exec : execs_) {
    // What its time leaves open is settled by the exec: what came before is gone with it.
    for (JitClaim& c : claims_)
      if (c.from.earliest < exec && c.from.latest > exec && c.from != Interval<RecordTime>::unknown())
        c.from.latest = exec;
  }
  std::stable_sort(claims_.begin(), claims_.end(),
                   [](const JitClaim& a, const JitClaim& b) { return a.from.latest < b.from.latest; });
  for (const RecordTime exec : execs_) {
    JitClaim nothing;
    nothing.length = ~uint64_t{0};
    nothing.from = {exec, exec};
    const auto behind = std::upper_bound(claims_.begin(), claims_.end(), exec,
                                         [](RecordTime t, const JitClaim& c) { return t < c.from.latest; });
    claims_.insert(behind, nothing);
  }
  execs_.clear();
  earliest_from_.assign(claims_.size() + 1, RecordTime::max());
  for (size_t i = claims_.size(); i-- > 0;)
    earliest_from_[i] = std::min(earliest_from_[i + 1], claims_[i].from.earliest);
}

Segment JitLayer::segment_of(const JitClaim& claim) {
  Segment s;
  s.end = claim.address + claim.length;
  s.image = claim.image;
  s.image_offset = claim.image_offset;
  s.map_start = claim.address;
  s.map_length = claim.length;
  s.time = claim.from.latest;
  return s;
}

void JitLayer::move(Cursor& cursor, RecordTime time) {
  prepare();
  if (cursor.count > 0 && claims_[cursor.count - 1].from.latest > time) cursor = {};
  for (; cursor.count < claims_.size() && claims_[cursor.count].from.latest <= time; ++cursor.count)
    cover(cursor.layout, claims_[cursor.count].address, segment_of(claims_[cursor.count]));
}

const Layout& JitLayer::settled(RecordTime time) {
  move(for_layouts_, time);
  return for_layouts_.layout;
}

std::optional<JitLayer::Piece> JitLayer::at(Interval<RecordTime> time, uint64_t address) {
  move(for_places_, time.earliest);
  const Layout& layout = for_places_.layout;
  auto it = layout.upper_bound(address);
  if (it != layout.begin() && (--it)->second.end > address && it->second.has_bytes())
    return Piece{it->first, it->second};
  std::optional<Piece> first;
  for_each_unsettled(time.earliest, time.latest, [&](const JitClaim& c) {
    const Segment s = segment_of(c);
    if (!first && s.has_bytes() && c.address <= address && address < s.end) first = Piece{c.address, s};
  });
  return first;
}

void JitLayer::for_each_unsettled(RecordTime settled, RecordTime ended,
                                  const std::function<void(const JitClaim&)>& told) {
  prepare();
  auto first = std::upper_bound(claims_.begin(), claims_.end(), settled,
                                [](RecordTime t, const JitClaim& c) { return t < c.from.latest; });
  for (auto i = static_cast<size_t>(first - claims_.begin()); i < claims_.size(); ++i) {
    if (earliest_from_[i] > ended) break;
    if (claims_[i].from.earliest <= ended) told(claims_[i]);
  }
}

void JitLayer::add_times(std::vector<RecordTime>& times) {
  prepare();
  for (const JitClaim& c : claims_) {
    times.push_back(c.from.earliest);
    times.push_back(c.from.latest);
  }
}

}  // namespace hindcast::decode
