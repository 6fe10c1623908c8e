#include "decode/cr3_owners.h"

#include <algorithm>

namespace hindcast::decode {
namespace {

/// Goes through the stretches in order.
class Cr3Cursor {
 public:
  explicit Cr3Cursor(const StretchMap& map) : map_(map) {}

  /// To the next stretch. What it begins under; nothing when no packet has said since tracing went on: it may have changed.
  std::optional<uint64_t> enter(const Stretch& s) {
    if (s.start != StretchStart::handover) {
      const uint64_t since = s.in_psb ? s.sync : s.begin;
      while (next_ < map_.pagings.size() && map_.pagings[next_].offset <= since) ++next_;
      cr3_.reset();
    }
    while (next_ < map_.pagings.size() && map_.pagings[next_].offset <= s.begin) cr3_ = map_.pagings[next_++].cr3;
    return cr3_;
  }
  /// What it is set to inside.
  template <class F>
  void each_inside(const Stretch& s, const F& use) {
    for (; next_ < map_.pagings.size() && map_.pagings[next_].offset <= s.end; ++next_) {
      cr3_ = map_.pagings[next_].cr3;
      use(*cr3_);
    }
  }

 private:
  const StretchMap& map_;
  size_t next_ = 0;
  std::optional<uint64_t> cr3_;
};

}  // namespace

void Cr3Owners::learn(const StretchMap& map, const std::function<Pid(size_t)>& owner) {
  Cr3Cursor cursor(map);
  for (size_t k = 0; k < map.stretches.size(); ++k) {
    const Pid pid = owner(k);
    const auto is_of = [&](uint64_t cr3) {
      if (pid == kNoPid) return;
      const auto [known, fresh] = owners_.try_emplace(cr3, pid);
      if (!fresh && known->second != pid) known->second = kNoPid;
    };
    if (const auto cr3 = cursor.enter(map.stretches[k])) is_of(*cr3);
    cursor.each_inside(map.stretches[k], is_of);
  }
}

std::vector<Pid> Cr3Owners::of(const StretchMap& map) const {
  std::vector<Pid> out;
  out.reserve(map.stretches.size());
  Cr3Cursor cursor(map);
  for (const Stretch& s : map.stretches) {
    const auto cr3 = cursor.enter(s);
    const auto known = cr3 ? owners_.find(*cr3) : owners_.end();
    out.push_back(known == owners_.end() ? kNoPid : known->second);
    cursor.each_inside(s, [](uint64_t) {});
  }
  return out;
}

}  // namespace hindcast::decode
