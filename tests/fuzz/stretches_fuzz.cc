// Any stream: stretches and gaps in order, disjoint, inside the stream; and every packet that tells of execution lies in
// a stretch or in a gap, so that nothing goes missing without a word.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "decode/packet_scan.h"
#include "decode/stretches.h"
#include "tests/fuzz/packet_stream.h"

namespace {

using namespace hindcast;

void require(bool holds, const char* what, uint64_t offset) {
  if (holds) return;
  std::fprintf(stderr, "violated at offset %lu: %s\n", static_cast<unsigned long>(offset), what);
  std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  test::FuzzInput in(data, size);
  std::vector<uint64_t> cuts;
  for (uint64_t n = in.take(1) % 4; n > 0; --n) cuts.push_back(in.take(2));
  const uint64_t window = 1 + in.take(1);
  const std::vector<uint8_t> bytes = test::packet_stream(in);
  decode::PtTimeConfig config;
  config.tsc_ctc_num = 308;
  config.tsc_ctc_den = 2;
  config.mtc_period = 3;
  decode::TraceBytes trace(bytes);
  const decode::PtScan found = decode::scan_packets(trace, config, cuts, window);
  const decode::StretchMap& map = found.map;

  uint64_t at = 0;
  for (const decode::Stretch& s : map.stretches) {
    require(at <= s.begin && s.begin < s.end && s.end <= bytes.size(), "stretches are disjoint and inside", s.begin);
    require(s.sync < s.begin, "a PSB lies before each stretch", s.begin);
    require(s.begin_time.earliest <= s.end_time.earliest && s.begin_time.latest <= s.end_time.latest, "times", s.begin);
    at = s.end;
  }
  at = 0;
  for (const Event& gap : map.gaps) {
    require(gap.kind == EventKind::gap && gap.cause != GapCause::none, "gaps are typed", gap.offset);
    require(at <= gap.offset && gap.offset + gap.count <= bytes.size(), "gaps are disjoint and inside", gap.offset);
    at = gap.offset + gap.count;
  }

  const auto in_stretch = [&](uint64_t offset, bool ends_included) {
    const auto next = std::upper_bound(map.stretches.begin(), map.stretches.end(), offset - !ends_included,
                                       [](uint64_t o, const decode::Stretch& s) { return o < s.begin; });
    for (auto s = next; s != map.stretches.begin() && next - s < 2;) {
      --s;
      if (s->begin <= offset && offset < s->end + ends_included) return true;
    }
    return false;
  };
  const auto in_gap = [&](uint64_t from, uint64_t to) {
    return std::any_of(map.gaps.begin(), map.gaps.end(),
                       [&](const Event& g) { return g.offset <= from && to <= g.offset + g.count; });
  };
  decode::PacketScan scan(trace, cuts);
  decode::Packet p;
  decode::LostRange lost;
  size_t looked_at = 0;  // the search below is linear in gaps
  for (auto found = scan.next(p, lost); found != decode::PacketScan::Found::end && looked_at < 4000;
       found = scan.next(p, lost), ++looked_at) {
    if (found == decode::PacketScan::Found::lost) {
      require(lost.from == lost.to || in_gap(lost.from, lost.to), "every lost range is a gap", lost.from);
      continue;
    }
    const uint64_t end = p.offset + p.size;
    if (decode::is_tnt(p.kind) || p.kind == decode::Kind::tip)
      require(in_stretch(p.offset, false) || in_gap(p.offset, end), "a branch is in a stretch or a gap", p.offset);
    if (p.kind == decode::Kind::tip_pge || p.kind == decode::Kind::tip_pgd)
      require(in_stretch(p.offset, true) || in_gap(p.offset, end), "a change is at a stretch or in a gap", p.offset);
    if (p.kind == decode::Kind::ovf) require(in_gap(p.offset, end), "an overflow is a gap", p.offset);
  }
  return 0;
}
