// One chunk's payload: raw bytes to stored bytes and back, with checksums. No files here.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "hindcast/bundle_format.h"
#include "hindcast/bytes.h"
#include "hindcast/result.h"

namespace hindcast::transport {

uint64_t checksum_of(ByteSpan bytes);
/// Of the header's bytes before its checksum field.
uint64_t header_checksum(const bundle::ChunkHeader& header);

/// zstd level of every chunk: of the levels that keep up with a ring's copy, the one that packs PT best.
inline constexpr int kZstdLevel = 3;

/// Compresses into a buffer that it keeps and lends. One object per thread.
class ChunkEncoder {
 public:
  ChunkEncoder();
  ~ChunkEncoder();
  ChunkEncoder(const ChunkEncoder&) = delete;
  ChunkEncoder& operator=(const ChunkEncoder&) = delete;

  /// Fills flags, raw_bytes, stored_bytes and both checksums of header, whose other fields the caller has
  /// set. The result is what to store, valid until the next call (or raw itself when compression does not
  /// pay). raw: 1 .. kMaxChunkRawBytes bytes.
  ByteSpan encode(ByteSpan raw, bundle::ChunkHeader& header);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Why a header cannot be used; nullptr when it can. Looks at the 48 bytes only.
const char* header_problem(const bundle::ChunkHeader& header);

/// The opposite of encode. header has no header_problem(); stored.size() == header.stored_bytes.
/// Errors: corrupt, unsupported (flags of a newer version).
class ChunkDecoder {
 public:
  ChunkDecoder();
  ~ChunkDecoder();
  ChunkDecoder(const ChunkDecoder&) = delete;
  ChunkDecoder& operator=(const ChunkDecoder&) = delete;
  /// raw.size() == header.raw_bytes; after an error its bytes mean nothing.
  Result<void> decode(const bundle::ChunkHeader& header, ByteSpan stored, std::span<uint8_t> raw);
  /// The same into new memory, as soon as the stored bytes show that they may need it.
  Result<std::vector<uint8_t>> decode(const bundle::ChunkHeader& header, ByteSpan stored);

 private:
  Result<void> unpack(const bundle::ChunkHeader& header, ByteSpan stored, std::span<uint8_t> raw);

  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace hindcast::transport
