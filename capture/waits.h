// Waits, wakes and messages for the window: BPF records drained, held back until sideband has caught up, and kept.
#pragma once

#include <chrono>
#include <functional>
#include <span>
#include <vector>

#include "capture/drop_watch.h"
#include "capture/pt_source.h"
#include "capture/wait_probe.h"
#include "capture/wait_store.h"

namespace hindcast::capture {

/// Life: open, follow(), poll() often, keep() as sideband comes in, streams() as often as wanted. One thread.
class Waits {
 public:
  /// Errors: as WaitProbe::open().
  static Result<Waits> open(const WaitProbeConfig& config, size_t window_bytes);

  Result<void> follow(const Fd& pidfd) { return probe_.follow(pidfd); }

  /// Takes what there is out of the ring; says in records of their own what was lost since the last time. A bounded amount of
  /// work.
  void poll();
  /// No further events come, but for what runs on some CPU just now.
  void detach() { probe_.detach(); }
  /// When nothing runs any more: all that there is is taken.
  void finish();

  /// Those that were written until `until` (CLOCK_MONOTONIC, which steady_clock is) become part of the window, unless the
  /// filter drops them; it may change them in place.
  using Filter = std::function<RecordFate(const wait::Record& record, std::span<uint8_t> whole)>;
  void keep(std::chrono::steady_clock::time_point until, const Filter& filter);

  /// The window, as a stream without a number.
  Cut stream() const { return store_.stream(); }
  uint64_t oldest() const { return store_.oldest(); }
  uint64_t lost() const { return lost_; }
  uint64_t evicted() const { return store_.evicted(); }

 private:
  Waits(WaitProbe probe, size_t window_bytes);
  void drain();
  void look_for_losses(bool missed_too);
  void add_lost(const wait::Lost& lost);

  WaitProbe probe_;
  WaitStore store_;
  RecordFifo waiting_;
  DropWatch drops_;
  uint64_t missed_ = 0;         // as last seen
  uint64_t missed_looked_ = 0;  // CLOCK_MONOTONIC before that
  uint64_t lost_ = 0;
  std::chrono::steady_clock::time_point next_missed_look_{};
};

}  // namespace hindcast::capture
