// Packets on the host's interfaces for the window: taps that come and go with them, drained, and kept.
#pragma once

#include <chrono>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "capture/drop_watch.h"
#include "capture/net_tap.h"
#include "capture/wait_store.h"

namespace hindcast::capture {

struct NetWindowConfig {
  std::vector<std::string> interfaces;  // by name; empty: all that are up, but loopback
  NetTapConfig tap;                     // of each
  size_t bytes = size_t{64} << 20;      // kept
};

/// Life: open, poll() often, stream() as often as wanted. One thread, whose network namespace it is.
class NetWindow {
 public:
  using Say = std::function<void(const std::string&)>;
  static constexpr size_t kMostTaps = 64;

  /// say: what is not seen, and why, a line a call, now and later. Errors: not_found for a name that is no interface that is
  /// up; unavailable without any; when none can be tapped, what NetTap::open() says of the first.
  static Result<NetWindow> open(const NetWindowConfig& config, Say say);

  /// Takes what there is out of the rings; says in records of their own what was lost since the last time; looks for
  /// interfaces that came or went, once a second. A bounded amount of work.
  void poll();
  /// Takes what is left, and the programs off.
  void finish();

  Cut stream() const { return store_.stream(); }
  /// As WaitStore's; when there is none: now.
  uint64_t oldest() const;
  uint64_t lost() const { return lost_; }
  uint64_t evicted() const { return store_.evicted(); }

 private:
  struct Tap {
    NetTap tap;
    DropWatch drops;
  };
  NetWindow(const NetWindowConfig& config, Say say);
  Result<void> add(const NetInterface& interface);
  void drain(Tap& tap);
  void look_around();

  NetWindowConfig config_;
  Say say_;
  std::vector<Tap> taps_;
  std::set<uint32_t> refused_;  // interfaces that cannot be tapped, by index
  WaitStore store_;
  uint64_t lost_ = 0;
  std::chrono::steady_clock::time_point next_look_;
};

}  // namespace hindcast::capture
