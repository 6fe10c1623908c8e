// Reads a file's directory from its index, and checks one that came from outside.
#include "transport/directory.h"

#include <cstring>

#include "transport/chunk_codec.h"
#include "transport/chunk_table.h"

namespace hindcast::transport {
namespace {

using bundle::ChunkHeader;
using bundle::ChunkType;
using bundle::IndexEntry;

template <class T>
ByteSpan bytes_of(const T& v) {
  return {reinterpret_cast<const uint8_t*>(&v), sizeof(T)};
}

}  // namespace

Digest Directory::digest() const {
  Hasher h;
  h.add(bytes_of(header));
  h.add({reinterpret_cast<const uint8_t*>(chunks.data()), chunks.size() * sizeof(IndexEntry)});
  h.add(bytes_of(trailer));
  return h.finish();
}

Result<Directory> read_directory(const BundleBytes& source) {
  HC_TRY(ChunkTable table, find_chunks(source));
  if (!table.from_index) return Error{Errc::corrupt, "the bundle's end is missing or damaged", {}, {}};
  Directory d;
  d.chunks = std::move(table.chunks);
  if (!source.read_struct(0, d.header) || !source.read_struct(source.size() - sizeof d.trailer, d.trailer))
    return Error{Errc::io, "cannot read the bundle's header and trailer", {}, {}};
  const uint64_t end = source.size() - sizeof d.trailer;
  for (uint64_t at = d.trailer.index_offset; at < end;) {
    IndexEntry entry{at, {}};
    if (!source.read_struct(at, entry.header)) return Error{Errc::io, "cannot read the bundle's index", {}, {}};
    d.chunks.push_back(entry);
    at += sizeof(ChunkHeader) + entry.header.stored_bytes;
  }
  if (const std::string problem = directory_problem(d); !problem.empty())
    return Error{d.chunks.size() > kMaxShippedChunks ? Errc::too_large : Errc::corrupt, problem, {}, {}};
  return d;
}

std::string directory_problem(const Directory& d) {
  if (std::memcmp(d.header.magic, bundle::kFileMagic, sizeof d.header.magic) != 0 ||
      d.header.checksum != checksum_of(bytes_of(d.header).first(offsetof(bundle::FileHeader, checksum))))
    return "its file header is not a bundle's";
  if (d.header.major != bundle::kMajor)
    return "its bundle format is version " + std::to_string(d.header.major) + "; this program knows " +
           std::to_string(bundle::kMajor);
  if (std::memcmp(d.trailer.magic, bundle::kTrailerMagic, sizeof d.trailer.magic) != 0 ||
      d.trailer.checksum != checksum_of(bytes_of(d.trailer).first(offsetof(bundle::Trailer, checksum))))
    return "its trailer is not a bundle's";
  if (d.chunks.size() > kMaxShippedChunks)
    return "it has " + std::to_string(d.chunks.size()) + " chunks; at most " + std::to_string(kMaxShippedChunks) +
           " are shipped";
  uint64_t at = sizeof(bundle::FileHeader), listed = 0;
  bool in_index = false, has_manifest = false;
  for (const IndexEntry& e : d.chunks) {
    const std::string where = "the chunk at byte " + std::to_string(at);
    if (e.file_offset != at) return where + " is said to lie elsewhere";
    if (const char* problem = header_problem(e.header)) return where + " has " + problem;
    const bool index = e.header.type == static_cast<uint8_t>(ChunkType::index);
    if (index && !in_index && at != d.trailer.index_offset) return "its index is not where its trailer says";
    if (in_index && !index) return where + " lies behind the index";
    if (!index && e.header.snapshot != 0) return where + " belongs to a second snapshot";
    in_index = index;
    listed += !index;
    has_manifest |= e.header.type == static_cast<uint8_t>(ChunkType::manifest);
    at += sizeof(ChunkHeader) + e.header.stored_bytes;  // cannot overflow: at most kMaxShippedChunks limited steps
  }
  if (!in_index || !has_manifest) return "it has no index or no manifest";
  if (d.trailer.index_bytes != listed * sizeof(IndexEntry) || d.trailer.file_bytes != at + sizeof d.trailer)
    return "its trailer contradicts its chunks";
  ChunkTable table;
  for (const IndexEntry& e : d.chunks)
    if (e.header.type != static_cast<uint8_t>(ChunkType::index)) table.chunks.push_back(e);
  if (const auto groups = group_chunks(table); !groups.ok()) return groups.error().what;
  return {};
}

}  // namespace hindcast::transport
