// Which bytes were mapped where, in every process, at every time: from MMAP, exec, fork and memory copies.
//
// Later mappings cover earlier ones; exec starts an empty address space; fork copies the parent's. munmap leaves no
// record, so a mapping stays until something covers it. Memory copies (PlacementInfo) lie above whatever had no bytes
// of its own and below files mapped after they were taken. What is of pid -1 is the kernel's, and everybody's; a copy of it is
// what it was in the end, and TEXT_POKE records say what it was before.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "decode/code_image.h"
#include "decode/host_trace.h"
#include "decode/sideband.h"
#include "hindcast/cut.h"

namespace hindcast::decode {

/// The images of a snapshot, by id, read when first needed and then kept.
class ImageStore {
 public:
  ImageStore(const SnapshotInfo& info, ByteSource& source) : info_(info), source_(source) {}
  /// An ELF file, by build-id when the record has one, else by path when only one has that path. 0: not in the snapshot.
  /// Memory copies are placed by PlacementInfo alone.
  uint32_t find(std::string_view path, ByteSpan build_id) const;
  const ImageInfo* info(uint32_t id) const;
  /// nullptr when the source cannot give them. A file with another build-id has none that can be read: the same as code that is
  /// missing.
  std::shared_ptr<const ImageBytes> bytes(uint32_t id);
  /// Bytes that no image of the snapshot holds, as an image of their own. Its id.
  uint32_t make(ByteSpan bytes);
  /// Of what nobody knows: it has no bytes.
  static constexpr uint32_t kUnknown = ~uint32_t{0};

 private:
  static constexpr uint32_t kFirstMade = uint32_t{1} << 31;

  const SnapshotInfo& info_;
  ByteSource& source_;
  std::unordered_map<uint32_t, std::shared_ptr<const ImageBytes>> opened_;
  uint32_t made_ = 0;
};

/// Feed map(), exec(), fork() in time order; then ask. Asking is not const: answers are cached.
class AddressSpaces {
 public:
  AddressSpaces(const SnapshotInfo& info, ImageStore& images);

  void map(RecordTime time, Tid by, const MapRecord& record);
  void exec(RecordTime time, Tid by, Pid pid);
  void fork(RecordTime time, Pid parent, Pid child);
  /// Records of [from, to] are missing. A child that was not seen to exec before may have done so in there, and nothing that
  /// it had from its parent is known to be its own any more: code of another program would decode to a wrong path.
  /// Once it has exec'd, or been a process of its own all the time, it is trusted to go on with what it has.
  void records_lost(RecordTime from, RecordTime to);
  /// The kernel put other code there.
  void ksymbol(RecordTime time, uint64_t address, uint64_t length);
  /// The kernel changed its code; empty `before`: there was nothing, empty `after`: nor is there any more. What the first such
  /// record since ksymbol() says of before held since then. More than kMostPokes of them make unknown what they change.
  void text_poke(RecordTime time, uint64_t address, ByteSpan before, ByteSpan after);
  static constexpr size_t kMostPokes = 1 << 16;

  /// What a thread may have run in a stretch of user execution that began at `begun` at the latest and ended at `ended`
  /// at the latest. Its own changes happen in the kernel, so those after the begin are after the stretch; other threads
  /// of the process may map code meanwhile. The same object comes back while nothing changes, and to processes that have the
  /// same code at the same addresses, of the last 64 that were asked for.
  std::shared_ptr<const CodeImage> image_at(Pid pid, Tid tid, RecordTime begun, RecordTime ended);
  /// The same for a time in which anything may have happened to it, by whomever: only code that never differed then. Cost: that
  /// of image_at() when nothing changed; else one for each change.
  std::shared_ptr<const CodeImage> image_during(Pid pid, RecordTime from, RecordTime to);
  /// When the code of a process, or the kernel's, may have changed: ascending. Valid until the next record is fed.
  std::span<const RecordTime> changes(Pid pid);
  std::optional<CodeLocation> locate(Pid pid, RecordTime time, Ip ip);
  /// True when something is known of this process: a mapping, or a placement for it or for all.
  bool knows(Pid pid) const;
  /// It has an address space of its own: a thread of the kernel has none.
  bool has_space(Pid pid) const;

 private:
  struct Segment {
    uint64_t end = 0;  // its start is the map's key
    uint32_t image = 0;
    uint64_t image_offset = 0;  // of the segment's first byte
    uint64_t map_start = 0, map_length = 0;
    RecordTime time{0};
    uint32_t name = 0;  // index in names_: path
    uint32_t build_id = 0;
  };
  using Layout = std::map<uint64_t, Segment>;
  struct Change {
    RecordTime time{0};
    Tid by = kNoTid;
    uint64_t start = 0;  // map: where; Segment says the rest
    Segment segment;
    std::shared_ptr<const Layout> base;  // exec and fork: start over from this
  };
  struct Space {
    std::vector<Change> changes;  // in time order
    Layout now;                   // after all of them
    Pid parent = kNoPid;          // whose placements a forked child has until it execs
    RecordTime forked{0};
    std::optional<RecordTime> execed;
    // the layout after changes[0, cached_count), to go on from
    Layout cached;
    size_t cached_count = 0;
  };
  struct Image {
    Pid pid;
    uint64_t key_count, kernel_count;
    std::vector<size_t> extra;
    std::vector<uint32_t> placements;
    std::shared_ptr<const CodeImage> image;
  };

  /// What a process's code is while nothing changes: for stretches that begin and end in [from, to).
  struct Steady {
    Pid pid;
    RecordTime from, to;
    std::shared_ptr<const CodeImage> image;
  };
  /// to: max() is for ever.
  static bool is_before(RecordTime t, RecordTime to) { return t < to || to == RecordTime::max(); }

  void changed();
  std::shared_ptr<const CodeImage> make_image(Pid pid, Tid tid, RecordTime begun, RecordTime ended);
  /// What code there is after so many changes, and `extra` ones, and with these placements.
  Layout layout_of(const Image& want);
  Layout layout_at(Pid pid, RecordTime time);
  std::vector<SectionImage::Backed> sections_of(const Layout& layout);
  std::shared_ptr<const CodeImage> image_with(std::vector<SectionImage::Backed> sections) const;
  static Layout common(const Layout& a, const Layout& b);
  void add_changes(Pid pid, std::vector<RecordTime>& times) const;
  size_t changes_until(Pid pid, RecordTime time) const;
  std::pair<RecordTime, RecordTime> unchanged_around(Pid pid, RecordTime time) const;
  static void cover(Layout& layout, uint64_t start, const Segment& segment);
  static void apply(Layout& layout, const Change& change);
  const Layout& layout_after(Space& space, size_t count);
  std::vector<uint32_t> placements_for(Pid pid, RecordTime time) const;
  void overlay(Layout& layout, const std::vector<uint32_t>& placements) const;
  uint32_t intern(std::string_view text);

  const SnapshotInfo& info_;
  ImageStore& images_;
  std::map<Pid, Space> spaces_;
  std::vector<std::string> names_;
  std::unordered_map<std::string, uint32_t> name_ids_;
  std::deque<Image> recent_;
  std::deque<Steady> steady_;  // most recently made first
  std::deque<Steady> during_;  // of image_during(), where something changed; most recently made first
  std::map<Pid, std::vector<RecordTime>> change_times_;
  size_t pokes_ = 0;
  std::map<uint64_t, std::pair<uint64_t, RecordTime>> ksymbols_;  // address: length, and since when
};

}  // namespace hindcast::decode
