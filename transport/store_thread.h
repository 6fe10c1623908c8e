// Runs a SnapshotSink's calls one after the other, away from the network: a disk that stalls must not look like a server
// that died. Its queue is bounded by the credit of what is in it.
#pragma once

#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "hindcast/fd.h"
#include "transport/snapshot_sink.h"

namespace hindcast::transport {

/// Jobs of one snapshot carry its handle, chosen by the caller and used once. After the first error of a handle its later
/// jobs do nothing and give that error.
struct StoreJob {
  enum class Kind { open, psb_map, write, commit, close };
  Kind kind = Kind::close;
  uint64_t handle = 0;
  SnapshotOffer offer;          // open
  uint32_t number = 0;          // psb_map: stream; write: chunk
  PsbMap map;                   // psb_map
  std::vector<uint8_t> stored;  // write
  std::vector<uint8_t> raw;     // write
  uint64_t cost = 0;            // echoed in the result
};

struct StoreResult {
  StoreJob::Kind kind = StoreJob::Kind::close;
  uint64_t handle = 0;
  uint32_t number = 0;
  uint64_t cost = 0;
  uint64_t raw_bytes = 0, stored_bytes = 0;
  bool committed = false;  // open: it was before
  std::vector<bool> have;  // open
  Result<void> outcome;
};

class StoreThread {
 public:
  static Result<std::unique_ptr<StoreThread>> start(SnapshotSink& sink);
  ~StoreThread();  // finishes no job but the one that runs

  void push(StoreJob job);
  std::vector<StoreResult> take_results();
  int ready_fd() const { return ready_.get(); }  // readable when there are results

 private:
  explicit StoreThread(SnapshotSink& sink) : sink_(sink) {}
  void run();
  StoreResult perform(StoreJob& job);

  struct Open {
    std::unique_ptr<IncomingSnapshot> snapshot;
    std::optional<Error> failed;
  };

  SnapshotSink& sink_;
  std::map<uint64_t, Open> open_;  // store thread only
  Fd ready_;
  std::mutex mutex_;  // guards the next three
  std::deque<StoreJob> jobs_;
  std::vector<StoreResult> results_;
  bool stop_ = false;
  std::condition_variable more_;
  std::thread thread_;
};

}  // namespace hindcast::transport
