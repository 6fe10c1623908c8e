// The host's durable store of snapshots that the server has not committed yet. Survives kill -9 and loss of power.
//
// A folder, owned by one process (lock):
//   lock                    held with flock while the spool is open
//   INCIDENT.hcb.partial    being written; not durable: removed when the spool is opened
//   INCIDENT.hcb            a durable snapshot: a bundle file (bundle_format.h) with one snapshot; it appears under
//                           this name only after it was fsynced, and the name is fsynced before writing returns
//   INCIDENT.map            what shipping needs beside it: content hashes of images, PSB maps of PT streams. Derived
//                           from the bundle, and made again from it when missing or damaged
//   INCIDENT.committed      the server has committed it: the bundle may go when room is needed
//
// INCIDENT.map, little-endian:   "HCMAP1\r\n"; u32 images; {u32 id; u8 blake2b[32]} each; u32 streams;
//                                {u32 id; u32 0; u64 mapped bytes; u64 n; n PsbEntry} each; u64 XXH3-64 of all before
// INCIDENT.committed:            "HCDONE1\n"; u8 digest[32] (Directory::digest of the bundle); u64 when, ns since 1970;
//                                u64 XXH3-64 of all before
// A damaged or foreign .committed counts as absent: the snapshot is offered again, and the server says that it has it.
//
// How far an unfinished shipment got is not kept here: the server alone knows what survived on its side, and says so when
// the shipment is offered again.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "hindcast/cut.h"
#include "hindcast/fd.h"
#include "hindcast/result.h"
#include "transport/bundle_writer.h"
#include "transport/directory.h"
#include "transport/psb_map.h"

namespace hindcast::transport {

struct SpoolConfig {
  std::string folder;
  uint64_t limit_bytes = uint64_t{4} << 30;  // of all files together
};

/// What travels beside the bundle's chunks.
struct SpoolMaps {
  struct Image {
    uint32_t id;
    Digest content;
  };
  struct Stream {
    uint32_t id;
    PsbMap map;
  };
  std::vector<Image> images;    // ascending id
  std::vector<Stream> streams;  // PT streams, ascending id
};

class Spool;

/// Writes one snapshot. Like BundleWriter, whose calls these are; not thread-safe, but several may be open at once.
class SpoolWriter {
 public:
  SpoolWriter(SpoolWriter&&) noexcept;
  SpoolWriter& operator=(SpoolWriter&&) = delete;
  ~SpoolWriter();  // without finish(): the snapshot is discarded

  /// Errors: also too_large, when the spool's limit is reached and nothing committed is left to remove.
  Result<void> append_stream(uint32_t id, StreamKind kind, ByteSpan bytes);
  Result<void> append_image(uint32_t id, ByteSpan bytes);
  /// After it the snapshot is durable. info's incident and host must be those of begin(). Returns the file's bytes.
  Result<uint64_t> finish(const SnapshotInfo& info);

 private:
  friend class Spool;
  struct Impl;
  explicit SpoolWriter(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// A durable snapshot, open for shipping. Stays readable when the spool removes its file meanwhile.
class SpooledSnapshot {
 public:
  std::string incident;
  Directory directory;
  Digest digest{};
  SpoolMaps maps;

  /// Stored bytes of chunk `number`, as they lie in the file, into `to` (stored_bytes long). False: the disk failed.
  bool read_stored(uint32_t number, std::span<uint8_t> to) const;

 private:
  friend class Spool;
  explicit SpooledSnapshot(BundleBytes source) : source_(std::move(source)) {}
  BundleBytes source_;
};

/// Thread-safe, but for SpoolWriters. Writers must not outlive it.
class Spool {
 public:
  /// Makes the folder when it is missing, takes the lock, removes what was not durable, lists the rest. What is durable
  /// but cannot be read is kept, and told in damaged(). Errors: io, permission; usage when another process has it.
  static Result<std::unique_ptr<Spool>> open(const SpoolConfig& config);
  ~Spool();

  /// Starts a snapshot. expected_bytes (may be 0) is made free beforehand, by removing the oldest committed snapshots;
  /// one that is not committed is never removed. Errors: usage for names that break names.h and for an incident
  /// that is here already; too_large when it does not fit.
  Result<SpoolWriter> begin(const std::string& incident, const std::string& host, uint64_t expected_bytes);

  struct Entry {
    std::string incident;
    uint64_t bytes = 0;            // of all its files
    uint64_t created_unix_ns = 0;  // of the bundle file
    bool committed = false;
    std::string damage;  // why it cannot be shipped; empty: it can
  };
  std::vector<Entry> entries() const;             // oldest first
  std::vector<std::string> waiting() const;       // durable, neither committed nor damaged; oldest first
  bool holds(const std::string& incident) const;  // durable here, committed or not
  std::vector<Entry> damaged() const;
  uint64_t used_bytes() const;
  uint64_t limit_bytes() const;
  uint64_t evicted() const;  // committed snapshots removed to make room, since open

  /// Errors: not_found; corrupt, after which it is listed as damaged.
  Result<SpooledSnapshot> open_snapshot(const std::string& incident);

  /// Durable when it returns. Errors: not_found, io; corrupt when digest is not that of the snapshot here.
  Result<void> mark_committed(const std::string& incident, const Digest& digest);

 private:
  friend class SpoolWriter;
  struct Impl;
  explicit Spool(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace hindcast::transport
