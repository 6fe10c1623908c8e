#include "decode/address_space.h"

#include <algorithm>
#include <array>

#include "decode/symbols_elf.h"

namespace hindcast::decode {
namespace {

constexpr size_t kRecentImages = 64;
constexpr size_t kMostSteady = 8;
/// Beyond so many changes at once, no code is known.
constexpr size_t kMostVersions = 256;

std::string hex(ByteSpan bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string s;
  for (uint8_t b : bytes) {
    s += kDigits[b >> 4];
    s += kDigits[b & 15];
  }
  return s;
}

/// The kernel pads build-ids with zeros to 20 bytes and counts the bytes apart; either form may be stored.
bool same_build_id(std::string_view stored, std::string_view recorded) {
  const auto trim = [](std::string_view s) {
    while (s.ends_with("00")) s.remove_suffix(2);
    return s;
  };
  return !stored.empty() && trim(stored) == trim(recorded);
}

}  // namespace

uint32_t ImageStore::find(std::string_view path, ByteSpan build_id) const {
  if (!build_id.empty()) {
    const std::string id = hex(build_id);
    for (const ImageInfo& i : info_.images)
      if (i.kind == ImageKind::elf && same_build_id(i.build_id, id)) return i.id;
    // An image without a build-id note may still be this file; one with another build-id is not.
    uint32_t found = 0;
    for (const ImageInfo& i : info_.images) {
      if (i.kind != ImageKind::elf || i.path != path || !i.build_id.empty()) continue;
      if (found != 0) return 0;
      found = i.id;
    }
    return found;
  }
  uint32_t found = 0;
  for (const ImageInfo& i : info_.images) {
    if (i.kind != ImageKind::elf || i.path != path) continue;
    if (found != 0) return 0;
    found = i.id;
  }
  return found;
}

const ImageInfo* ImageStore::info(uint32_t id) const {
  for (const ImageInfo& i : info_.images)
    if (i.id == id) return &i;
  return nullptr;
}

std::shared_ptr<const ImageBytes> ImageStore::bytes(uint32_t id) {
  const auto [it, fresh] = opened_.try_emplace(id);
  if (!fresh) return it->second;
  Result<std::shared_ptr<StreamBytes>> stream = source_.image_in_parts(id);
  if (!stream.ok()) return nullptr;
  ImageBytes::Check check;
  // Another file than the one that was mapped is no code at all: its own note tells.
  if (const ImageInfo* i = info(id); i && i->kind == ImageKind::elf && !i->build_id.empty())
    check = [wanted = i->build_id](ByteSpan first) -> std::optional<bool> {
      const auto elf = ElfView::parse(first);
      const std::string own = elf.ok() ? elf->build_id() : std::string();
      if (own.empty()) return std::nullopt;
      return same_build_id(own, wanted);
    };
  it->second = std::make_shared<const ImageBytes>(std::move(stream).value(), std::move(check));
  return it->second;
}

uint32_t ImageStore::make(ByteSpan bytes) {
  const uint32_t id = kFirstMade + made_++;
  auto kept = std::make_shared<const std::vector<uint8_t>>(bytes.begin(), bytes.end());
  const ByteSpan span = *kept;
  opened_[id] = std::make_shared<const ImageBytes>(std::make_shared<WholeStream>(SharedBytes{std::move(kept), span}));
  return id;
}

AddressSpaces::AddressSpaces(const SnapshotInfo& info, ImageStore& images) : info_(info), images_(images) {
  names_.emplace_back();
  for (uint32_t i = 0; i < claim_count(); ++i) claims_[claim(i).pid].push_back(i);
  for (auto& [pid, claims] : claims_)
    std::stable_sort(claims.begin(), claims.end(),
                     [this](uint32_t a, uint32_t b) { return claim(a).from < claim(b).from; });
}

PlacementInfo AddressSpaces::claim(uint32_t index) const {
  if (index < info_.placements.size()) return info_.placements[index];
  const UnknownCode& u = info_.unknown_code[index - info_.placements.size()];
  return {u.pid, u.address, u.length, 0, kUnknownImage, u.from, u.to};
}

std::span<const uint32_t> AddressSpaces::claims_of(Pid pid) const {
  const auto it = claims_.find(pid);
  return it == claims_.end() ? std::span<const uint32_t>() : it->second;
}

uint32_t AddressSpaces::intern(std::string_view text) {
  if (text.empty()) return 0;
  const auto [it, fresh] = name_ids_.emplace(text, static_cast<uint32_t>(names_.size()));
  if (fresh) names_.emplace_back(text);
  return it->second;
}

void AddressSpaces::apply(Layout& layout, const Change& change) {
  if (change.base)
    layout = *change.base;
  else
    cover(layout, change.start, change.segment);
}

void AddressSpaces::map(RecordTime time, Tid by, const MapRecord& record) {
  changed();
  if (record.length == 0 || record.address + record.length < record.address) return;
  Change c;
  c.time = time;
  c.by = by;
  c.start = record.address;
  c.segment.end = record.address + record.length;
  c.segment.image = images_.find(record.path, record.build_id);
  c.segment.image_offset = record.file_offset;
  c.segment.map_start = record.address;
  c.segment.map_length = record.length;
  c.segment.time = time;
  c.segment.file = true;
  const bool nameless = record.path.empty() || record.path.starts_with("//anon") || record.path == "[heap]" ||
                        record.path == "[stack]" || record.path.starts_with("[anon");
  if (c.segment.image == 0 && nameless) {
    // Plain memory: matters only where it covers something. There is far too much of it to remember.
    Layout& now = spaces_[record.pid].now;
    auto it = now.lower_bound(c.start);
    const bool before = it != now.begin() && std::prev(it)->second.end > c.start;
    if (!before && (it == now.end() || it->first >= c.segment.end)) return;
  } else {
    c.segment.name = intern(record.path);
    c.segment.build_id = intern(hex(record.build_id));
  }
  Space& space = spaces_[record.pid];
  apply(space.now, c);
  space.changes.push_back(std::move(c));
}

void AddressSpaces::exec(RecordTime time, Tid by, Pid pid) {
  changed();
  Space& space = spaces_[pid];
  Change c;
  c.time = time;
  c.by = by;
  c.base = std::make_shared<const Layout>();
  apply(space.now, c);
  space.changes.push_back(std::move(c));
  space.jit.exec(time);
  if (!space.execed || *space.execed < space.forked) space.execed = time;
}

void AddressSpaces::jit(Pid pid, const JitClaim& claim) {
  changed();
  spaces_[pid].jit.add(claim);
}

void AddressSpaces::fork(RecordTime time, Pid parent, Pid child) {
  changed();
  if (parent == child) return;
  Change c;
  c.time = time;
  c.base = std::make_shared<const Layout>(spaces_[parent].now);
  Space& space = spaces_[child];
  space.parent = parent;
  space.forked = time;
  space.execed.reset();
  apply(space.now, c);
  space.changes.push_back(std::move(c));
}

void AddressSpaces::records_lost(RecordTime from, RecordTime to) {
  changed();
  for (auto& [pid, space] : spaces_) {
    // Those that were there before have forks without a time: perf makes such up from /proc.
    if (space.parent == kNoPid || space.forked == RecordTime(0) || space.forked > to) continue;
    const RecordTime at = std::max(from, space.forked);
    if (space.execed && *space.execed >= space.forked && *space.execed <= at) continue;
    space.execed = at;
    Change c;
    c.time = at;
    c.base = std::make_shared<const Layout>();
    const auto later = std::upper_bound(space.changes.begin(), space.changes.end(), at,
                                        [](RecordTime t, const Change& change) { return t < change.time; });
    space.changes.insert(later, std::move(c));
    space.cached.clear();
    space.cached_count = 0;
    space.now.clear();
    for (const Change& change : space.changes) apply(space.now, change);
  }
}

void AddressSpaces::changed() {
  steady_.clear();
  during_.clear();
  changes_.clear();
}

void AddressSpaces::ksymbol(RecordTime time, uint64_t address, uint64_t length) {
  if (length == 0 || address + length < address) return;
  changed();
  ksymbols_[address] = {length, time};
  Change c;
  c.time = time;
  c.start = address;
  c.segment.end = address + length;
  Space& space = spaces_[kNoPid];
  apply(space.now, c);
  space.changes.push_back(std::move(c));
}

void AddressSpaces::text_poke(RecordTime time, uint64_t address, ByteSpan before, ByteSpan after) {
  changed();
  const uint64_t length = std::max(before.size(), after.size());
  if (length == 0 || address + length < address) return;
  const bool known = ++pokes_ <= kMostPokes;
  Space& space = spaces_[kNoPid];
  const auto change = [&](RecordTime when, ByteSpan bytes) {
    Change c;
    c.time = when;
    c.start = address;
    c.segment.end = address + length;
    c.segment.map_start = address;
    c.segment.map_length = length;
    c.segment.time = RecordTime(when.value() + 1);  // above a copy of what the kernel put there
    c.segment.file = true;
    c.segment.image = kUnknownImage;
    if (known && bytes.size() == length) c.segment.image = images_.make(bytes);
    return c;
  };
  const auto earlier = space.now.lower_bound(address);
  const bool first = (earlier == space.now.end() || earlier->first >= address + length) &&
                     (earlier == space.now.begin() || std::prev(earlier)->second.end <= address);
  if (first) {
    RecordTime since{0};
    if (auto k = ksymbols_.upper_bound(address); k != ksymbols_.begin() && address - (--k)->first < k->second.first)
      since = k->second.second;
    const auto later = std::upper_bound(space.changes.begin(), space.changes.end(), since,
                                        [](RecordTime t, const Change& known) { return t < known.time; });
    Change c = change(since, before);
    apply(space.now, c);  // what came behind it is elsewhere
    space.changes.insert(later, std::move(c));
    space.cached.clear();
    space.cached_count = 0;
  }
  Change c = change(time, after);
  apply(space.now, c);
  space.changes.push_back(std::move(c));
}

const Layout& AddressSpaces::layout_after(Space& space, size_t count) {
  if (count == space.changes.size()) return space.now;
  if (count < space.cached_count) {
    space.cached.clear();
    space.cached_count = 0;
  }
  while (space.cached_count < count) apply(space.cached, space.changes[space.cached_count++]);
  return space.cached;
}

/// What a stretch may have met, in the order in which it came to hold; a forked child that did not exec has its parent's as
/// they were at the fork.
std::vector<AddressSpaces::Claim> AddressSpaces::claims_for(Pid pid, Tid tid, Interval<RecordTime> begun,
                                                            Interval<RecordTime> ended) {
  std::vector<Claim> found;
  const auto space = spaces_.find(pid);
  if (space != spaces_.end() && space->second.parent != kNoPid && begun.latest >= space->second.forked &&
      !(space->second.execed && *space->second.execed <= begun.latest)) {
    for (const uint32_t i : claims_of(space->second.parent)) {
      const PlacementInfo p = claim(i);
      if (p.from <= space->second.forked && space->second.forked <= p.to) found.push_back({i, true, false});
    }
  }
  const auto take = [&](std::span<const uint32_t> claims) {
    for (const uint32_t i : claims) {
      const PlacementInfo p = claim(i);
      if (p.from > std::max(begun.latest, ended.latest)) break;
      const bool own = p.by != kNoTid && p.by == tid;
      if (own && p.from > begun.latest) continue;
      if (p.to < begun.earliest) continue;
      // Its own call is in front of the stretch or behind it: not behind it, if it surely ended later.
      const bool settled = p.from <= begun.earliest || (own && p.from < ended.earliest);
      found.push_back({i, settled, settled && p.to >= ended.latest});
    }
  };
  take(claims_of(kNoPid));
  if (pid != kNoPid) take(claims_of(pid));
  return found;
}

void AddressSpaces::overlay(Layout& layout, const std::vector<Claim>& claims) {
  for (const Claim& c : claims) {
    const PlacementInfo p = claim(c.index);
    if (p.length == 0 || p.address + p.length < p.address) continue;
    // The parts that no file mapped later holds.
    std::vector<std::pair<uint64_t, uint64_t>> free;
    for_each_piece(layout, p.address, p.address + p.length,
                   [&](uint64_t from, uint64_t to, uint64_t, const Segment* s) {
                     if (s && s->file && s->image != 0 && s->time > p.from) return;
                     free.emplace_back(from, to);
                   });
    for (const auto& [from, to] : free) {
      Segment s;
      s.end = to;
      s.image = p.image;
      s.image_offset = p.image_offset + (from - p.address);
      s.map_start = p.address;
      s.map_length = p.length;
      s.time = p.from;
      s.copied = c.whole;
      if (c.settled)
        cover(layout, from, s);
      else
        merge(layout, from, s);
    }
  }
}

const AddressSpaces::Differences& AddressSpaces::differences(const Segment& one, const Segment& other, uint64_t bytes) {
  const Compared key{one.image, one.image_offset, other.image, other.image_offset, bytes};
  if (const auto it = compared_.find(key); it != compared_.end()) return it->second;
  if (compared_.size() >= kMostCompared) compared_.clear();
  Differences& out = compared_[key];
  const auto a = images_.bytes(one.image), b = images_.bytes(other.image);
  const auto differ = [&out](uint64_t from, uint64_t to) {
    if (!out.empty() && from - out.back().second < kTooShort)
      out.back().second = to;
    else
      out.emplace_back(from, to);
  };
  std::array<uint8_t, 4096> buffer_a, buffer_b;
  for (uint64_t at = 0; at < bytes;) {
    const size_t wanted = std::min<uint64_t>(buffer_a.size(), bytes - at);
    const size_t n = a ? a->read(one.image_offset + at, std::span(buffer_a).first(wanted)) : 0;
    const size_t m = b && n != 0 ? b->read(other.image_offset + at, std::span(buffer_b).first(n)) : 0;
    if (m == 0) {
      // What one of them does not hold is not known to be equal.
      differ(at, bytes);
      break;
    }
    for (size_t i = 0; i < m; ++i)
      if (buffer_a[i] != buffer_b[i]) differ(at + i, at + i + 1);
    at += m;
  }
  return out;
}

/// `one` from `from` to its end, but for what `other` has otherwise: nobody knows that.
void AddressSpaces::put_where_equal(Layout& layout, uint64_t from, const Segment& one, const Segment& other) {
  cover(layout, from, one);
  if (one.image == other.image && one.image_offset == other.image_offset) return;
  if (!one.has_bytes() || !other.has_bytes()) {
    if (one.image == other.image) return;
    Segment s = one;
    s.image = kUnknownImage;
    cover(layout, from, s);
    return;
  }
  for (const auto& [begin, end] : differences(one, other, one.end - from)) {
    Segment s = part_of(from, one, from + begin, from + end);
    s.image = kUnknownImage;
    s.copied = false;
    cover(layout, from + begin, s);
  }
}

/// The segment may lie there, or still what lay there before it.
void AddressSpaces::merge(Layout& layout, uint64_t start, const Segment& segment) {
  struct Piece {
    uint64_t from;
    Segment now;
  };
  std::vector<Piece> pieces;
  for_each_piece(layout, start, segment.end, [&](uint64_t from, uint64_t to, uint64_t segment_start, const Segment* s) {
    Piece p{from, {}};
    if (s && s->image != 0) p.now = part_of(segment_start, *s, from, to);
    p.now.end = to;
    pieces.push_back(p);
  });
  for (const Piece& p : pieces) {
    const Segment part = part_of(start, segment, p.from, p.now.end);
    if (p.now.image == 0)
      cover(layout, p.from, part);
    else
      put_where_equal(layout, p.from, p.now, part);
  }
}

bool AddressSpaces::has_jit(Pid pid) const {
  const auto space = spaces_.find(pid);
  if (space == spaces_.end()) return false;
  if (!space->second.jit.empty()) return true;
  const auto parent = spaces_.find(space->second.parent);
  return parent != spaces_.end() && !parent->second.jit.empty();
}

/// What JIT compilers said of the process's code, where it may have run between the two times.
Layout AddressSpaces::jit_at(Pid pid, RecordTime begun, RecordTime ended) {
  Layout layout;
  const auto add = [&](JitLayer& jit, RecordTime settled, RecordTime until) {
    for (const auto& [start, segment] : jit.settled(settled)) cover(layout, start, segment);
    jit.for_each_unsettled(settled, until, [&](const JitClaim& c) {
      Segment s = JitLayer::segment_of(c);
      s.time = RecordTime::max();
      merge(layout, c.address, s);
    });
  };
  Space& space = spaces_[pid];
  const auto parent = spaces_.find(space.parent);
  if (parent != spaces_.end() && begun >= space.forked && !(space.execed && *space.execed <= begun))
    add(parent->second.jit, space.forked, space.forked);
  add(space.jit, begun, ended);
  return layout;
}

std::optional<JitLayer::Piece> AddressSpaces::jit_piece(Pid pid, Interval<RecordTime> time, Ip ip) {
  Space& space = spaces_[pid];
  if (const auto own = space.jit.at(time, ip.value())) return own;
  const auto parent = spaces_.find(space.parent);
  if (parent == spaces_.end() || time.earliest < space.forked || (space.execed && *space.execed <= time.earliest))
    return std::nullopt;
  return parent->second.jit.at({space.forked, space.forked}, ip.value());
}

void AddressSpaces::overlay_jit(Layout& layout, const Layout& jit) {
  struct Piece {
    uint64_t from;
    Segment said, copy;
  };
  std::vector<Piece> pieces;
  for (const auto& entry : jit) {
    const uint64_t start = entry.first;
    const Segment& said = entry.second;
    for_each_piece(layout, start, said.end, [&](uint64_t from, uint64_t to, uint64_t segment_start, const Segment* s) {
      if (s && s->file && s->image != 0 && s->time > said.time) return;
      Piece p{from, part_of(start, said, from, to), {}};
      if (s && s->has_bytes() && s->copied) p.copy = part_of(segment_start, *s, from, to);
      pieces.push_back(p);
    });
  }
  for (const Piece& p : pieces) {
    if (p.copy.image == 0)
      cover(layout, p.from, p.said);
    else if (p.said.has_bytes() && p.said.time > p.copy.time)
      put_where_equal(layout, p.from, p.said, p.copy);
  }
}

std::shared_ptr<const CodeImage> AddressSpaces::image_at(Pid pid, Tid tid, Interval<RecordTime> begun,
                                                         Interval<RecordTime> ended) {
  for (const Steady& s : steady_)
    if (s.pid == pid && s.from <= begun.earliest && is_before(std::max(begun.latest, ended.latest), s.to))
      return s.image;
  auto image = make_image(pid, tid, begun, ended);
  const auto [from, to] = unchanged_around(pid, begun.latest);
  if (begun.earliest < from || !is_before(ended.latest, to)) return image;
  if (steady_.size() == kMostSteady) steady_.pop_back();
  steady_.push_front({pid, from, to, image});
  return image;
}

/// The longest time around this one in which no record changes what code the process has.
std::pair<RecordTime, RecordTime> AddressSpaces::unchanged_around(Pid pid, RecordTime time) {
  const std::span<const RecordTime> all = changes(pid);
  const auto next = std::upper_bound(all.begin(), all.end(), time);
  return {next == all.begin() ? RecordTime(0) : *std::prev(next), next == all.end() ? RecordTime::max() : *next};
}

std::shared_ptr<const SectionImage> AddressSpaces::make_image(Pid pid, Tid tid, Interval<RecordTime> began,
                                                              Interval<RecordTime> end) {
  const RecordTime begun = began.latest, ended = end.latest;
  Image want;
  want.pid = pid;
  want.key_count = 0;
  auto space = spaces_.find(pid);
  if (space != spaces_.end()) {
    const std::vector<Change>& changes = space->second.changes;
    const auto after = [](RecordTime t, const Change& c) { return t < c.time; };
    const auto count =
        static_cast<size_t>(std::upper_bound(changes.begin(), changes.end(), begun, after) - changes.begin());
    want.key_count = count;
    bool contiguous = true;
    for (size_t i = count; i < changes.size() && changes[i].time <= ended; ++i) {
      const Change& c = changes[i];
      // Another thread's exec ends this one, so it is after the stretch.
      if (c.base || c.by == tid || c.by == kNoTid) {
        contiguous = false;
        continue;
      }
      if (contiguous)
        want.key_count = i + 1;
      else
        want.extra.push_back(i);
    }
  }
  want.claims = claims_for(pid, tid, began, end);
  want.kernel_count = changes_until(kNoPid, begun);
  want.with_jit = has_jit(pid);
  for (auto it = recent_.begin(); it != recent_.end(); ++it) {
    if (it->pid == pid && it->key_count == want.key_count && it->kernel_count == want.kernel_count &&
        it->extra == want.extra && it->claims == want.claims && !want.with_jit) {
      if (it != recent_.begin()) {
        Image found = std::move(*it);
        recent_.erase(it);
        recent_.push_front(std::move(found));
      }
      return recent_.front().image;
    }
  }
  want.image = shared(sections_of(layout_of(want, began.earliest, ended)));
  recent_.push_front(std::move(want));
  if (recent_.size() > kRecentImages) recent_.pop_back();
  return recent_.front().image;
}

size_t AddressSpaces::changes_until(Pid pid, RecordTime time) const {
  const auto space = spaces_.find(pid);
  if (space == spaces_.end()) return 0;
  const auto after = [](RecordTime t, const Change& c) { return t < c.time; };
  const std::vector<Change>& all = space->second.changes;
  return static_cast<size_t>(std::upper_bound(all.begin(), all.end(), time, after) - all.begin());
}

Layout AddressSpaces::layout_of(const Image& want, RecordTime begun, RecordTime ended) {
  Layout layout;
  // Mappings of pid -1 are the kernel's: every process has them.
  if (const auto all = spaces_.find(kNoPid); all != spaces_.end() && want.pid != kNoPid)
    layout = layout_after(all->second, want.kernel_count);
  if (const auto space = spaces_.find(want.pid); space != spaces_.end()) {
    Layout own = layout_after(space->second, want.key_count);
    for (const size_t i : want.extra) apply(own, space->second.changes[i]);
    for (const auto& [start, segment] : own) cover(layout, start, segment);
  }
  overlay(layout, want.claims);
  if (want.with_jit) overlay_jit(layout, jit_at(want.pid, begun, ended));
  return layout;
}

Layout AddressSpaces::layout_at(Pid pid, RecordTime time) {
  Image want;
  want.pid = pid;
  want.key_count = changes_until(pid, time);
  want.kernel_count = changes_until(kNoPid, time);
  want.claims = claims_for(pid, kNoTid, {time, time}, {time, time});
  want.with_jit = has_jit(pid);
  return layout_of(want, time, time);
}

/// What decoders learn of code serves all that have it at the same addresses: forks that did not exec, a process that mapped
/// something else meanwhile, and the next time in which no more is known.
std::shared_ptr<const SectionImage> AddressSpaces::shared(std::shared_ptr<const SectionImage> image) const {
  const auto same = [&](const auto& known) { return known.image->same_as(*image); };
  if (const auto known = std::find_if(recent_.begin(), recent_.end(), same); known != recent_.end())
    return known->image;
  if (const auto known = std::find_if(during_.begin(), during_.end(), same); known != during_.end())
    return known->image;
  return image;
}

std::shared_ptr<const CodeImage> AddressSpaces::image_during(Pid pid, RecordTime from, RecordTime to) {
  const std::span<const RecordTime> all = changes(pid);
  auto change = std::upper_bound(all.begin(), all.end(), from);
  if (change == all.end() || *change > to) return image_at(pid, kNoTid, from, from);
  for (const Steady& s : during_)
    if (s.pid == pid && s.from == from && s.to == to) return s.image;
  Layout known;
  const auto end = std::upper_bound(change, all.end(), to);
  if (static_cast<size_t>(end - change) <= kMostVersions) {
    known = layout_at(pid, from);
    for (; change != end; ++change)
      for (const auto& [start, segment] : layout_at(pid, *change))
        if (segment.image != 0) merge(known, start, segment);
  }
  auto image = shared(sections_of(known));
  if (during_.size() == kMostSteady) during_.pop_back();
  during_.push_front({pid, from, to, image});
  return image;
}

std::span<const RecordTime> AddressSpaces::changes(Pid pid) {
  const auto [it, fresh] = changes_.try_emplace(pid);
  std::vector<RecordTime>& times = it->second;
  if (!fresh) return times;
  const auto own = spaces_.find(pid);
  // A forked child has its parent's copies, and what its compiler said.
  const Pid parent = own == spaces_.end() ? kNoPid : own->second.parent;
  for (const Pid whose : {pid, parent, kNoPid}) {
    for (const uint32_t i : claims_of(whose)) {
      const PlacementInfo p = claim(i);
      times.push_back(p.from);
      if (p.to != RecordTime::max()) times.push_back(RecordTime(p.to.value() + 1));
    }
    if (const auto space = spaces_.find(whose); space != spaces_.end()) space->second.jit.add_times(times);
  }
  for (const Pid whose : {pid, kNoPid}) {
    const auto space = spaces_.find(whose);
    if (space == spaces_.end()) continue;
    for (const Change& c : space->second.changes) times.push_back(c.time);
    times.push_back(space->second.forked);
    if (space->second.execed) times.push_back(*space->second.execed);
  }
  std::sort(times.begin(), times.end());
  times.erase(std::unique(times.begin(), times.end()), times.end());
  return times;
}

std::shared_ptr<const SectionImage> AddressSpaces::sections_of(const Layout& layout) {
  std::vector<SectionImage::Backed> sections;
  std::vector<SectionImage::Range> unknown;
  for (const auto& [start, segment] : layout) {
    if (segment.image == kUnknownImage) {
      unknown.push_back({start, segment.end});
      continue;
    }
    if (segment.image == 0) continue;
    auto bytes = images_.bytes(segment.image);
    if (!bytes || segment.image_offset >= bytes->size()) continue;
    const uint64_t n = std::min(segment.end - start, bytes->size() - segment.image_offset);
    sections.push_back({{Ip(start), n, segment.image, segment.image_offset}, std::move(bytes)});
  }
  return std::make_shared<SectionImage>(std::move(sections), std::move(unknown));
}

std::optional<CodeLocation> AddressSpaces::locate(Pid pid, Interval<RecordTime> when, Ip ip) {
  // Placements above files, the newest first, unless a file was mapped there later: the rule of overlay().
  const RecordTime time = when.earliest;
  const Segment* file = nullptr;
  uint64_t file_start = 0;
  for (const Pid p : {pid, kNoPid}) {
    const auto it = spaces_.find(p);
    if (it == spaces_.end() || file) continue;
    const std::vector<Change>& changes = it->second.changes;
    const auto after = [](RecordTime t, const Change& c) { return t < c.time; };
    const auto count = std::upper_bound(changes.begin(), changes.end(), time, after) - changes.begin();
    const Layout& layout = layout_after(it->second, static_cast<size_t>(count));
    auto seg = layout.upper_bound(ip.value());
    if (seg == layout.begin()) continue;
    --seg;
    if (seg->second.end <= ip.value() || seg->second.name == 0) continue;  // what TEXT_POKE told has no name of its own
    file = &seg->second;
    file_start = seg->first;
  }
  std::optional<PlacementInfo> placed;
  for (const Claim& c : claims_for(pid, kNoTid, {time, time}, {time, std::max(time, when.latest)})) {
    const PlacementInfo p = claim(c.index);
    if (p.image == kUnknownImage || ip.value() < p.address || ip.value() - p.address >= p.length) continue;
    if (file && file->image != 0 && file->time > p.from) continue;
    if (c.settled || !placed) placed = p;
  }
  if (has_jit(pid)) {
    const auto said = jit_piece(pid, {time, std::max(time, when.latest)}, ip);
    if (said && !(file && file->image != 0 && file->time > said->segment.time)) {
      const Segment& s = said->segment;
      placed = PlacementInfo{pid, s.map_start, s.map_length, s.image_offset - (said->begin - s.map_start), s.image};
    }
  }
  CodeLocation at;
  if (placed) {
    at.image = placed->image;
    at.image_offset = placed->image_offset + (ip.value() - placed->address);
    at.map_start = placed->address;
    at.map_length = placed->length;
    if (file) at.path = names_[file->name];
  } else if (file) {
    at.image = file->image;
    at.image_offset = file->image_offset + (ip.value() - file_start);
    at.map_start = file->map_start;
    at.map_length = file->map_length;
    at.path = names_[file->name];
    at.build_id = names_[file->build_id];
  } else {
    return std::nullopt;
  }
  if (const ImageInfo* i = images_.info(at.image)) {
    if (at.path.empty()) at.path = i->path;
    if (!i->build_id.empty()) at.build_id = i->build_id;
  }
  return at;
}

bool AddressSpaces::has_space(Pid pid) const {
  const auto space = spaces_.find(pid);
  return pid != kNoPid && space != spaces_.end() && !space->second.now.empty();
}

bool AddressSpaces::knows(Pid pid) const {
  if (const auto it = spaces_.find(pid); it != spaces_.end() && !it->second.changes.empty()) return true;
  return std::any_of(info_.placements.begin(), info_.placements.end(),
                     [pid](const PlacementInfo& p) { return p.pid == kNoPid || p.pid == pid; });
}

}  // namespace hindcast::decode
