// Reads a clock of the kernel together with the TSC.
#pragma once

#include <ctime>

#include "hindcast/clock_sample.h"

namespace hindcast::capture {

/// The clock between two TSC readings; the tightest of a few tries. About 1 us. clock: one that this kernel has.
ClockSample sample_clock(clockid_t clock);

}  // namespace hindcast::capture
