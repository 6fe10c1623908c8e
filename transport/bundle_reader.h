// Reads a bundle file without trusting it: every length, checksum and name is checked before use.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "hindcast/cut.h"
#include "hindcast/result.h"
#include "transport/stream_parts.h"

namespace hindcast::transport {

/// A file that ends early (a crash, a cut copy) still opens when it has no index: the chunks before the
/// damage are used and damage() says what is missing, in words and as byte ranges per stream. Then a stream's
/// StreamInfo.bytes is what can be read, and images that are not whole are left out with their placements.
/// const calls may run in several threads at once. Memory: about 100 bytes per chunk, and the manifests.
class BundleReader {
 public:
  /// Errors: io, not_found, permission; bad_input: no bundle; version: made by a newer version; corrupt:
  /// nothing of it can be used, or its parts contradict each other; too_large: beyond the limits in
  /// bundle_format.h.
  static Result<BundleReader> open(const std::string& path);
  /// The same over bytes in memory (borrowed), for tests and fuzzers.
  static Result<BundleReader> from_bytes(ByteSpan bytes);
  BundleReader(BundleReader&&) noexcept;
  BundleReader& operator=(BundleReader&&) noexcept;
  ~BundleReader();

  size_t snapshot_count() const;
  const SnapshotInfo& snapshot(size_t i) const;

  /// The bytes [offset, offset + size) of a stream; checksums verified. Errors: not_found (also: beyond its
  /// end), corrupt, too_large (beyond bundle::kMaxReadBytes). Cost: the chunks that the range touches are
  /// read and decompressed.
  Result<std::vector<uint8_t>> read_stream(size_t snapshot, uint32_t id, uint64_t offset, uint64_t size) const;
  Result<std::vector<uint8_t>> read_stream(size_t snapshot, uint32_t id) const;
  Result<std::vector<uint8_t>> read_image(size_t snapshot, uint32_t id) const;

  struct Damage {
    std::string what;                // one line, complete by itself
    uint32_t stream = 0;             // 0: not a stream
    uint64_t offset = 0, bytes = 0;  // missing range; bytes 0: how much is unknown
    size_t snapshot = 0;
    uint32_t image = 0;  // 0: not an image
  };
  /// Known damage found while opening; empty for a whole file.
  const std::vector<Damage>& damage() const;

  /// One unbroken run of a stream's bytes.
  struct Piece {
    uint64_t offset = 0;
    std::vector<uint8_t> bytes;
  };
  /// What can be read of a stream whose chunks may be damaged: pieces in order, with the broken ranges
  /// between them in `damage`. Errors: not_found, too_large.
  struct Salvage {
    std::vector<Piece> pieces;
    std::vector<Damage> damage;
  };
  Result<Salvage> salvage_stream(size_t snapshot, uint32_t id) const;

  /// A stream or image to be read here and there. Borrows the reader. Errors: not_found, too_large.
  Result<std::shared_ptr<StreamParts>> stream_in_parts(size_t snapshot, uint32_t id) const;
  Result<std::shared_ptr<StreamParts>> image_in_parts(size_t snapshot, uint32_t id) const;
  /// Streams with the same bytes have the same one, in whatever bundle they are: a hash of their chunks' sizes and checksums.
  /// Errors: not_found.
  Result<std::string> content_key(size_t snapshot, uint32_t stream) const;
  /// What all that is open in parts keep in memory that nobody holds.
  static constexpr uint64_t kMostIdleBytes = uint64_t{384} << 20;

  /// Reads and checks every chunk; the damage found, that of opening included.
  std::vector<Damage> scrub() const;

  /// Sizes for `ls` and the benchmark: bytes on disk and after decompression.
  uint64_t stored_bytes() const;
  uint64_t raw_bytes() const;

 private:
  struct Impl;
  explicit BundleReader(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace hindcast::transport
