#include "capture/choose_source.h"

#include <filesystem>

#include "capture/perf_source.h"
#include "capture/sim/sim_source.h"

namespace hindcast::capture {

Result<std::unique_ptr<PtSource>> choose_source(const SourceChoice& o,
                                                const std::function<void(const std::string&)>& say) {
  const auto pmu = read_pt_pmu({});
  if (o.source == "perf" || (o.source == "auto" && pmu.ok())) {
    if (!o.sim.empty() || !o.truth.empty())
      return Error{Errc::usage, "--sim and --truth need --source simulated", {}, {}};
    if (o.source == "auto") say("the CPU has Intel PT: tracing with it (--source perf)");
    return std::unique_ptr<PtSource>(std::make_unique<PerfSource>(kernel_perf_calls()));
  }
  HC_TRY(sim::SimConfig config, sim::parse_sim_config(o.sim));
  if (!o.truth.empty()) {
    // the program may change its directory before the plugin writes
    std::error_code error;
    const auto path = std::filesystem::absolute(o.truth, error);
    if (!error) std::filesystem::create_directories(path, error);
    if (error) return Error{Errc::io, "cannot make the directory " + o.truth + ": " + error.message(), {}, {}};
    config.truth = path.lexically_normal().string();
  }
  if (o.source == "auto") say("no Intel PT here: simulating it with QEMU (--source simulated)");
  return sim::make_sim_source(config);
}

}  // namespace hindcast::capture
