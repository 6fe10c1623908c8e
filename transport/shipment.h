// What of one snapshot is still to be sent, in which order.
#pragma once

#include <chrono>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "transport/spool.h"

namespace hindcast::transport {

/// Lower goes first.
enum class Priority : uint8_t {
  map = 0,       // manifest and index chunks
  sideband = 1,  // sideband, clocks, waits, net: kilobytes that tell what ran
  wanted = 2,    // a reader waits for it
  image = 3,     // code, without which PT cannot be read
  pt = 4,
};

class Shipment {
 public:
  explicit Shipment(SpooledSnapshot snapshot);

  enum class State { fresh, offered, shipping, done };
  State state = State::fresh;
  const SpooledSnapshot& snapshot() const { return snapshot_; }

  uint32_t directory_sent = 0;  // entries
  size_t map_stream = 0;        // PSB maps: which is next, and from which entry on
  size_t map_entry = 0;
  bool maps_sent() const { return map_stream == snapshot_.maps.streams.size(); }

  /// The server has these. Ranges from outside: what lies beyond the directory is ignored.
  uint64_t skip(uint64_t first, uint64_t count);
  /// Moves the chunks that hold these bytes ahead. bytes 0: to the end. Image when stream is 0.
  void want(uint32_t stream, uint32_t image, uint64_t offset, uint64_t bytes);

  bool nothing_unsent() const { return unsent_.empty(); }
  /// The next to send. Only when !nothing_unsent().
  std::pair<Priority, uint32_t> next() const { return *unsent_.begin(); }
  void sent(uint32_t number) { unsent_.erase({priority_[number], number}); }

 private:
  SpooledSnapshot snapshot_;
  std::vector<Priority> priority_;                  // by chunk number
  std::set<std::pair<Priority, uint32_t>> unsent_;  // by priority, then in file order
};

}  // namespace hindcast::transport
