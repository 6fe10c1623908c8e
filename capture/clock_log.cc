#include "capture/clock_log.h"

#include <ctime>

#include "capture/sample_clock.h"

namespace hindcast::capture {

void ClockLog::poll(std::chrono::steady_clock::time_point now) {
  if (now < next_) return;
  next_ = now + kEvery;
  sample();
}

void ClockLog::sample() {
  samples_.push_back(sample_clock(CLOCK_MONOTONIC));
  if (samples_.size() <= kMost) return;
  samples_.pop_front();
  ++dropped_;
}

void ClockLog::forget_before(uint64_t ns) {
  while (samples_.size() > 1 && samples_[1].ns <= ns) samples_.pop_front();
}

Cut ClockLog::stream() const {
  Cut cut;
  cut.info.kind = StreamKind::clocks;
  for (const ClockSample& s : samples_) append_clock_sample(cut.bytes, CLOCK_MONOTONIC, s);
  cut.info.bytes = cut.bytes.size();
  return cut;
}

}  // namespace hindcast::capture
