// Timing packets, one by one, to the time map of a stream.
#pragma once

#include <algorithm>
#include <cstdint>

#include "decode/packet_scan.h"
#include "decode/pt_time.h"

namespace hindcast::decode {

/// Turns readings into the two step functions. A lower bound waits until no branch older than it can follow.
class TimeMapBuilder {
 public:
  explicit TimeMapBuilder(const PtTimeConfig& config) : clock_(config) {}

  /// Every packet; those that kNothing has may be left out.
  void packet(const Packet& p) {
    if (is_timing(p.kind)) {
      if (const auto reading = clock_.feed(p)) timing_packet(p.offset, *reading);
      return;
    }
    bounded_ = false;
    switch (order_of(p.kind)) {
      case Order::neutral:
        return;
      case Order::barrier:
        if (p.kind == Kind::ovf) clock_.feed(p);
        release(p.offset, std::max(newest_, passed_));
        newest_ = passed_ = 0;
        return;
      case Order::branch:
        // A second TNT cannot have waited beside the first; a TIP can have, behind its TNT.
        if (p.kind != Kind::tip) {
          release(p.offset, passed_);
          passed_ = 0;
        }
        passed_ = std::max(passed_, newest_);
        newest_ = 0;
        return;
    }
  }
  static constexpr SkipSizes kNothing = skip_sizes(Kind::cyc, Kind::pad);

  /// Whether branch packets change nothing now.
  bool quiet() const { return newest_ == 0 && passed_ == 0 && !bounded_; }

  /// The range is known to hold no packet: nothing that waited can come out behind it.
  void lost(const LostRange& range);
  TimeMap finish(uint64_t end, TscInterval traced);

 private:
  /// How a packet stands to branches that wait in the CPU for their TNT or TIP.
  enum class Order : uint8_t {
    neutral,  // says nothing
    branch,   // the first of its kind after a timing packet may be older than that
    barrier,  // sent when it happens, after everything that waited
  };
  static Order order_of(Kind kind);

  void timing_packet(uint64_t offset, const PtClock::Reading& reading);
  void contradict(uint64_t latest);
  void release(uint64_t offset, uint64_t tsc) {
    TimeSteps& lower = map_.lower_;
    if (tsc == 0 || (!lower.empty() && tsc <= lower.last_value())) return;
    if (!lower.empty() && lower.last_key() >= offset) lower.pop();
    lower.append(offset, tsc);
  }

  PtClock clock_;
  TimeMap map_;
  bool bounded_ = false;  // from above: everything so far, but for timing packets that nobody asks about
  uint64_t newest_ = 0;   // lower bound of timing packets since the last branch packet; 0: none
  uint64_t passed_ = 0;   // of those before it: holds once nothing that waited beside it can follow
  uint64_t highest_ = 0;  // of all
};

}  // namespace hindcast::decode
