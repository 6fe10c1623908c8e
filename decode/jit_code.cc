#include "decode/jit_code.h"

#include <algorithm>
#include <unordered_map>

namespace hindcast::decode {
namespace {

/// Up to the first byte that is not there.
ByteSpan whole_part(const SharedBytes& b) {
  return b.holes.empty() ? b.bytes : b.bytes.first(std::min<uint64_t>(b.holes.front(), b.bytes.size()));
}

}  // namespace

void JitCode::gap(GapCause cause, uint64_t bytes, std::string words) {
  HostGap g;
  g.cause = cause;
  g.count = bytes;
  g.words = std::move(words);
  gaps_.push_back(std::move(g));
}

void JitCode::read(const SnapshotInfo& info, ByteSource& source) {
  for (const ImageInfo& image : info.images) {
    if (image.kind != ImageKind::jitdump && image.kind != ImageKind::perf_map) continue;
    auto bytes = source.image(image.id);
    if (!bytes.ok()) {
      gap(GapCause::image_missing, image.bytes, image.path + " cannot be read: " + bytes.error().text());
      continue;
    }
    if (image.kind == ImageKind::jitdump) {
      read_dump(image, std::move(bytes).value());
      continue;
    }
    Map map{std::move(bytes).value(), {}};
    map.map = PerfMap::parse(whole_part(map.bytes));
    maps_[image.pid] = std::move(map);
  }
}

void JitCode::read_dump(const ImageInfo& image, SharedBytes bytes) {
  const ByteSpan file = whole_part(bytes);
  auto parsed = parse_jitdump(file);
  if (!parsed.ok()) {
    gap(GapCause::image_missing, image.bytes, image.path + ": " + parsed.error().text());
    return;
  }
  Dump d{image.id, image.pid, std::move(bytes), std::move(parsed).value(), {}};
  if (!d.dump.damage.empty())
    gap(GapCause::code_version_unknown, image.bytes - std::min(image.bytes, d.dump.read_bytes),
        image.path + " could be read to byte " + std::to_string(d.dump.read_bytes) + " of " +
            std::to_string(image.bytes) + " only: " + d.dump.damage);
  for (uint32_t i = 0; i < d.dump.records.size(); ++i)
    if (!d.dump.records[i].moved) d.by_offset.push_back(i);  // in the order of the file
  dumps_.emplace(image.id, std::move(d));
}

void JitCode::tell(const JitTimes& times, const std::function<void(Pid, const JitClaim&)>& told) {
  for (const auto& entry : dumps_) {
    const uint32_t id = entry.first;
    const Dump& d = entry.second;
    const auto time_of = [&](const JitRecord& r) {
      return d.dump.tsc_times ? times.tsc(r.time) : times.monotonic(r.time);
    };
    struct Now {
      uint64_t address, bytes, code_offset;
    };
    std::unordered_map<uint64_t, Now> functions;  // by index, where they are
    Interval<RecordTime> last{RecordTime(0), RecordTime(0)};
    const auto say = [&](const JitRecord& r, uint64_t address, uint64_t bytes, uint32_t image, uint64_t offset) {
      JitClaim c{address, bytes, image, offset, time_of(r)};
      if (c.from == Interval<RecordTime>::unknown()) c.image = kUnknownImage;
      told(d.pid, c);
    };
    for (const JitRecord& r : d.dump.records) {
      // A child that writes into its parent's file tells of memory that is not the parent's any more.
      if (r.pid != d.dump.pid) continue;
      last = time_of(r);
      if (!r.moved) {
        say(r, r.address, r.bytes, id, r.code_offset);
        functions[r.index] = {r.address, r.bytes, r.code_offset};
        continue;
      }
      const auto f = functions.find(r.index);
      say(r, r.old_address, r.bytes, 0, 0);
      if (f == functions.end() || f->second.address != r.old_address || f->second.bytes < r.bytes) {
        say(r, r.address, r.bytes, kUnknownImage, 0);
        continue;
      }
      say(r, r.address, r.bytes, id, f->second.code_offset);
      f->second.address = r.address;
    }
    if (d.dump.damage.empty()) continue;
    const auto lose = [&](const JitRecord& r, Interval<RecordTime> from) {
      told(d.pid, {r.address, r.bytes, kUnknownImage, 0, from});
    };
    if (d.dump.cut && d.dump.cut->pid == d.dump.pid)
      lose(*d.dump.cut, time_of(*d.dump.cut));
    else if (!d.dump.cut)
      for (const JitRecord& r : d.dump.records) lose(r, last);
  }
}

std::optional<MadeFunction> JitCode::function(Pid pid, const std::optional<CodeLocation>& where, Ip ip) const {
  if (const auto it = where ? dumps_.find(where->image) : dumps_.end(); it != dumps_.end()) {
    const Dump& d = it->second;
    const auto after =
        std::upper_bound(d.by_offset.begin(), d.by_offset.end(), where->image_offset,
                         [&](uint64_t offset, uint32_t i) { return offset < d.dump.records[i].code_offset; });
    if (after == d.by_offset.begin()) return std::nullopt;
    const JitRecord& r = d.dump.records[after[-1]];
    const uint64_t inside = where->image_offset - r.code_offset;
    if (inside >= r.bytes) return std::nullopt;
    MadeFunction f{std::string(r.name), inside, {}, 0};
    const auto lines = std::span(d.dump.lines).subspan(r.first_line, r.lines);
    const auto line = std::upper_bound(lines.begin(), lines.end(), r.address + inside,
                                       [](uint64_t at, const JitLine& l) { return at < l.address; });
    if (line != lines.begin()) {
      f.file = std::prev(line)->file;
      f.line = std::prev(line)->line;
    }
    return f;
  }
  const auto map = maps_.find(pid);
  if (map == maps_.end()) return std::nullopt;
  const PerfMapFunction* named = map->second.map.find(ip.value());
  if (!named) return std::nullopt;
  return MadeFunction{std::string(named->name), ip.value() - named->address, {}, 0};
}

}  // namespace hindcast::decode
