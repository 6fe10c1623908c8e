// The knobs of the simulator that real hardware does not have, and their text form.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "hindcast/result.h"

namespace hindcast::sim {

struct SimConfig {
  uint64_t seed = 1;        // of everything that is made up
  double ovf = 0;           // internal buffer overflows, expected per KiB of trace
  double tick = 250;        // timer interrupts a second and CPU; 0: none
  double mtc_drop = 0.001;  // share of MTC packets that are dropped
  bool drift = true;        // the core clock drifts and changes its ratio
  bool deferred_tips = false;
  bool long_tnt = false;  // TNT-64
  std::string truth;      // directory for what really ran, written by the plugin; empty: not written
  std::string qemu;       // qemu-x86_64; empty: found by PATH
  std::string plugin;     // hindcast-sim.so; empty: found beside the program
};

/// Parses "seed=1,ovf=0.001,tick=1000,mtc_drop=0,drift=0,deferred_tips,long_tnt"; a bare name means 1. The empty text
/// gives the defaults. Errors: Errc::usage with the names and ranges.
Result<SimConfig> parse_sim_config(std::string_view text);

}  // namespace hindcast::sim
