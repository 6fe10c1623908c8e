// The simulated PT source: QEMU runs the program, a plugin tells what ran, and this makes of it what hardware would have
// left in the AUX rings.
#pragma once

#include <memory>

#include "capture/pt_source.h"
#include "capture/sim/sim_config.h"

namespace hindcast::sim {

/// Only the launched program and what it starts is traced, user mode only, on simulated CPUs of their own clocks. All
/// that depends on chance is seeded; where and when code ran is the host's own doing.
/// A thread of its own takes the plugin's words and encodes; calls may come from one other thread.
std::unique_ptr<capture::PtSource> make_sim_source(const SimConfig& config);

}  // namespace hindcast::sim
