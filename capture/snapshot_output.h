// Puts what a freeze took where it is kept: what it will hold, images, sideband, trace, then its final description.
#pragma once

#include "capture/window.h"
#include "transport/bundle_writer.h"
#include "transport/spool.h"

namespace hindcast::capture {

/// Where a snapshot goes. Calls come in this order; appends go on where the last one of the same id ended.
class SnapshotOutput {
 public:
  virtual ~SnapshotOutput() = default;
  virtual Result<void> begin(const SnapshotInfo& info) = 0;
  virtual Result<void> append_image(uint32_t id, ByteSpan bytes) = 0;
  virtual Result<void> append_stream(uint32_t id, StreamKind kind, ByteSpan bytes) = 0;
  virtual Result<void> end(const SnapshotInfo& info) = 0;
};

/// A bundle file; still to be finished by its owner.
class BundleOutput final : public SnapshotOutput {
 public:
  explicit BundleOutput(transport::BundleWriter& writer) : writer_(writer) {}
  Result<void> begin(const SnapshotInfo& info) override { return writer_.begin_snapshot(info); }
  Result<void> append_image(uint32_t id, ByteSpan bytes) override { return writer_.append_image(id, bytes); }
  Result<void> append_stream(uint32_t id, StreamKind, ByteSpan bytes) override {
    return writer_.append_stream(id, bytes);
  }
  Result<void> end(const SnapshotInfo& info) override { return writer_.end_snapshot(info); }

 private:
  transport::BundleWriter& writer_;
};

/// The host's spool: durable after end().
class SpoolOutput final : public SnapshotOutput {
 public:
  explicit SpoolOutput(transport::SpoolWriter& writer) : writer_(writer) {}
  Result<void> begin(const SnapshotInfo&) override { return {}; }
  Result<void> append_image(uint32_t id, ByteSpan bytes) override { return writer_.append_image(id, bytes); }
  Result<void> append_stream(uint32_t id, StreamKind kind, ByteSpan bytes) override {
    return writer_.append_stream(id, kind, bytes);
  }
  Result<void> end(const SnapshotInfo& info) override {
    HC_TRY(bytes_, writer_.finish(info));
    return {};
  }
  uint64_t bytes() const { return bytes_; }  // of the file, after end()

 private:
  transport::SpoolWriter& writer_;
  uint64_t bytes_ = 0;
};

/// Numbers the streams, fills info.streams, images and placements, and writes all. An image whose file shrank or cannot be
/// read any more becomes shorter and a note.
///   say  progress when it takes longer than a second
Result<void> write_snapshot(SnapshotOutput& output, Frozen& frozen, const Window::Say& say);

}  // namespace hindcast::capture
