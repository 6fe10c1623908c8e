// Index and walk end in one table; what the table may say is checked in one place.
#include "transport/chunk_table.h"

#include <cstring>

#include "transport/chunk_codec.h"

namespace hindcast::transport {
namespace {

using bundle::ChunkHeader;
using bundle::ChunkType;
using bundle::IndexEntry;

template <class T>
uint64_t checksum_before(const T& v, size_t n) {
  return checksum_of({reinterpret_cast<const uint8_t*>(&v), n});
}

Result<void> check_file_header(const BundleBytes& source) {
  bundle::FileHeader header;
  if (!source.read_struct(0, header) || std::memcmp(header.magic, bundle::kFileMagic, sizeof header.magic) != 0)
    return Error{Errc::bad_input,
                 "this is not a hindcast bundle: it does not begin with the bundle's magic bytes",
                 {},
                 "to read another trace format use hindcast import"};
  if (header.checksum != checksum_before(header, offsetof(bundle::FileHeader, checksum)))
    return Error{Errc::corrupt, "the bundle's file header is damaged", "its checksum does not match", {}};
  if (header.major != bundle::kMajor)
    return Error{Errc::version, "the bundle is of another format version",
                 "version " + std::to_string(header.major) + "." + std::to_string(header.minor) +
                     "; this program reads " + std::to_string(bundle::kMajor) + ".x",
                 "use the version of hindcast that wrote it, or a newer one"};
  return {};
}

bool fits(const BundleBytes& source, uint64_t at, const ChunkHeader& header, uint64_t end) {
  return at <= end && end <= source.size() && end - at >= sizeof(ChunkHeader) &&
         end - at - sizeof(ChunkHeader) >= header.stored_bytes;
}

uint64_t next_after(uint64_t at, const ChunkHeader& header) { return at + sizeof(ChunkHeader) + header.stored_bytes; }

/// The raw bytes of the index chunks between the trailer's index_offset and the trailer itself; nothing when
/// damaged.
Result<std::vector<uint8_t>> read_index(const BundleBytes& source, const bundle::Trailer& trailer) {
  const Error damaged{Errc::corrupt, "the bundle's index is damaged", {}, {}};
  const uint64_t end = trailer.file_bytes - sizeof trailer;
  // Each chunk listed takes a header in the file, so a small file cannot make us expect a large index.
  if (trailer.index_bytes % sizeof(IndexEntry) != 0 || trailer.index_bytes / sizeof(IndexEntry) > bundle::kMaxChunks ||
      trailer.index_bytes / sizeof(IndexEntry) > source.size() / sizeof(ChunkHeader))
    return damaged;
  std::vector<uint8_t> raw;
  ChunkDecoder decoder;
  uint64_t at = trailer.index_offset;
  while (raw.size() < trailer.index_bytes) {
    IndexEntry entry{at, {}};
    if (at > end || end - at < sizeof(ChunkHeader) || !source.read_struct(at, entry.header) ||
        header_problem(entry.header) || entry.header.type != static_cast<uint8_t>(ChunkType::index) ||
        entry.header.offset != raw.size() || entry.header.raw_bytes > trailer.index_bytes - raw.size() ||
        !fits(source, at, entry.header, end))
      return damaged;
    HC_TRY(auto stored, read_stored(source, entry));
    HC_TRY(auto part, decoder.decode(entry.header, stored));
    raw.insert(raw.end(), part.begin(), part.end());
    at = next_after(at, entry.header);
  }
  if (at != end) return damaged;
  return raw;
}

/// Nothing when there is no usable trailer and index.
Result<ChunkTable> from_index(const BundleBytes& source) {
  const Error damaged{Errc::corrupt, "the bundle's index is damaged or missing", {}, {}};
  bundle::Trailer trailer;
  if (source.size() < sizeof(bundle::FileHeader) + sizeof trailer ||
      !source.read_struct(source.size() - sizeof trailer, trailer) ||
      std::memcmp(trailer.magic, bundle::kTrailerMagic, sizeof trailer.magic) != 0 ||
      trailer.checksum != checksum_before(trailer, offsetof(bundle::Trailer, checksum)) ||
      trailer.file_bytes != source.size())
    return damaged;
  HC_TRY(const auto raw, read_index(source, trailer));
  ChunkTable table;
  table.from_index = true;
  table.chunks.resize(raw.size() / sizeof(IndexEntry));
  if (!raw.empty()) std::memcpy(table.chunks.data(), raw.data(), raw.size());
  uint64_t at = sizeof(bundle::FileHeader);
  for (const IndexEntry& entry : table.chunks) {
    if (entry.file_offset != at || header_problem(entry.header) ||
        entry.header.type == static_cast<uint8_t>(ChunkType::index) ||
        !fits(source, at, entry.header, trailer.index_offset))
      return damaged;
    at = next_after(at, entry.header);
  }
  if (at != trailer.index_offset) return damaged;
  return table;
}

Result<ChunkTable> by_walking(const BundleBytes& source) {
  ChunkTable table;
  uint64_t at = sizeof(bundle::FileHeader);
  for (;;) {
    IndexEntry entry{at, {}};
    if (!source.read_struct(at, entry.header) || header_problem(entry.header) ||
        !fits(source, at, entry.header, source.size()))
      break;
    if (entry.header.type == static_cast<uint8_t>(ChunkType::index)) {
      table.reached_index = true;
      break;
    }
    if (table.chunks.size() == bundle::kMaxChunks)
      return Error{Errc::too_large, "the bundle has too many chunks", {}, {}};
    table.chunks.push_back(entry);
    at = next_after(at, entry.header);
  }
  table.walked_to = at;
  return table;
}

Error contradiction(const std::string& what) {
  return Error{Errc::corrupt,
               "the bundle contradicts itself: " + what,
               {},
               "it was not written by hindcast, or was changed since"};
}

}  // namespace

Result<std::vector<uint8_t>> read_stored(const BundleBytes& source, const IndexEntry& entry) {
  ChunkHeader header;
  if (!source.read_struct(entry.file_offset, header) || std::memcmp(&header, &entry.header, sizeof header) != 0)
    return Error{Errc::corrupt, "a chunk header does not match the index", {}, {}};
  std::vector<uint8_t> stored(header.stored_bytes);
  if (!source.read(entry.file_offset + sizeof header, stored))
    return Error{Errc::corrupt, "a chunk is not all in the file", {}, {}};
  return stored;
}

Result<ChunkTable> find_chunks(const BundleBytes& source) {
  HC_TRY_VOID(check_file_header(source));
  auto indexed = from_index(source);
  if (indexed.ok()) return indexed;
  return by_walking(source);
}

Result<std::vector<SnapshotChunks>> group_chunks(const ChunkTable& table) {
  std::vector<SnapshotChunks> out;
  ChunkType last = ChunkType::manifest;  // of the current snapshot
  for (size_t i = 0; i < table.chunks.size(); ++i) {
    const ChunkHeader& h = table.chunks[i].header;
    const auto type = static_cast<ChunkType>(h.type);
    if (h.type < static_cast<uint8_t>(ChunkType::manifest) || h.type > static_cast<uint8_t>(ChunkType::image))
      continue;  // of a newer minor version; index chunks are not in the table
    if (h.snapshot == out.size()) {
      if (last != ChunkType::manifest) return contradiction("a snapshot begins before the one before it ended");
      if (out.size() == bundle::kMaxSnapshots)
        return Error{Errc::too_large, "the bundle has too many snapshots", {}, {}};
      out.emplace_back();
      last = ChunkType::preliminary;
    } else if (h.snapshot + uint64_t{1} != out.size()) {
      return contradiction("snapshots out of order");
    }
    SnapshotChunks& s = out.back();
    const bool data = type == ChunkType::stream || type == ChunkType::image;
    if (data == (h.id == 0)) return contradiction("a chunk with an impossible id");
    // preliminary, then data, then manifest; `last` never goes back
    if ((last == ChunkType::manifest && type != ChunkType::manifest) ||
        (type == ChunkType::preliminary && last != ChunkType::preliminary))
      return contradiction("chunks of a snapshot out of order");
    last = type;

    Run& run = type == ChunkType::manifest      ? s.manifest
               : type == ChunkType::preliminary ? s.preliminary
               : type == ChunkType::stream      ? s.streams[h.id]
                                                : s.images[h.id];
    if (s.streams.size() > bundle::kMaxStreams || s.images.size() > bundle::kMaxImages)
      return Error{Errc::too_large, "a snapshot has too many streams or images", {}, {}};
    if (h.offset != run.raw_bytes) return contradiction("chunks that overlap or leave a gap");
    run.raw_bytes += h.raw_bytes;
    if (!data && run.raw_bytes > bundle::kMaxManifestBytes)
      return Error{Errc::too_large, "a snapshot's manifest is too long", {}, {}};
    run.chunks.push_back(static_cast<uint32_t>(i));
  }
  return out;
}

}  // namespace hindcast::transport
