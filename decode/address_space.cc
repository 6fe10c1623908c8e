#include "decode/address_space.h"

#include <algorithm>

#include "decode/symbols_elf.h"

namespace hindcast::decode {
namespace {

constexpr size_t kRecentImages = 64;
constexpr size_t kMostSteady = 8;
/// Beyond so many changes at once, no code is known.
constexpr size_t kMostVersions = 256;
constexpr size_t kMaxSegments = size_t{1} << 20;  // per process; beyond it new mappings only cover

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
}

uint32_t AddressSpaces::intern(std::string_view text) {
  if (text.empty()) return 0;
  const auto [it, fresh] = name_ids_.emplace(text, static_cast<uint32_t>(names_.size()));
  if (fresh) names_.emplace_back(text);
  return it->second;
}

/// Makes [start, segment.end) the segment's; what it covers is cut or split. A segment without an image or a name only
/// covers.
void AddressSpaces::cover(Layout& layout, uint64_t start, const Segment& segment) {
  const uint64_t end = segment.end;
  auto it = layout.lower_bound(start);
  if (it != layout.begin()) --it;
  while (it != layout.end() && it->first < end) {
    const uint64_t old_start = it->first;
    const Segment old = it->second;
    if (old.end <= start) {
      ++it;
      continue;
    }
    it = layout.erase(it);
    if (old_start < start) {
      Segment head = old;
      head.end = start;
      layout.emplace(old_start, head);
    }
    if (old.end > end) {
      Segment tail = old;
      tail.image_offset += end - old_start;
      it = layout.emplace(end, tail).first;
      break;
    }
  }
  if (segment.image == 0 && segment.name == 0) return;
  if (layout.size() < kMaxSegments) layout[start] = segment;
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
  if (!space.execed || *space.execed < space.forked) space.execed = time;
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
  change_times_.clear();
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
    c.segment.image = ImageStore::kUnknown;
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

const AddressSpaces::Layout& AddressSpaces::layout_after(Space& space, size_t count) {
  if (count == space.changes.size()) return space.now;
  if (count < space.cached_count) {
    space.cached.clear();
    space.cached_count = 0;
  }
  while (space.cached_count < count) apply(space.cached, space.changes[space.cached_count++]);
  return space.cached;
}

/// Those valid at that time for the process, or, in a forked child that did not exec, for its parent when it forked.
std::vector<uint32_t> AddressSpaces::placements_for(Pid pid, RecordTime time) const {
  std::vector<uint32_t> found;
  const auto space = spaces_.find(pid);
  const bool inherits = space != spaces_.end() && space->second.parent != kNoPid && time >= space->second.forked &&
                        !(space->second.execed && *space->second.execed <= time);
  for (uint32_t i = 0; i < info_.placements.size(); ++i) {
    const PlacementInfo& p = info_.placements[i];
    const bool own = (p.pid == kNoPid || p.pid == pid) && p.from <= time && time <= p.to;
    const bool inherited =
        inherits && p.pid == space->second.parent && p.from <= space->second.forked && space->second.forked <= p.to;
    if (own || inherited) found.push_back(i);
  }
  std::stable_sort(found.begin(), found.end(),
                   [this](uint32_t a, uint32_t b) { return info_.placements[a].from < info_.placements[b].from; });
  return found;
}

void AddressSpaces::overlay(Layout& layout, const std::vector<uint32_t>& placements) const {
  for (const uint32_t i : placements) {
    const PlacementInfo& p = info_.placements[i];
    if (p.length == 0 || p.address + p.length < p.address) continue;
    // The parts that no file mapped later holds.
    std::vector<std::pair<uint64_t, uint64_t>> free;
    uint64_t at = p.address;
    const uint64_t end = p.address + p.length;
    auto it = layout.upper_bound(at);
    if (it != layout.begin()) --it;
    for (; it != layout.end() && it->first < end; ++it) {
      if (it->second.end <= at || it->second.image == 0 || it->second.time <= p.from) continue;
      if (it->first > at) free.emplace_back(at, it->first);
      at = it->second.end;
    }
    if (at < end) free.emplace_back(at, end);
    for (const auto& [from, to] : free) {
      Segment s;
      s.end = to;
      s.image = p.image;
      s.image_offset = p.image_offset + (from - p.address);
      s.map_start = p.address;
      s.map_length = p.length;
      s.time = p.from;
      cover(layout, from, s);
    }
  }
}

std::shared_ptr<const CodeImage> AddressSpaces::image_at(Pid pid, Tid tid, RecordTime begun, RecordTime ended) {
  for (const Steady& s : steady_)
    if (s.pid == pid && s.from <= begun && is_before(std::max(begun, ended), s.to)) return s.image;
  auto image = make_image(pid, tid, begun, ended);
  const auto [from, to] = unchanged_around(pid, begun);
  if (!is_before(ended, to)) return image;
  if (steady_.size() == kMostSteady) steady_.pop_back();
  steady_.push_front({pid, from, to, image});
  return image;
}

/// The longest time around this one in which no record changes what code the process has.
std::pair<RecordTime, RecordTime> AddressSpaces::unchanged_around(Pid pid, RecordTime time) const {
  RecordTime from{0}, to = RecordTime::max();
  const auto change = [&](RecordTime t) {
    if (t <= time)
      from = std::max(from, t);
    else
      to = std::min(to, t);
  };
  for (const Pid p : {pid, kNoPid}) {
    const auto space = spaces_.find(p);
    if (space == spaces_.end()) continue;
    const std::vector<Change>& changes = space->second.changes;
    const auto next = std::upper_bound(changes.begin(), changes.end(), time,
                                       [](RecordTime t, const Change& c) { return t < c.time; });
    if (next != changes.begin()) change(std::prev(next)->time);
    if (next != changes.end()) change(next->time);
    change(space->second.forked);
    if (space->second.execed) change(*space->second.execed);
  }
  for (const PlacementInfo& p : info_.placements) {
    change(p.from);
    if (p.to != RecordTime::max()) change(RecordTime(p.to.value() + 1));
  }
  return {from, to};
}

std::shared_ptr<const CodeImage> AddressSpaces::make_image(Pid pid, Tid tid, RecordTime begun, RecordTime ended) {
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
  want.kernel_count = changes_until(kNoPid, begun);
  want.placements = placements_for(pid, begun);
  for (auto it = recent_.begin(); it != recent_.end(); ++it) {
    if (it->pid == pid && it->key_count == want.key_count && it->kernel_count == want.kernel_count &&
        it->extra == want.extra && it->placements == want.placements) {
      if (it != recent_.begin()) {
        Image found = std::move(*it);
        recent_.erase(it);
        recent_.push_front(std::move(found));
      }
      return recent_.front().image;
    }
  }
  want.image = image_with(sections_of(layout_of(want)));
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

AddressSpaces::Layout AddressSpaces::layout_of(const Image& want) {
  Layout layout;
  // Mappings of pid -1 are the kernel's: every process has them.
  if (const auto all = spaces_.find(kNoPid); all != spaces_.end() && want.pid != kNoPid)
    layout = layout_after(all->second, want.kernel_count);
  if (const auto space = spaces_.find(want.pid); space != spaces_.end()) {
    Layout own = layout_after(space->second, want.key_count);
    for (const size_t i : want.extra) apply(own, space->second.changes[i]);
    for (const auto& [start, segment] : own) cover(layout, start, segment);
  }
  overlay(layout, want.placements);
  return layout;
}

AddressSpaces::Layout AddressSpaces::layout_at(Pid pid, RecordTime time) {
  return layout_of({pid, changes_until(pid, time), changes_until(kNoPid, time), {}, placements_for(pid, time), {}});
}

std::vector<SectionImage::Backed> AddressSpaces::sections_of(const Layout& layout) {
  std::vector<SectionImage::Backed> sections;
  for (const auto& [start, segment] : layout) {
    if (segment.image == 0) continue;
    auto bytes = images_.bytes(segment.image);
    if (!bytes || segment.image_offset >= bytes->size()) continue;
    const uint64_t n = std::min(segment.end - start, bytes->size() - segment.image_offset);
    sections.push_back({{Ip(start), n, segment.image, segment.image_offset}, std::move(bytes)});
  }
  return sections;
}

/// What decoders learn of code serves all processes that have it at the same addresses: forks that did not exec, and one that
/// mapped something else meanwhile.
std::shared_ptr<const CodeImage> AddressSpaces::image_with(std::vector<SectionImage::Backed> sections) const {
  const auto same = [&](const auto& known) {
    return std::ranges::equal(sections, known.image->sections(), {}, &SectionImage::Backed::section);
  };
  if (const auto known = std::find_if(recent_.begin(), recent_.end(), same); known != recent_.end())
    return known->image;
  if (const auto known = std::find_if(during_.begin(), during_.end(), same); known != during_.end())
    return known->image;
  return std::make_shared<SectionImage>(std::move(sections));
}

/// What is in one of them, or the same in both; where they differ it is unknown.
AddressSpaces::Layout AddressSpaces::common(const Layout& a, const Layout& b) {
  Layout out = a;
  for (const auto& [start, segment] : b) {
    if (segment.image == 0) continue;
    // The parts that differ, and those that are new.
    std::vector<std::pair<uint64_t, Segment>> parts;
    uint64_t at = start;
    auto it = a.upper_bound(start);
    if (it != a.begin()) --it;
    const auto part = [&parts, whole = segment, begin = start](uint64_t from, uint64_t to, bool known) {
      Segment s = whole;
      s.image_offset += from - begin;
      s.end = to;
      if (!known) s.image = ImageStore::kUnknown;
      parts.emplace_back(from, s);
    };
    for (; it != a.end() && it->first < segment.end; ++it) {
      if (it->second.end <= at || it->second.image == 0) continue;
      const uint64_t from = std::max(at, it->first), to = std::min(it->second.end, segment.end);
      if (from > at) part(at, from, true);
      const bool same =
          it->second.image == segment.image && it->second.image_offset - it->first == segment.image_offset - start;
      if (!same) part(from, to, false);
      at = to;
    }
    if (at < segment.end) part(at, segment.end, true);
    for (const auto& [from, s] : parts) cover(out, from, s);
  }
  return out;
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
    for (; change != end; ++change) known = common(known, layout_at(pid, *change));
  }
  Steady made{pid, from, to, image_with(sections_of(known))};
  if (during_.size() == kMostSteady) during_.pop_back();
  during_.push_front(std::move(made));
  return during_.front().image;
}

void AddressSpaces::add_changes(Pid pid, std::vector<RecordTime>& times) const {
  if (const auto space = spaces_.find(pid); space != spaces_.end()) {
    for (const Change& c : space->second.changes) times.push_back(c.time);
    times.push_back(space->second.forked);
    if (space->second.execed) times.push_back(*space->second.execed);
  }
  // A forked child has its parent's copies.
  const auto space = spaces_.find(pid);
  const Pid parent = space == spaces_.end() ? kNoPid : space->second.parent;
  for (const PlacementInfo& p : info_.placements) {
    if (p.pid != pid && (parent == kNoPid || p.pid != parent)) continue;
    times.push_back(p.from);
    if (p.to != RecordTime::max()) times.push_back(RecordTime(p.to.value() + 1));
  }
}

std::span<const RecordTime> AddressSpaces::changes(Pid pid) {
  const auto [it, fresh] = change_times_.try_emplace(pid);
  std::vector<RecordTime>& times = it->second;
  if (!fresh) return times;
  add_changes(pid, times);
  if (pid != kNoPid) add_changes(kNoPid, times);
  std::sort(times.begin(), times.end());
  times.erase(std::unique(times.begin(), times.end()), times.end());
  return times;
}

std::optional<CodeLocation> AddressSpaces::locate(Pid pid, RecordTime time, Ip ip) {
  // Placements above files, the newest first, unless a file was mapped there later: the rule of overlay().
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
    if (seg->second.end <= ip.value()) continue;
    file = &seg->second;
    file_start = seg->first;
  }
  const PlacementInfo* placed = nullptr;
  for (const uint32_t i : placements_for(pid, time)) {
    const PlacementInfo& p = info_.placements[i];
    if (ip.value() < p.address || ip.value() - p.address >= p.length) continue;
    if (file && file->image != 0 && file->time > p.from) continue;
    placed = &p;
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
