// Writes a bundle file (include/hindcast/bundle_format.h): streams and images as they come, the manifest at
// the end.
#pragma once

#include <memory>
#include <string>

#include "hindcast/cut.h"
#include "hindcast/fd.h"
#include "hindcast/result.h"

namespace hindcast::transport {

/// Bytes go to "PATH.partial", which finish() fsyncs and renames: PATH either is a whole bundle or does not
/// exist. A writer in another process that uses the same PATH at the same time gets an error from create().
/// After any error of append or end the bundle cannot be finished. Files are made readable by their owner
/// only: they tell what a process did. Not thread-safe. Memory: one chunk and its compressed form, and 56
/// bytes per chunk.
class BundleWriter {
 public:
  /// Errors: the file cannot be made.
  static Result<BundleWriter> create(const std::string& path);
  BundleWriter(BundleWriter&&) noexcept;
  BundleWriter& operator=(BundleWriter&&) noexcept;
  ~BundleWriter();  // without finish(): removes the partial file

  /// States what is to come, before the first append of a snapshot: a file that is cut later still tells its
  /// streams and how many bytes of each are missing. Optional, and end_snapshot's word is final; bytes may be
  /// 0 when unknown.
  Result<void> begin_snapshot(const SnapshotInfo& info);

  /// Appends to stream `id` / image `id` of the snapshot being written; pieces are stored in call order.
  /// Small pieces of one stream in a row share a chunk. What matters most when the file is cut should come
  /// first: images, sideband, PT.
  Result<void> append_stream(uint32_t id, ByteSpan bytes);
  Result<void> append_image(uint32_t id, ByteSpan bytes);

  /// Ends the snapshot: info.streams[i].bytes and info.images[i].bytes must equal what was appended.
  /// Errors: usage, with every rule of snapshot_rules.h that info breaks.
  Result<void> end_snapshot(const SnapshotInfo& info);

  /// Bytes in the file so far; those that wait for a full chunk are not among them.
  uint64_t file_bytes() const;

  /// Makes the file durable under its final name. At least one snapshot must have ended.
  Result<void> finish();

 private:
  struct Impl;
  explicit BundleWriter(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace hindcast::transport
