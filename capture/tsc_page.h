// The kernel's conversion between TSC and record times, read from a perf map page.
#pragma once

#include <linux/perf_event.h>

#include "hindcast/pt_config.h"

namespace hindcast::capture {

/// known is false when the page gives none (clock sources other than TSC, KVM guests, events with
/// use_clockid). Safe while the kernel updates the page: retries until its sequence lock says the values
/// belong together.
TscConversion read_tsc_conversion(const perf_event_mmap_page* page);

}  // namespace hindcast::capture
