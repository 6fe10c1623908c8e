// Which source of PT to trace with.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "capture/pt_source.h"

namespace hindcast::capture {

struct SourceChoice {
  std::string source = "auto";  // auto, perf, simulated
  std::string sim;              // knobs of the simulator, sim_config.h
  std::string truth;            // directory for the simulator's truth; empty: none
};

/// auto is perf where the CPU has PT, else simulated; what was chosen is said. Errors: usage, io.
Result<std::unique_ptr<PtSource>> choose_source(const SourceChoice& choice,
                                                const std::function<void(const std::string&)>& say);

}  // namespace hindcast::capture
