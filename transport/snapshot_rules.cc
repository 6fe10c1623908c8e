// The rules of snapshot_rules.h, checked all at once.
#include "transport/snapshot_rules.h"

#include <unordered_map>
#include <unordered_set>

#include "hindcast/bundle_format.h"

namespace hindcast::transport {
namespace {

class Findings {
 public:
  void add(std::string line) {
    if (lines_.size() < kMost) lines_.push_back(std::move(line));
  }
  bool full() const { return lines_.size() >= kMost; }
  std::vector<std::string> take() { return std::move(lines_); }

  void count(const char* what, size_t n, size_t limit) {
    if (n > limit) add(std::to_string(n) + " " + what + "; at most " + std::to_string(limit));
  }
  void text(const std::string& what, const std::string& s, size_t limit = bundle::kMaxTextBytes) {
    if (s.size() > limit) add(what + " has " + std::to_string(s.size()) + " bytes; at most " + std::to_string(limit));
    if (s.find('\0') != s.npos) add(what + " holds a NUL byte");
  }

 private:
  static constexpr size_t kMost = 20;
  std::vector<std::string> lines_;
};

void check_streams(const SnapshotInfo& info, Findings& f) {
  std::unordered_set<uint32_t> ids;
  for (const StreamInfo& s : info.streams) {
    const std::string name = "stream " + std::to_string(s.id);
    if (s.id == 0) f.add("a stream has id 0");
    if (!ids.insert(s.id).second) f.add(name + " is there twice");
    const auto kind = static_cast<uint8_t>(s.kind);
    if (kind < static_cast<uint8_t>(StreamKind::pt) || kind > static_cast<uint8_t>(StreamKind::net))
      f.add(name + " has the unknown kind " + std::to_string(kind));
    f.count((name + " cuts").c_str(), s.cuts.size(), bundle::kMaxCuts);
    uint64_t last = 0;
    for (uint64_t cut : s.cuts) {
      if (cut < last || cut > s.bytes) {
        f.add(name + " has a cut at " + std::to_string(cut) + ", out of order or beyond its end");
        break;
      }
      last = cut;
    }
    if (f.full()) return;
  }
}

void check_images(const SnapshotInfo& info, Findings& f) {
  std::unordered_map<uint32_t, uint64_t> bytes_by_id;
  for (const ImageInfo& image : info.images) {
    const std::string name = "image " + std::to_string(image.id);
    if (image.id == 0) f.add("an image has id 0");
    if (!bytes_by_id.emplace(image.id, image.bytes).second) f.add(name + " is there twice");
    if (image.kind < ImageKind::elf || image.kind > ImageKind::kallsyms)
      f.add(name + " has the unknown kind " + std::to_string(static_cast<int>(image.kind)));
    f.text(name + "'s build-id", image.build_id);
    f.text(name + "'s path", image.path);
    if (f.full()) return;
  }
  for (const PlacementInfo& p : info.placements) {
    const std::string name = "a placement of image " + std::to_string(p.image);
    const auto image = bytes_by_id.find(p.image);
    if (image == bytes_by_id.end())
      f.add(name + ", which is not there");
    else if (p.image_offset > image->second || p.length > image->second - p.image_offset)
      f.add(name + " reaches beyond its " + std::to_string(image->second) + " bytes");
    if (p.length == 0) f.add(name + " is empty");
    if (p.length != 0 && p.address + (p.length - 1) < p.address) f.add(name + " wraps the address space");
    if (p.to < p.from) f.add(name + " ends before it begins");
    if (f.full()) return;
  }
  for (const UnknownCode& u : info.unknown_code) {
    if (u.length == 0 || u.address + (u.length - 1) < u.address || u.to < u.from)
      f.add("a range of unknown code is empty, wraps the address space or ends before it begins");
    if (f.full()) return;
  }
}

}  // namespace

std::vector<std::string> broken_rules(const SnapshotInfo& info) {
  Findings f;
  f.text("host", info.host);
  f.text("source", info.source);
  f.text("incident", info.incident);
  f.text("command", info.command, bundle::kMaxCommandBytes);
  f.text("record_clock", info.record_clock);
  for (const std::string& note : info.notes) f.text("a note", note);
  f.count("streams", info.streams.size(), bundle::kMaxStreams);
  f.count("images", info.images.size(), bundle::kMaxImages);
  f.count("placements", info.placements.size(), bundle::kMaxPlacements);
  f.count("ranges of unknown code", info.unknown_code.size(), bundle::kMaxUnknownCode);
  f.count("root processes", info.root_pids.size(), bundle::kMaxRootPids);
  f.count("notes", info.notes.size(), bundle::kMaxNotes);
  for (uint8_t code : {info.pt.mtc_period, info.pt.cyc_thresh, info.pt.psb_period})
    if (code > 15) f.add("a PT option code of " + std::to_string(code) + "; at most 15");
  if (info.clock.shift > bundle::kMaxTimeShift)
    f.add("a time shift of " + std::to_string(info.clock.shift) + "; at most " + std::to_string(bundle::kMaxTimeShift));
  if (info.clock.known && info.clock.mult == 0) f.add("a known clock with multiplier 0");
  check_streams(info, f);
  check_images(info, f);
  return f.take();
}

std::string joined(const std::vector<std::string>& lines) {
  std::string s;
  for (const std::string& line : lines) s += (s.empty() ? "" : "; ") + line;
  return s;
}

}  // namespace hindcast::transport
