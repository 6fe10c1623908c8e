#include "decode/kept_scan.h"

#include <algorithm>

namespace hindcast::decode {
namespace {

/// Another one whenever a scan of the same bytes finds something else, or this file writes it in another way.
constexpr uint64_t kVersion = 0x6863'7363'616e'0003;

/// All that a scan depends on but the bytes.
std::vector<uint8_t> conditions(const PtTrace& trace, const PtTimeConfig& config) {
  std::vector<uint8_t> bytes;
  ByteWriter out(bytes);
  out.u64(kVersion);
  out.u64(trace.bytes.size());
  out.u64(trace.cuts.size());
  for (const uint64_t cut : trace.cuts) out.u64(cut);
  out.u32(config.tsc_ctc_num);
  out.u32(config.tsc_ctc_den);
  out.u8(config.mtc_period);
  out.u64(config.near.value());
  out.u64(config.traced.earliest.value());
  out.u64(config.traced.latest.value());
  out.u8(config.skd007);
  return bytes;
}

void pack(const TscInterval& time, ByteWriter& out) {
  out.u64(time.earliest.value());
  out.u64(time.latest.value());
}
TscInterval unpack_time(ByteReader& in) {
  const Tsc earliest(in.u64());
  return {earliest, Tsc(in.u64())};
}

void pack(const Stretch& s, ByteWriter& out) {
  for (const uint64_t v : {s.begin, s.end, s.sync, s.begin_ip, s.end_ip, s.end_to}) out.u64(v);
  out.u8(static_cast<uint8_t>(s.start));
  out.u8(static_cast<uint8_t>(s.how));
  out.u8(static_cast<uint8_t>(s.flow | s.plain << 1 | s.stopped << 2 | s.in_psb << 3));
  out.u8(s.bits);
  pack(s.begin_time, out);
  pack(s.end_time, out);
}
constexpr size_t kStretchBytes = 6 * 8 + 4 + 2 * 16;

/// False: no scan gives such a one.
bool unpack(ByteReader& in, uint64_t behind, uint64_t size, Stretch& s) {
  for (uint64_t* v : {&s.begin, &s.end, &s.sync, &s.begin_ip, &s.end_ip, &s.end_to}) *v = in.u64();
  s.whole_end = s.end;
  const uint8_t start = in.u8(), how = in.u8(), flags = in.u8();
  s.start = static_cast<StretchStart>(start);
  s.how = static_cast<StretchEnd>(how);
  s.flow = flags & 1;
  s.plain = flags & 2;
  s.stopped = flags & 4;
  s.in_psb = flags & 8;
  s.bits = in.u8();
  s.begin_time = unpack_time(in);
  s.end_time = unpack_time(in);
  return s.begin >= behind && s.begin < s.end && s.end <= size && s.sync <= s.begin &&
         start <= static_cast<uint8_t>(StretchStart::overflow) && how <= static_cast<uint8_t>(StretchEnd::end) &&
         flags < 16 && (s.bits == 0 || s.bits == 16 || s.bits == 32 || s.bits == 64);
}

void pack_gap(const Event& gap, ByteWriter& out) {
  out.u8(static_cast<uint8_t>(gap.cause));
  out.u64(gap.offset);
  out.u32(gap.count);
  pack(gap.time, out);
}
constexpr size_t kGapBytes = 1 + 8 + 4 + 16;

constexpr size_t kPagingBytes = 25;

bool unpack_gap(ByteReader& in, uint64_t behind, uint64_t size, Event& gap) {
  const uint8_t cause = in.u8();
  gap.kind = EventKind::gap;
  gap.cause = static_cast<GapCause>(cause);
  gap.offset = in.u64();
  gap.count = in.u32();
  gap.time = unpack_time(in);
  return gap.offset >= behind && gap.offset <= size && cause <= static_cast<uint8_t>(GapCause::cut);
}

}  // namespace

std::vector<uint8_t> pack_scan(const PtTrace& trace, const PtTimeConfig& config) {
  const StretchMap& map = trace.map;
  std::vector<uint8_t> bytes = conditions(trace, config);
  bytes.reserve(bytes.size() + trace.times.memory_bytes() + map.stretches.size() * kStretchBytes +
                map.gaps.size() * kGapBytes + map.psbs.size() * 8 + map.pagings.size() * kPagingBytes + 128);
  ByteWriter out(bytes);
  trace.times.pack(out);
  out.u64(map.stretches.size());
  for (const Stretch& s : map.stretches) pack(s, out);
  out.u64(map.gaps.size());
  for (const Event& gap : map.gaps) pack_gap(gap, out);
  out.u64(map.psbs.size());
  for (const uint64_t psb : map.psbs) out.u64(psb);
  out.u64(map.pagings.size());
  for (const Paging& p : map.pagings) {
    out.u64(p.offset);
    out.u64(p.cr3);
    out.u64(p.ip);
    out.u8(p.bits);
  }
  return bytes;
}

bool unpack_scan(ByteSpan packed, const PtTimeConfig& config, PtTrace& trace) {
  const std::vector<uint8_t> wanted = conditions(trace, config);
  ByteReader in(packed);
  if (!std::ranges::equal(in.take(wanted.size()), wanted) || !trace.times.unpack(in)) return false;
  const uint64_t size = trace.bytes.size();
  StretchMap& map = trace.map;
  map = {};

  const uint64_t stretches = in.u64();
  if (in.failed() || stretches > in.left() / kStretchBytes) return false;
  map.stretches.resize(stretches);
  uint64_t behind = 0;
  for (Stretch& s : map.stretches) {
    if (!unpack(in, behind, size, s)) return false;
    behind = s.end;
  }
  const uint64_t gaps = in.u64();
  if (in.failed() || gaps > in.left() / kGapBytes) return false;
  map.gaps.resize(gaps);
  behind = 0;
  for (Event& gap : map.gaps) {
    if (!unpack_gap(in, behind, size, gap)) return false;
    behind = gap.offset;
  }
  const uint64_t psbs = in.u64();
  if (in.failed() || psbs > in.left() / 8) return false;
  map.psbs.resize(psbs);
  behind = 0;
  for (uint64_t& psb : map.psbs) {
    psb = in.u64();
    if (psb < behind || psb >= size) return false;
    behind = psb + 1;
  }
  const uint64_t pagings = in.u64();
  if (in.failed() || pagings != in.left() / kPagingBytes || in.left() % kPagingBytes != 0) return false;
  map.pagings.resize(pagings);
  behind = 0;
  for (Paging& p : map.pagings) {
    p.offset = in.u64();
    p.cr3 = in.u64();
    p.ip = in.u64();
    p.bits = in.u8();
    if (p.offset < behind || p.offset >= size) return false;
    behind = p.offset + 1;
  }
  return true;
}

}  // namespace hindcast::decode
