// Which bytes were mapped where, in every process, at every time: from MMAP, exec, fork and memory copies.
//
// Later mappings cover earlier ones; exec starts an empty address space; fork copies the parent's. munmap leaves no
// record, so a mapping stays until something covers it. Memory copies (PlacementInfo) lie above whatever had no bytes
// of its own and below files mapped after they were taken; what a JIT compiler says (JitClaim) lies above copies, but for
// a copy that was taken later and held all the time: code may be patched after it was told of. What is of pid -1 is the
// kernel's, and everybody's; a copy of it is what it was in the end, and TEXT_POKE records say what it was before.
//
// A stretch may have run while code changed. Where all that it may have met has the same bytes, they are known; where not,
// nobody knows what ran (GapCause::code_version_unknown).
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "decode/code_image.h"
#include "decode/code_layout.h"
#include "decode/host_trace.h"
#include "decode/jit_layer.h"
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
  /// In the order of its file; claims are about a time in which the process had no other program.
  void jit(Pid pid, const JitClaim& claim);
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

  /// What a thread may have run in a stretch of user execution that began in `begun` and ended in `ended`. Its
  /// own changes of mappings happen in the kernel, so those after the begin are after the stretch; other threads of the process
  /// may map code meanwhile, and any thread may write it. The same object comes back while nothing changes, and to processes
  /// that have the same code at the same addresses, of the last 64 that were asked for.
  std::shared_ptr<const CodeImage> image_at(Pid pid, Tid tid, Interval<RecordTime> begun, Interval<RecordTime> ended);
  std::shared_ptr<const CodeImage> image_at(Pid pid, Tid tid, Interval<RecordTime> begun, RecordTime ended) {
    return image_at(pid, tid, begun, {ended, ended});
  }
  std::shared_ptr<const CodeImage> image_at(Pid pid, Tid tid, RecordTime begun, RecordTime ended) {
    return image_at(pid, tid, {begun, begun}, {ended, ended});
  }
  /// The same for a time in which anything may have happened to it, by whomever: only code that never differed then. Cost: that
  /// of image_at() when nothing changed; else one for each change.
  std::shared_ptr<const CodeImage> image_during(Pid pid, RecordTime from, RecordTime to);
  /// When the code of a process, or the kernel's, may have changed: ascending. Valid until the next record is fed.
  std::span<const RecordTime> changes(Pid pid);
  /// time.latest: code that a JIT compiler made by then counts, where there was none before.
  std::optional<CodeLocation> locate(Pid pid, Interval<RecordTime> time, Ip ip);
  /// True when something is known of this process: a mapping, or a placement for it or for all.
  bool knows(Pid pid) const;
  /// It has an address space of its own: a thread of the kernel has none.
  bool has_space(Pid pid) const;

 private:
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
    JitLayer jit;
  };
  /// A memory copy, or memory of which nobody knows what it held, that a stretch may have met.
  struct Claim {
    uint32_t index = 0;    // of info_.placements, then of info_.unknown_code
    bool settled = false;  // it held when the stretch began
    bool whole = false;    // and until its end
    bool operator==(const Claim&) const = default;
  };
  struct Image {
    Pid pid;
    uint64_t key_count, kernel_count;
    std::vector<size_t> extra;
    std::vector<Claim> claims;
    bool with_jit = false;  // and these cannot be compared: it serves its own time only
    std::shared_ptr<const SectionImage> image;
  };

  /// What a process's code is while nothing changes: for stretches that begin and end in [from, to).
  struct Steady {
    Pid pid;
    RecordTime from, to;
    std::shared_ptr<const SectionImage> image;
  };
  /// to: max() is for ever.
  static bool is_before(RecordTime t, RecordTime to) { return t < to || to == RecordTime::max(); }

  /// The common form of placements and unknown code.
  PlacementInfo claim(uint32_t index) const;
  size_t claim_count() const { return info_.placements.size() + info_.unknown_code.size(); }
  std::span<const uint32_t> claims_of(Pid pid) const;

  void changed();
  size_t changes_until(Pid pid, RecordTime time) const;
  std::shared_ptr<const SectionImage> make_image(Pid pid, Tid tid, Interval<RecordTime> begun,
                                                 Interval<RecordTime> ended);
  /// What code there is after so many changes, and `extra` ones, and with these claims.
  Layout layout_of(const Image& want, RecordTime begun, RecordTime ended);
  Layout layout_at(Pid pid, RecordTime time);
  std::shared_ptr<const SectionImage> shared(std::shared_ptr<const SectionImage> image) const;
  std::pair<RecordTime, RecordTime> unchanged_around(Pid pid, RecordTime time);
  static void apply(Layout& layout, const Change& change);
  const Layout& layout_after(Space& space, size_t count);
  std::vector<Claim> claims_for(Pid pid, Tid tid, Interval<RecordTime> begun, Interval<RecordTime> ended);
  void overlay(Layout& layout, const std::vector<Claim>& claims);
  bool has_jit(Pid pid) const;
  Layout jit_at(Pid pid, RecordTime begun, RecordTime ended);
  std::optional<JitLayer::Piece> jit_piece(Pid pid, Interval<RecordTime> time, Ip ip);
  void overlay_jit(Layout& layout, const Layout& jit);
  void merge(Layout& layout, uint64_t start, const Segment& segment);
  void put_where_equal(Layout& layout, uint64_t from, const Segment& one, const Segment& other);
  std::shared_ptr<const SectionImage> sections_of(const Layout& layout);
  uint32_t intern(std::string_view text);

  const SnapshotInfo& info_;
  ImageStore& images_;
  std::map<Pid, Space> spaces_;
  std::vector<std::string> names_;
  std::unordered_map<std::string, uint32_t> name_ids_;
  std::deque<Image> recent_;
  std::deque<Steady> steady_;  // most recently made first
  std::deque<Steady> during_;  // of image_during(), where something changed; most recently made first
  size_t pokes_ = 0;
  std::map<uint64_t, std::pair<uint64_t, RecordTime>> ksymbols_;  // address: length, and since when

  std::map<Pid, std::vector<uint32_t>> claims_;     // by process, by the time from which they hold
  std::map<Pid, std::vector<RecordTime>> changes_;  // changes()
  /// Where two runs of bytes differ, as offsets in them: {begin, end}; those within kTooShort of one another are one.
  using Differences = std::vector<std::pair<uint64_t, uint64_t>>;
  using Compared = std::tuple<uint32_t, uint64_t, uint32_t, uint64_t, uint64_t>;
  static constexpr size_t kMostCompared = size_t{1} << 18;
  static constexpr uint64_t kTooShort = 16;  // what is equal between two differences may be so by chance
  std::map<Compared, Differences> compared_;
  const Differences& differences(const Segment& one, const Segment& other, uint64_t bytes);
};

}  // namespace hindcast::decode
