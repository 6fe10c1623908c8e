// A sink that keeps each snapshot as one bundle file, byte for byte the one in the host's spool.
//
//   FOLDER/HOST/INCIDENT.hcb            committed: fsynced before it got this name
//   FOLDER/HOST/INCIDENT.hcb.partial    under way; each chunk at its final place. After a crash each is verified again
//   FOLDER/images/CONTENT               "HOST/INCIDENT ID": a committed bundle that holds an image of that BLAKE2b-256, so
//                                       that no other host need send it; only a hint, verified when used
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "transport/snapshot_sink.h"

namespace hindcast::transport {

class FileSink : public SnapshotSink {
 public:
  struct Limits {
    uint64_t snapshot_bytes = uint64_t{64} << 30;  // of one bundle file
    uint64_t total_bytes = UINT64_MAX;  // of all files below the folder, counted at create() and from then on
  };
  /// Called once for each snapshot, after it is durable and before the host is told, on the thread that commits.
  using Committed = std::function<void(const std::string& host, const std::string& incident, const std::string& path)>;

  /// Makes the folder when it is missing. Errors: io, permission.
  static Result<std::unique_ptr<FileSink>> create(const std::string& folder, Limits limits, Committed committed = {});
  Result<std::unique_ptr<IncomingSnapshot>> open(const SnapshotOffer& offer) override;

  // Thread-safe, for those who put bundles into the folder by another way, or take them out.
  uint64_t used() const;  // bytes, as limited by total_bytes
  /// Counts bytes that are about to be written. Errors: io when the store is full.
  Result<void> reserve(uint64_t bytes);
  void release(uint64_t bytes);
  /// Removes a committed bundle, and the notes of images in it. Errors: not_found, io.
  Result<void> remove(const std::string& host, const std::string& incident);
  std::string path_of(const std::string& host, const std::string& incident) const;

  struct State;

 private:
  explicit FileSink(std::shared_ptr<State> state) : state_(std::move(state)) {}
  std::shared_ptr<State> state_;
};

}  // namespace hindcast::transport
