// Bundle files put together chunk by chunk, rules broken on purpose: what BundleWriter would never write.
#pragma once

#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "hindcast/bundle_format.h"
#include "transport/chunk_codec.h"

namespace hindcast::transport {

inline ByteSpan as_bytes(std::string_view s) { return {reinterpret_cast<const uint8_t*>(s.data()), s.size()}; }

template <class T>
ByteSpan struct_bytes(const T& v) {
  return {reinterpret_cast<const uint8_t*>(&v), sizeof v};
}

/// Fluent; each call appends. end() adds index and trailer, without it the file is a cut one.
class RawBundle {
 public:
  explicit RawBundle(uint16_t major = bundle::kMajor, uint16_t minor = bundle::kMinor) {
    bundle::FileHeader h{};
    std::memcpy(h.magic, bundle::kFileMagic, sizeof h.magic);
    h.major = major;
    h.minor = minor;
    h.checksum = checksum_of(struct_bytes(h).first(16));
    add(struct_bytes(h));
  }

  RawBundle& chunk(bundle::ChunkType type, uint32_t snapshot, uint32_t id, uint64_t offset, ByteSpan raw) {
    bundle::ChunkHeader h{};
    h.type = static_cast<uint8_t>(type);
    h.snapshot = snapshot;
    h.id = id;
    h.offset = offset;
    static ChunkEncoder encoder;  // making one costs more than a small chunk
    const ByteSpan stored = encoder.encode(raw, h);
    return chunk_as_is(h, stored);
  }
  /// A header that says what it likes; only its own checksum is put right.
  RawBundle& chunk_as_is(bundle::ChunkHeader h, ByteSpan stored) {
    h.checksum = header_checksum(h);
    index_.push_back({bytes_.size(), h});
    add(struct_bytes(h));
    add(stored);
    return *this;
  }
  RawBundle& manifest(uint32_t snapshot, std::string_view text) {
    return chunk(bundle::ChunkType::manifest, snapshot, 0, 0, as_bytes(text));
  }
  RawBundle& stream(uint32_t snapshot, uint32_t id, uint64_t offset, std::string_view raw) {
    return chunk(bundle::ChunkType::stream, snapshot, id, offset, as_bytes(raw));
  }
  RawBundle& image(uint32_t snapshot, uint32_t id, uint64_t offset, std::string_view raw) {
    return chunk(bundle::ChunkType::image, snapshot, id, offset, as_bytes(raw));
  }

  /// The entries that end() will write; tests change them first.
  std::vector<bundle::IndexEntry>& index() { return index_; }

  RawBundle& end() {
    bundle::Trailer t{};
    t.index_offset = bytes_.size();
    t.index_bytes = index_.size() * sizeof(bundle::IndexEntry);
    const std::vector<bundle::IndexEntry> entries = index_;
    if (!entries.empty())
      chunk(bundle::ChunkType::index, 0, 0, 0, {reinterpret_cast<const uint8_t*>(entries.data()), t.index_bytes});
    return end_with(t);
  }
  /// A trailer that says what it likes; file_bytes 0 and its checksum are filled in.
  RawBundle& end_with(bundle::Trailer t) {
    if (t.file_bytes == 0) t.file_bytes = bytes_.size() + sizeof t;
    t.checksum = checksum_of(struct_bytes(t).first(24));
    std::memcpy(t.magic, bundle::kTrailerMagic, sizeof t.magic);
    add(struct_bytes(t));
    return *this;
  }
  const std::vector<uint8_t>& bytes() const { return bytes_; }

 private:
  void add(ByteSpan b) { bytes_.insert(bytes_.end(), b.begin(), b.end()); }
  std::vector<uint8_t> bytes_;
  std::vector<bundle::IndexEntry> index_;
};

}  // namespace hindcast::transport
