#include "tests/support/pt_machine.h"

#include <linux/capability.h>

#include <filesystem>
#include <fstream>

namespace hindcast::test {
namespace {

std::string hex(uint64_t v) {
  char text[24];
  std::snprintf(text, sizeof text, "%llx", static_cast<unsigned long long>(v));
  return text;
}

}  // namespace

PtMachineFiles::PtMachineFiles(const PtMachine& m) : folder_(std::make_unique<ScratchFolder>()) {
  const std::string pmu = "sys/bus/event_source/devices/intel_pt/";
  if (m.pmu) {
    const std::pair<const char*, const char*> files[] = {{"type", "8\n"},
                                                         {"format/pt", "config:0\n"},
                                                         {"format/cyc", "config:1\n"},
                                                         {"format/pwr_evt", "config:4\n"},
                                                         {"format/fup_on_ptw", "config:5\n"},
                                                         {"format/mtc", "config:9\n"},
                                                         {"format/tsc", "config:10\n"},
                                                         {"format/noretcomp", "config:11\n"},
                                                         {"format/ptw", "config:12\n"},
                                                         {"format/branch", "config:13\n"},
                                                         {"format/mtc_period", "config:14-17\n"},
                                                         {"format/cyc_thresh", "config:19-22\n"},
                                                         {"format/psb_period", "config:24-27\n"},
                                                         {"max_nonturbo_ratio", "34\n"},
                                                         {"tsc_art_ratio", "284:2\n"},
                                                         {"nr_addr_filters", "2\n"}};
    for (const auto& [name, text] : files) write(pmu + name, text);
    for (const auto& [name, value] : m.caps) write(pmu + "caps/" + name, hex(value) + "\n");
  }
  write("proc/cpuinfo",
        "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 94\nmodel name\t: x\n"
        "stepping\t: 3\n\nprocessor\t: 1\nvendor_id\t: GenuineIntel\ncpu family\t: 7\n");
  write("sys/devices/system/cpu/online", m.cpus == 1 ? "0\n" : "0-" + std::to_string(m.cpus - 1) + "\n");
  grant(m);
}

void PtMachineFiles::grant(const PtMachine& m) const {
  write("proc/sys/kernel/perf_event_paranoid", std::to_string(m.paranoid) + "\n");
  write("proc/sys/kernel/perf_event_mlock_kb", std::to_string(m.mlock_kb) + "\n");
  const uint64_t held = (m.cap_perfmon ? uint64_t{1} << CAP_PERFMON : 0) | (m.cap_ipc_lock ? 1u << CAP_IPC_LOCK : 0u);
  write("proc/self/status", "Name:\thindcastd\nCapEff:\t" + hex(held) + "\n");
  const std::string limit = std::to_string(m.memlock_bytes);
  write("proc/self/limits",
        "Limit                     Soft Limit           Hard Limit           Units     \n"
        "Max open files            1024                 1048576              files     \n"
        "Max locked memory         " +
            limit + "  " + limit + "  bytes     \n");
}

capture::MachineRoots PtMachineFiles::roots() const { return {folder_->path() + "/sys", folder_->path() + "/proc"}; }

void PtMachineFiles::write(const std::string& path, const std::string& text) const {
  const std::filesystem::path full = folder_->path() + "/" + path;
  std::filesystem::create_directories(full.parent_path());
  std::ofstream(full, std::ios::binary) << text;
}

void PtMachineFiles::remove(const std::string& path) const {
  std::filesystem::remove_all(folder_->path() + "/" + path);
}

}  // namespace hindcast::test
