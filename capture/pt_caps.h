// What this machine's CPU and kernel can trace, as the kernel's intel_pt PMU describes itself in sysfs.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "hindcast/pt_config.h"

namespace hindcast::capture {

/// Where the two file systems are; tests put copies in their place.
struct MachineRoots {
  std::string sys = "/sys";
  std::string proc = "/proc";
};

/// One file of a PMU's format/ directory: which bits of which attr word an option fills, low bits first.
struct PmuField {
  enum class WordName : uint8_t { config, config1, config2 } word = WordName::config;
  uint64_t mask = 0;

  /// value spread over the mask's bits; none when it does not fit.
  std::optional<uint64_t> place(uint64_t value) const;
};

/// "config:1", "config:14-17", "config1:0-3,8". None when it breaks the format or names a bit twice.
std::optional<PmuField> parse_pmu_field(std::string_view text);

/// The intel_pt PMU.
struct PtPmu {
  uint32_t type = 0;                       // for perf_event_attr.type
  std::map<std::string, PmuField> format;  // by option name
  std::map<std::string, uint64_t> caps;    // by name; the files are hexadecimal without 0x
  std::optional<uint64_t> max_nonturbo_ratio;
  std::optional<std::pair<uint32_t, uint32_t>> tsc_art_ratio;  // CPUID.15H EBX : EAX
  std::optional<uint64_t> nr_addr_filters;

  uint64_t cap(const std::string& name) const {
    const auto it = caps.find(name);
    return it == caps.end() ? 0 : it->second;
  }
};

/// Errors: unavailable when there is no such PMU, bad_input when its files make no sense.
Result<PtPmu> read_pt_pmu(const MachineRoots& roots);

/// attr.config for these options. Errors: unsupported with the option that this PMU lacks, or the value that its caps
/// do not list.
Result<uint64_t> pt_config_bits(const PtPmu& pmu, const PtOptions& options);

/// The default options without what this PMU lacks, with a line in notes for each thing left out.
PtOptions fit_pt_options(const PtPmu& pmu, std::vector<std::string>& notes);

/// Who this CPU is, by /proc/cpuinfo, and its timing constants by the PMU and, where that has none, by CPUID.15H.
/// Errors: /proc/cpuinfo cannot be read or names no CPU.
Result<PtCpu> read_pt_cpu(const MachineRoots& roots, const PtPmu* pmu);

}  // namespace hindcast::capture
