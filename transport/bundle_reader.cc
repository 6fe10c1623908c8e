// Opens a bundle (what is there, what is missing) and reads ranges of its streams.
#include "transport/bundle_reader.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <future>
#include <thread>
#include <unordered_set>

#include "hindcast/bundle_format.h"
#include "transport/bundle_bytes.h"
#include "transport/chunk_codec.h"
#include "transport/chunk_table.h"
#include "transport/digest.h"
#include "transport/manifest.h"

namespace hindcast::transport {

struct BundleReader::Impl {
  BundleBytes source;
  ChunkTable table;
  struct Snapshot {
    size_t number = 0;  // in the file; differs from its place in `snapshots` when an earlier one cannot be described
    SnapshotInfo info;
    SnapshotChunks chunks;
  };
  std::vector<Snapshot> snapshots;
  std::vector<Damage> damage;
  uint64_t raw = 0;
  std::shared_ptr<IdleParts> idle = std::make_shared<IdleParts>(kMostIdleBytes);

  explicit Impl(BundleBytes s) : source(std::move(s)) {}

  Result<void> open();
  Result<void> describe(size_t number, SnapshotChunks chunks, bool last);
  Result<void> compare_whole(const ParsedManifest& m, const SnapshotChunks& chunks) const;
  void salvage(SnapshotInfo& info, const SnapshotChunks& chunks, size_t at, bool all_there);
  Result<std::vector<uint8_t>> read_chunk(uint32_t chunk, ChunkDecoder& decoder) const;
  Result<std::vector<uint8_t>> read_run(const Run& run, uint64_t offset, uint64_t size, const std::string& name) const;
  Result<const Run*> run_of(size_t snapshot, uint32_t id, bool image) const;
  Result<std::shared_ptr<StreamParts>> open_in_parts(const Run& run) const;
};

namespace {

/// Bytes that are not worth a thread.
constexpr uint64_t kReadAlone = uint64_t{4} << 20;

Error too_large(const std::string& name, uint64_t size) {
  return Error{Errc::too_large, "cannot read " + name + " at once",
               std::to_string(size) + " bytes; at most " + std::to_string(bundle::kMaxReadBytes), "read it in parts"};
}

}  // namespace

Result<std::vector<uint8_t>> BundleReader::Impl::read_chunk(uint32_t chunk, ChunkDecoder& decoder) const {
  HC_TRY(const auto stored, read_stored(source, table.chunks[chunk]));
  return decoder.decode(table.chunks[chunk].header, stored);
}

Result<std::vector<uint8_t>> BundleReader::Impl::read_run(const Run& run, uint64_t offset, uint64_t size,
                                                          const std::string& name) const {
  if (offset > run.raw_bytes || size > run.raw_bytes - offset)
    return Error{Errc::not_found,
                 "cannot read beyond the end of " + name,
                 "bytes " + std::to_string(offset) + " to " + std::to_string(offset) + "+" + std::to_string(size) +
                     " of " + std::to_string(run.raw_bytes),
                 {}};
  if (size > bundle::kMaxReadBytes) return too_large(name, size);
  std::vector<uint8_t> out;
  // What headers claim is not worth a large allocation before the first chunk has proved to be real.
  out.reserve(std::min<uint64_t>(size, uint64_t{64} << 20));
  auto it = std::upper_bound(run.chunks.begin(), run.chunks.end(), offset, [this](uint64_t at, uint32_t chunk) {
    const auto& h = table.chunks[chunk].header;
    return at < h.offset + h.raw_bytes;
  });
  // What comes next is unpacked while this is taken.
  std::deque<std::future<Result<std::vector<uint8_t>>>> ahead;
  const size_t at_once = size <= kReadAlone ? 1 : std::max(1u, std::thread::hardware_concurrency());
  auto next = it;
  for (; size > 0; ++it) {
    const auto& header = table.chunks[*it].header;
    for (; ahead.size() < at_once && next != run.chunks.end(); ++next)
      ahead.push_back(std::async(at_once == 1 ? std::launch::deferred : std::launch::async, [this, chunk = *next] {
        ChunkDecoder decoder;
        return read_chunk(chunk, decoder);
      }));
    auto raw_chunk = ahead.front().get();
    ahead.pop_front();
    if (!raw_chunk)
      return Error{raw_chunk.error().code,
                   "cannot read " + name + ": bytes " + std::to_string(header.offset) + " to " +
                       std::to_string(header.offset + header.raw_bytes) + " are damaged",
                   raw_chunk.error().what, "the other bytes can still be read; hindcast show says what is missing"};
    const uint64_t skip = offset - header.offset;
    const uint64_t n = std::min<uint64_t>(size, header.raw_bytes - skip);
    if (out.size() + n > out.capacity()) out.reserve(out.size() + size);
    out.insert(out.end(), raw_chunk->begin() + static_cast<ptrdiff_t>(skip),
               raw_chunk->begin() + static_cast<ptrdiff_t>(skip + n));
    offset += n;
    size -= n;
  }
  return out;
}

Result<const Run*> BundleReader::Impl::run_of(size_t snapshot, uint32_t id, bool image) const {
  static const Run empty;
  if (snapshot < snapshots.size()) {
    const Snapshot& s = snapshots[snapshot];
    // Listed in the manifest, or not there: chunks that nothing describes are nobody's bytes.
    const auto listed = [id](const auto& v) {
      return std::any_of(v.begin(), v.end(), [id](const auto& x) { return x.id == id; });
    };
    if (image ? listed(s.info.images) : listed(s.info.streams)) {
      const auto& runs = image ? s.chunks.images : s.chunks.streams;
      const auto it = runs.find(id);
      return it == runs.end() ? &empty : &it->second;
    }
  }
  return Error{Errc::not_found,
               std::string("the bundle has no ") + (image ? "image " : "stream ") + std::to_string(id) +
                   " in snapshot " + std::to_string(snapshot),
               {},
               "hindcast ls lists what it has"};
}

/// Only for a snapshot whose manifest is whole: then sizes must agree.
Result<void> BundleReader::Impl::compare_whole(const ParsedManifest& m, const SnapshotChunks& chunks) const {
  const auto contradiction = [](const std::string& what) {
    return Error{Errc::corrupt,
                 "the bundle contradicts itself: " + what,
                 {},
                 "it was not written by hindcast, or was changed since"};
  };
  size_t streams = 0, images = 0;
  for (const StreamInfo& s : m.info.streams) {
    const auto it = chunks.streams.find(s.id);
    streams += it != chunks.streams.end();
    if ((it == chunks.streams.end() ? 0 : it->second.raw_bytes) != s.bytes)
      return contradiction("stream " + std::to_string(s.id) + " has another size than its manifest says");
  }
  for (const uint32_t id : m.left_out) streams += chunks.streams.count(id);
  for (const ImageInfo& i : m.info.images) {
    const auto it = chunks.images.find(i.id);
    images += it != chunks.images.end();
    if ((it == chunks.images.end() ? 0 : it->second.raw_bytes) != i.bytes)
      return contradiction("image " + std::to_string(i.id) + " has another size than its manifest says");
  }
  for (const uint32_t id : m.left_out_images) images += chunks.images.count(id);
  if (streams != chunks.streams.size() || images != chunks.images.size())
    return contradiction("bytes of a stream or image that its manifest does not list");
  return {};
}

/// A preliminary manifest speaks of what was to come; makes info say what is there, and damage what is not. all_there: no
/// chunk of this snapshot can be missing, so streams of unknown size end where they end.
void BundleReader::Impl::salvage(SnapshotInfo& info, const SnapshotChunks& chunks, size_t at, bool all_there) {
  for (StreamInfo& s : info.streams) {
    const auto it = chunks.streams.find(s.id);
    const uint64_t have = it == chunks.streams.end() ? 0 : it->second.raw_bytes;
    const std::string name = "stream " + std::to_string(s.id);
    if (s.bytes == 0 && !all_there)
      damage.push_back(
          {name + " may go on after byte " + std::to_string(have) + ": its size is not known", s.id, have, 0, at, 0});
    else if (have < s.bytes)
      damage.push_back({"the last " + std::to_string(s.bytes - have) + " of " + std::to_string(s.bytes) + " bytes of " +
                            name + " are missing",
                        s.id, have, s.bytes - have, at, 0});
    s.bytes = have;
    std::erase_if(s.cuts, [have](uint64_t cut) { return cut > have; });
  }
  std::unordered_set<uint32_t> listed, lost_images;
  for (const StreamInfo& s : info.streams) listed.insert(s.id);
  for (const auto& [id, run] : chunks.streams)
    if (!listed.contains(id))
      damage.push_back({"stream " + std::to_string(id) + " has " + std::to_string(run.raw_bytes) +
                            " bytes, but what they are was lost",
                        id, 0, run.raw_bytes, at, 0});
  for (ImageInfo& image : info.images) {
    const auto it = chunks.images.find(image.id);
    const uint64_t have = it == chunks.images.end() ? 0 : it->second.raw_bytes;
    if (image.bytes == 0 && all_there) image.bytes = have;
    if (have == image.bytes && (have != 0 || all_there)) continue;
    damage.push_back({"image " + std::to_string(image.id) + " (" + image.path + ") is not whole and was left out", 0,
                      have, image.bytes > have ? image.bytes - have : 0, at, image.id});
    lost_images.insert(image.id);
  }
  std::erase_if(info.images, [&](const ImageInfo& image) { return lost_images.contains(image.id); });
  std::erase_if(info.placements, [&](const PlacementInfo& p) { return lost_images.contains(p.image); });
}

Result<void> BundleReader::Impl::describe(size_t number, SnapshotChunks chunks, bool last) {
  const auto text_of = [this](const Run& run) -> Result<std::string> {
    HC_TRY(const auto bytes, read_run(run, 0, run.raw_bytes, "a manifest"));
    return std::string(bytes.begin(), bytes.end());
  };
  // Only the last snapshot of a file that was cut may lack the end of its manifest.
  const bool may_be_cut = last && !table.from_index && !table.reached_index;
  const size_t at = snapshots.size();
  const std::string name = "snapshot " + std::to_string(number);

  if (!chunks.manifest.chunks.empty()) {
    auto text = text_of(chunks.manifest);
    if (text.ok()) {
      auto parsed = parse_manifest(*text);
      if (parsed.ok()) {
        HC_TRY_VOID(compare_whole(*parsed, chunks));
        snapshots.push_back({number, std::move(parsed->info), std::move(chunks)});
        return {};
      }
      if (!may_be_cut || parsed.error().code == Errc::version) return std::move(parsed).error();
    } else {
      damage.push_back({"the manifest of " + name + " is damaged: " + text.error().found, 0, 0, 0, at, 0});
    }
  }
  if (!chunks.preliminary.chunks.empty()) {
    auto text = text_of(chunks.preliminary);
    if (text.ok()) {
      auto parsed = parse_manifest(*text);
      if (parsed.ok()) {
        damage.push_back(
            {name + " has no usable manifest; what was written before its data is used instead", 0, 0, 0, at, 0});
        salvage(parsed->info, chunks, at, !may_be_cut);
        snapshots.push_back({number, std::move(parsed->info), std::move(chunks)});
        return {};
      }
      const bool cut_inside = may_be_cut && chunks.streams.empty() && chunks.images.empty();
      if (!cut_inside || parsed.error().code == Errc::version) return std::move(parsed).error();
    }
  }
  damage.push_back({name + " cannot be read: what describes it is missing or damaged", 0, 0, 0, at, 0});
  return {};
}

Result<void> BundleReader::Impl::open() {
  HC_TRY(table, find_chunks(source));
  HC_TRY(auto groups, group_chunks(table));
  if (!table.from_index)
    damage.push_back({table.reached_index
                          ? "the end of the file is damaged: its index cannot be used (all chunks before it are there)"
                          : "the file is cut or damaged at byte " + std::to_string(table.walked_to) + " of " +
                                std::to_string(source.size()) + "; what follows is lost",
                      0, 0, 0, 0, 0});
  const size_t count = groups.size();
  for (size_t i = 0; i < count; ++i) HC_TRY_VOID(describe(i, std::move(groups[i]), i + 1 == count));
  for (const Snapshot& s : snapshots) {
    for (const auto& [id, run] : s.chunks.streams) raw += run.raw_bytes;
    for (const auto& [id, run] : s.chunks.images) raw += run.raw_bytes;
  }
  if (snapshots.empty()) {
    std::string found;
    for (const Damage& d : damage) found += (found.empty() ? "" : "; ") + d.what;
    return Error{Errc::corrupt, "nothing in the bundle can be read", found,
                 "copy it again from where it was written; a file that was cut there is lost"};
  }
  return {};
}

BundleReader::BundleReader(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
BundleReader::BundleReader(BundleReader&&) noexcept = default;
BundleReader& BundleReader::operator=(BundleReader&&) noexcept = default;
BundleReader::~BundleReader() = default;

Result<BundleReader> BundleReader::open(const std::string& path) {
  HC_TRY(BundleBytes source, BundleBytes::file(path));
  auto impl = std::make_unique<Impl>(std::move(source));
  auto opened = impl->open();
  if (!opened.ok()) {
    Error e = std::move(opened).error();
    e.what = "cannot open " + path + ": " + e.what;
    return e;
  }
  return BundleReader(std::move(impl));
}

Result<BundleReader> BundleReader::from_bytes(ByteSpan bytes) {
  auto impl = std::make_unique<Impl>(BundleBytes(bytes));
  HC_TRY_VOID(impl->open());
  return BundleReader(std::move(impl));
}

size_t BundleReader::snapshot_count() const { return impl_->snapshots.size(); }

const SnapshotInfo& BundleReader::snapshot(size_t i) const {
  HC_CHECK(i < impl_->snapshots.size());
  return impl_->snapshots[i].info;
}

Result<std::vector<uint8_t>> BundleReader::read_stream(size_t snapshot, uint32_t id, uint64_t offset,
                                                       uint64_t size) const {
  HC_TRY(const Run* run, impl_->run_of(snapshot, id, false));
  return impl_->read_run(*run, offset, size, "stream " + std::to_string(id));
}

Result<std::vector<uint8_t>> BundleReader::read_stream(size_t snapshot, uint32_t id) const {
  HC_TRY(const Run* run, impl_->run_of(snapshot, id, false));
  return impl_->read_run(*run, 0, run->raw_bytes, "stream " + std::to_string(id));
}

Result<std::vector<uint8_t>> BundleReader::read_image(size_t snapshot, uint32_t id) const {
  HC_TRY(const Run* run, impl_->run_of(snapshot, id, true));
  return impl_->read_run(*run, 0, run->raw_bytes, "image " + std::to_string(id));
}

Result<BundleReader::Salvage> BundleReader::salvage_stream(size_t snapshot, uint32_t id) const {
  HC_TRY(const Run* run, impl_->run_of(snapshot, id, false));
  const std::string name = "stream " + std::to_string(id);
  if (run->raw_bytes > bundle::kMaxReadBytes) return too_large(name, run->raw_bytes);
  Salvage out;
  ChunkDecoder decoder;
  for (const uint32_t chunk : run->chunks) {
    const auto& header = impl_->table.chunks[chunk].header;
    auto raw = impl_->read_chunk(chunk, decoder);
    if (!raw.ok()) {
      out.damage.push_back({name + ": " + raw.error().what, id, header.offset, header.raw_bytes, snapshot, 0});
      continue;
    }
    if (out.pieces.empty() || out.pieces.back().offset + out.pieces.back().bytes.size() != header.offset)
      out.pieces.push_back({header.offset, {}});
    auto& bytes = out.pieces.back().bytes;
    bytes.insert(bytes.end(), raw->begin(), raw->end());
  }
  for (const Damage& d : impl_->damage)
    if (d.stream == id && d.snapshot == snapshot) out.damage.push_back(d);
  return out;
}

Result<std::shared_ptr<StreamParts>> BundleReader::Impl::open_in_parts(const Run& run) const {
  std::vector<StreamParts::Chunk> chunks;
  for (const uint32_t chunk : run.chunks) {
    const auto& header = table.chunks[chunk].header;
    chunks.push_back({header.offset, header.raw_bytes, chunk});
  }
  return StreamParts::open(
      std::move(chunks),
      [this](uint32_t chunk, ChunkDecoder& decoder, std::span<uint8_t> raw) -> Result<void> {
        HC_TRY(const auto stored, read_stored(source, table.chunks[chunk]));
        return decoder.decode(table.chunks[chunk].header, stored, raw);
      },
      idle);
}

Result<std::shared_ptr<StreamParts>> BundleReader::stream_in_parts(size_t snapshot, uint32_t id) const {
  HC_TRY(const Run* run, impl_->run_of(snapshot, id, false));
  return impl_->open_in_parts(*run);
}

Result<std::shared_ptr<StreamParts>> BundleReader::image_in_parts(size_t snapshot, uint32_t id) const {
  HC_TRY(const Run* run, impl_->run_of(snapshot, id, true));
  return impl_->open_in_parts(*run);
}

Result<std::string> BundleReader::content_key(size_t snapshot, uint32_t stream) const {
  HC_TRY(const Run* run, impl_->run_of(snapshot, stream, false));
  std::vector<uint8_t> content;
  ByteWriter out(content);
  for (const uint32_t chunk : run->chunks) {
    const auto& header = impl_->table.chunks[chunk].header;
    out.u32(header.raw_bytes);
    out.u64(header.raw_checksum);
  }
  Hasher hasher;
  hasher.add(content);
  return hex(hasher.finish());
}

const std::vector<BundleReader::Damage>& BundleReader::damage() const { return impl_->damage; }

std::vector<BundleReader::Damage> BundleReader::scrub() const {
  std::vector<Damage> out = impl_->damage;
  // Damage carries the caller's snapshot numbers, chunks the file's.
  const auto listed_as = [this](uint32_t number) -> size_t {
    for (size_t i = 0; i < impl_->snapshots.size(); ++i)
      if (impl_->snapshots[i].number == number) return i;
    return impl_->snapshots.size();
  };
  ChunkDecoder decoder;
  for (size_t i = 0; i < impl_->table.chunks.size(); ++i) {
    auto raw = impl_->read_chunk(static_cast<uint32_t>(i), decoder);
    if (raw.ok()) continue;
    const auto& h = impl_->table.chunks[i].header;
    const bool stream = h.type == static_cast<uint8_t>(bundle::ChunkType::stream);
    const bool image = h.type == static_cast<uint8_t>(bundle::ChunkType::image);
    const std::string name = stream  ? "stream " + std::to_string(h.id)
                             : image ? "image " + std::to_string(h.id)
                                     : "a manifest";
    out.push_back({name + ", bytes " + std::to_string(h.offset) + " to " + std::to_string(h.offset + h.raw_bytes) +
                       ": " + raw.error().what,
                   stream ? h.id : 0, h.offset, h.raw_bytes, listed_as(h.snapshot), image ? h.id : 0});
  }
  return out;
}

uint64_t BundleReader::stored_bytes() const { return impl_->source.size(); }
uint64_t BundleReader::raw_bytes() const { return impl_->raw; }

}  // namespace hindcast::transport
