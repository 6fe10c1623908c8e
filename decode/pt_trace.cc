#include "decode/pt_trace.h"

#include <algorithm>

#include "decode/pt_opcodes.h"

namespace hindcast::decode {

PtTrace PtTrace::scan(TraceBytes& bytes, const PtTimeConfig& time, std::vector<uint64_t> cuts,
                      std::span<const uint64_t> holes) {
  PtTrace t;
  t.bytes = bytes.all();
  cuts.insert(cuts.end(), holes.begin(), holes.end());
  t.set_cuts(std::move(cuts));
  PtScan found = scan_packets(bytes, time, t.cuts);
  t.times = std::move(found.times);
  t.map = std::move(found.map);
  for (const uint64_t hole : holes) {
    const auto at = std::find_if(t.map.gaps.begin(), t.map.gaps.end(), [hole](const Event& g) {
      return g.offset == hole && g.cause == GapCause::not_captured;
    });
    if (at != t.map.gaps.end()) {
      at->cause = GapCause::cut;
    } else if (hole == t.bytes.size()) {
      Event end;
      end.kind = EventKind::gap;
      end.cause = GapCause::cut;
      end.offset = hole;
      end.time = {t.times.at(hole).earliest, Tsc::max()};
      t.map.gaps.push_back(end);
    }
  }
  return t;
}

void PtTrace::set_cuts(std::vector<uint64_t> all) {
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  std::erase_if(all, [this](uint64_t cut) { return cut == 0 || cut >= bytes.size(); });
  cuts = std::move(all);
}

size_t PtTrace::stretch_at(uint64_t offset) const {
  const auto& s = map.stretches;
  const auto it =
      std::upper_bound(s.begin(), s.end(), offset, [](uint64_t o, const Stretch& st) { return o < st.begin; });
  return it == s.begin() ? s.size() : static_cast<size_t>(it - s.begin()) - 1;
}

size_t PtTrace::first_stretch_from(uint64_t offset) const {
  const auto& s = map.stretches;
  const auto it =
      std::lower_bound(s.begin(), s.end(), offset, [](const Stretch& st, uint64_t o) { return st.begin < o; });
  return static_cast<size_t>(it - s.begin());
}

uint64_t PtTrace::last_psb(uint64_t offset) const {
  const auto behind = std::upper_bound(map.psbs.begin(), map.psbs.end(), offset);
  return behind == map.psbs.begin() ? 0 : behind[-1];
}

uint64_t PtTrace::first_psb(uint64_t offset, uint64_t limit) const {
  const auto first = std::lower_bound(map.psbs.begin(), map.psbs.end(), offset);
  return first == map.psbs.end() ? limit : std::min(*first, limit);
}

uint64_t PtTrace::first_whole_psb(TraceBytes& from, uint64_t offset, uint64_t limit) const {
  uint64_t psb = first_psb(offset, limit);
  while (psb < limit && from.cover(psb, psb + kMaxPacketBytes) != psb + kMaxPacketBytes)
    psb = first_psb(psb + 1, limit);
  return psb;
}

}  // namespace hindcast::decode
