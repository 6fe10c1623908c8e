#include "capture/sample_clock.h"

#include <x86intrin.h>

#include "hindcast/result.h"

namespace hindcast::capture {

ClockSample sample_clock(clockid_t clock) {
  ClockSample best;
  uint64_t width = ~uint64_t{0};
  for (int i = 0; i < 8; ++i) {
    timespec ts;
    unsigned aux;
    const uint64_t before = __rdtscp(&aux);
    HC_CHECK(::clock_gettime(clock, &ts) == 0);
    const uint64_t after = __rdtscp(&aux);
    if (after - before < width) {
      width = after - before;
      best = {before, static_cast<uint64_t>(ts.tv_sec) * 1000000000u + static_cast<uint64_t>(ts.tv_nsec), after};
    }
  }
  return best;
}

}  // namespace hindcast::capture
