// The kernel's conversion between TSC and record times, read from a perf map page.
#include "capture/tsc_page.h"

namespace hindcast::capture {

TscConversion read_tsc_conversion(const perf_event_mmap_page* page) {
  TscConversion c;
  constexpr int kMostTries = 10000;  // the kernel holds the lock for some nanoseconds
  for (int i = 0; i < kMostTries; i++) {
    const uint32_t before = __atomic_load_n(&page->lock, __ATOMIC_ACQUIRE);
    c.known = page->cap_user_time_zero;
    c.shift = page->time_shift;
    c.mult = page->time_mult;
    c.zero = page->time_zero;
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    if (!(before & 1) && __atomic_load_n(&page->lock, __ATOMIC_RELAXED) == before) {
      if (c.shift >= 64 || c.mult == 0) c.known = false;
      return c.known ? c : TscConversion{};
    }
  }
  return {};
}

}  // namespace hindcast::capture
