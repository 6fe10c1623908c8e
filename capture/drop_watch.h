// What a kernel's counters by CPU, which only grow, tell of losses: between two looks.
#pragma once

#include <ctime>
#include <span>
#include <vector>

#include "hindcast/wait_record.h"

namespace hindcast::capture {

inline uint64_t monotonic_ns() {
  timespec t{};
  ::clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1000000000u + static_cast<uint64_t>(t.tv_nsec);
}

inline wait::Lost lost_record(uint32_t cpu, uint64_t from, uint64_t until, uint64_t count) {
  wait::Lost lost{};
  lost.header = {sizeof lost, wait::kLost, cpu, -1, -1, until};
  lost.from = from;
  lost.count = count;
  return lost;
}

class DropWatch {
 public:
  /// The first look.
  explicit DropWatch(std::span<const uint64_t> counters)
      : looked_(monotonic_ns()), seen_(counters.begin(), counters.end()) {}

  /// lost(record) for each counter that grew since the last look. It was advanced after the clock was read before that look,
  /// and before it is read after this one.
  template <class Lost>
  void look(std::span<const uint64_t> counters, Lost lost) {
    const uint64_t before = monotonic_ns();
    for (size_t cpu = 0; cpu < counters.size(); ++cpu) {
      const uint64_t count = __atomic_load_n(&counters[cpu], __ATOMIC_RELAXED);
      if (count == seen_[cpu]) continue;
      lost(lost_record(static_cast<uint32_t>(cpu), looked_, monotonic_ns(), count - seen_[cpu]));
      seen_[cpu] = count;
    }
    looked_ = before;
  }

 private:
  uint64_t looked_;
  std::vector<uint64_t> seen_;
};

}  // namespace hindcast::capture
