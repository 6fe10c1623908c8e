// A made-up machine with Intel PT: what its kernel grants, and the files of /proc and /sys that tell of it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "capture/pt_caps.h"
#include "tests/support/sim_run.h"

namespace hindcast::test {

/// A Skylake by default, used by somebody without any privilege.
struct PtMachine {
  unsigned cpus = 2;
  bool pmu = true;
  std::map<std::string, uint64_t> caps = {{"psb_cyc", 1},
                                          {"mtc", 1},
                                          {"ptwrite", 0},
                                          {"power_event_trace", 0},
                                          {"mtc_periods", 0x249},
                                          {"cycle_thresholds", 0x3fff},
                                          {"psb_periods", 0x3f},
                                          {"topa_output", 1},
                                          {"topa_multiple_entries", 1}};
  bool branch_always_on = false;  // Broadwell, erratum BDM106
  int paranoid = 2;
  uint64_t mlock_kb = 516;                         // perf_event_mlock_kb, a CPU
  uint64_t memlock_bytes = uint64_t{8} << 20;      // RLIMIT_MEMLOCK
  bool cap_perfmon = false, cap_ipc_lock = false;  // ours
};

/// What `cat` would show on it. The folder goes with this.
class PtMachineFiles {
 public:
  explicit PtMachineFiles(const PtMachine& machine);
  capture::MachineRoots roots() const;
  /// What the kernel grants, of another machine. Quicker than new files.
  void grant(const PtMachine& machine) const;
  /// path: as in "sys/devices/system/cpu/online".
  void write(const std::string& path, const std::string& text) const;
  void remove(const std::string& path) const;

 private:
  std::unique_ptr<ScratchFolder> folder_;
};

}  // namespace hindcast::test
