// Where a receiver puts what it has verified: implemented by the server's store, and by FileSink.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "hindcast/result.h"
#include "transport/directory.h"
#include "transport/spool.h"

namespace hindcast::transport {

/// What a host offers. Names keep names.h; the host is the one that the allow-list gives its key.
struct SnapshotOffer {
  std::string host, incident;
  Digest digest{};
  Directory directory;                   // no directory_problem()
  std::vector<SpoolMaps::Image> images;  // content of images as the host states it; not verified
};

/// One snapshot on its way in. Destroyed without commit when its session ends: what was written may be kept, so that the
/// next session need not send it again.
class IncomingSnapshot {
 public:
  virtual ~IncomingSnapshot() = default;

  /// This very snapshot (by digest) is durable here already: nothing is to be sent.
  virtual bool committed() const = 0;
  /// By chunk number: what need not be sent.
  virtual const std::vector<bool>& have() const = 0;

  /// Part of a PSB map (wire.proto), before the PT bytes that it maps. Parts of a map come in order.
  virtual Result<void> psb_map(uint32_t stream, const PsbMap& part) = 0;
  /// One chunk that have() lacks, once each, in any order. Its header is directory.chunks[number].header; `raw` was verified
  /// against its checksum.
  virtual Result<void> write(uint32_t number, ByteSpan stored, ByteSpan raw) = 0;
  /// All chunks are there. Durable when it returns. Errors: corrupt when the whole is no bundle of this host and incident:
  /// then it is refused for good; others: it may be tried again.
  virtual Result<void> commit() = 0;
};

/// Called from one thread. At most one IncomingSnapshot per (host, incident) lives at a time.
class SnapshotSink {
 public:
  virtual ~SnapshotSink() = default;
  /// Errors: usage when another snapshot has that host and incident: it is refused for good; others: may be tried again.
  virtual Result<std::unique_ptr<IncomingSnapshot>> open(const SnapshotOffer& offer) = 0;
};

}  // namespace hindcast::transport
