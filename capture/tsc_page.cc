// The kernel's conversion between TSC and record times, read from a perf map page.
#include "capture/tsc_page.h"

namespace hindcast::capture {

namespace {

constexpr uint64_t kCapUserTimeZero = uint64_t{1} << 4;  // the bit field cap_user_time_zero of perf_event_mmap_page

}  // namespace

TscConversion read_tsc_conversion(const perf_event_mmap_page* page) {
  TscConversion c;
  constexpr int kMostTries = 10000;  // the kernel holds the lock for some nanoseconds
  for (int i = 0; i < kMostTries; i++) {
    // each load acquires, so that none of them can come after the second look at the lock
    const uint32_t before = __atomic_load_n(&page->lock, __ATOMIC_ACQUIRE);
    c.known = __atomic_load_n(&page->capabilities, __ATOMIC_ACQUIRE) & kCapUserTimeZero;
    c.shift = __atomic_load_n(&page->time_shift, __ATOMIC_ACQUIRE);
    c.mult = __atomic_load_n(&page->time_mult, __ATOMIC_ACQUIRE);
    c.zero = __atomic_load_n(&page->time_zero, __ATOMIC_ACQUIRE);
    if (!(before & 1) && __atomic_load_n(&page->lock, __ATOMIC_RELAXED) == before) {
      if (c.shift >= 64 || c.mult == 0) c.known = false;
      return c.known ? c : TscConversion{};
    }
  }
  return {};
}

}  // namespace hindcast::capture
