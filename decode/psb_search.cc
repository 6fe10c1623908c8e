#include "decode/psb_search.h"

#include <algorithm>
#include <cstring>

#include "decode/pt_opcodes.h"

namespace hindcast::decode {
namespace {

constexpr uint32_t kPairs = 0x82028202;         // 02 82 02 82, little-endian
constexpr uint32_t kPairsShifted = 0x02820282;  // 82 02 82 02
constexpr uint64_t kFourPairs = uint64_t{kPairs} << 32 | kPairs;

// A PSB is 16 bytes, so of probes of 4 bytes at every 13th byte exactly one lies wholly inside it: 4 of 13 bytes are looked at.
constexpr uint64_t kProbe = 4, kStride = kPsbBytes - kProbe + 1;

template <class T>
T load(const uint8_t* p) {
  T v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

bool is_inside_run(uint32_t probe) { return probe == kPairs || probe == kPairsShifted; }
bool is_pair(const uint8_t* p) { return p[0] == 0x02 && p[1] == 0x82; }

/// Pairs 02 82 that stand together.
struct Run {
  uint64_t begin, end;
  bool has_psb() const { return end - begin >= kPsbBytes; }
  uint64_t first_psb() const { return begin + (end - begin) % kPsbBytes; }
};

/// The run around a probe, from `from` on.
Run run_around(ByteSpan bytes, uint64_t from, uint64_t probe) {
  const uint8_t* const d = bytes.data();
  const bool shifted = load<uint32_t>(d + probe) == kPairsShifted;
  Run r{probe + shifted, probe + kProbe - shifted};
  while (r.begin >= from + 8 && load<uint64_t>(d + r.begin - 8) == kFourPairs) r.begin -= 8;
  while (r.begin >= from + 2 && is_pair(d + r.begin - 2)) r.begin -= 2;
  while (r.end + 8 <= bytes.size() && load<uint64_t>(d + r.end) == kFourPairs) r.end += 8;
  while (r.end + 2 <= bytes.size() && is_pair(d + r.end)) r.end += 2;
  return r;
}

/// The first run from there on that has a PSB.
std::optional<Run> next_run(ByteSpan bytes, uint64_t from) {
  const uint64_t size = bytes.size();
  if (size < kPsbBytes || from > size - kPsbBytes) return std::nullopt;
  for (uint64_t probe = from + kStride - 1; probe + kProbe <= size;) {
    if (!is_inside_run(load<uint32_t>(bytes.data() + probe))) [[likely]] {
      probe += kStride;
      continue;
    }
    const Run run = run_around(bytes, from, probe);
    if (run.has_psb()) return run;
    probe = run.end + kStride - 1;  // no PSB begins before its end: the pair there is broken
  }
  return std::nullopt;
}

}  // namespace

std::optional<uint64_t> next_psb(ByteSpan bytes, uint64_t from) {
  const auto run = next_run(bytes, from);
  if (!run) return std::nullopt;
  return run->first_psb();
}

std::optional<uint64_t> last_psb(ByteSpan bytes, uint64_t at) {
  if (bytes.size() < kPsbBytes) return std::nullopt;
  at = std::min(at, bytes.size() - kPsbBytes);
  for (uint64_t probe = at;;) {
    uint64_t end = probe + kProbe - 1;  // no PSB that is left reaches beyond it
    if (is_inside_run(load<uint32_t>(bytes.data() + probe))) {
      const Run run = run_around(bytes, 0, probe);
      if (run.has_psb() && run.first_psb() <= at) {
        const uint64_t last = std::min(at, run.end - kPsbBytes);
        return last - (last - run.first_psb()) % kPsbBytes;
      }
      end = run.begin;
    }
    if (end < kPsbBytes) return std::nullopt;
    probe = end - kPsbBytes;
  }
}

std::optional<uint64_t> PsbSearch::next(uint64_t from) {
  if (from >= from_) {
    if (!found_ || from <= *found_) return found_;
    const uint64_t psb = *found_ + (from - *found_ + kPsbBytes - 1) / kPsbBytes * kPsbBytes;
    if (psb + kPsbBytes <= to_) return psb;
  }
  const auto run = next_run(bytes_, from);
  from_ = from;
  found_.reset();
  if (!run) return std::nullopt;
  to_ = run->end;
  return found_ = run->first_psb();
}

}  // namespace hindcast::decode
