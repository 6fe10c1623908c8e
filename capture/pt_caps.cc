// What this machine's CPU and kernel can trace, as the kernel's intel_pt PMU describes itself in sysfs.
#include "capture/pt_caps.h"

#include <bit>
#include <limits>
#include <vector>

#include <cpuid.h>
#include <dirent.h>

#include "capture/text_file.h"

namespace hindcast::capture {

namespace {

std::vector<std::string> file_names(const std::string& directory) {
  std::vector<std::string> names;
  DIR* dir = ::opendir(directory.c_str());
  if (!dir) return names;
  while (const dirent* e = ::readdir(dir))
    if (e->d_name[0] != '.') names.push_back(e->d_name);
  ::closedir(dir);
  return names;
}

std::optional<uint64_t> read_number(const std::string& path, int base) {
  const auto text = read_text_file(path, 64);
  return text ? parse_number(trimmed(*text), base) : std::nullopt;
}

/// A CPUID.15H as the CPU tells it; the SDM allows each of the three to be 0 (not enumerated).
void add_cpuid_ratio(PtCpu& cpu) {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (!__get_cpuid_count(0x15, 0, &eax, &ebx, &ecx, &edx)) return;
  if (!cpu.tsc_ctc_num && eax && ebx) {
    cpu.tsc_ctc_num = ebx;
    cpu.tsc_ctc_den = eax;
  }
  cpu.ctc_hz = ecx;
}

}  // namespace

std::optional<uint64_t> PmuField::place(uint64_t value) const {
  uint64_t out = 0, rest = mask;
  while (value != 0) {
    if (rest == 0) return std::nullopt;
    const uint64_t bit = rest & -rest;
    rest ^= bit;
    if (value & 1) out |= bit;
    value >>= 1;
  }
  return out;
}

std::optional<PmuField> parse_pmu_field(std::string_view text) {
  const std::string line = trimmed(text);
  std::string_view rest = line;
  PmuField f;
  const size_t colon = rest.find(':');
  if (colon == std::string_view::npos) return std::nullopt;
  const std::string_view word = rest.substr(0, colon);
  if (word == "config")
    f.word = PmuField::WordName::config;
  else if (word == "config1")
    f.word = PmuField::WordName::config1;
  else if (word == "config2")
    f.word = PmuField::WordName::config2;
  else
    return std::nullopt;
  rest.remove_prefix(colon + 1);
  for (;;) {
    const auto first = take_number(rest, 10);
    auto last = first;
    if (!rest.empty() && rest.front() == '-') {
      rest.remove_prefix(1);
      last = take_number(rest, 10);
    }
    if (!first || !last || *last < *first || *last > 63) return std::nullopt;
    for (uint64_t bit = *first; bit <= *last; bit++) {
      if (f.mask >> bit & 1) return std::nullopt;
      f.mask |= uint64_t{1} << bit;
    }
    if (rest.empty()) return f;
    if (rest.front() != ',') return std::nullopt;
    rest.remove_prefix(1);
  }
}

Result<PtPmu> read_pt_pmu(const MachineRoots& roots) {
  const std::string dir = roots.sys + "/bus/event_source/devices/intel_pt";
  const auto type_text = read_text_file(dir + "/type", 64);
  if (!type_text) {
    return Error{Errc::unavailable, "no Intel PT here: the kernel has no intel_pt PMU",
                 dir +
                     " is missing; it needs an Intel CPU from 2015 or later (a virtual machine only when its host "
                     "passes PT through) and a kernel with CONFIG_PERF_EVENTS",
                 "use --source simulated, or a machine with Intel PT"};
  }
  PtPmu pmu;
  const auto type = parse_number(trimmed(*type_text), 10);
  if (!type || *type > UINT32_MAX)
    return Error{Errc::bad_input, "cannot read " + dir + "/type: \"" + trimmed(*type_text) + "\" is no number", {}, {}};
  pmu.type = static_cast<uint32_t>(*type);
  for (const std::string& name : file_names(dir + "/format")) {
    const auto text = read_text_file(dir + "/format/" + name, 256);
    const auto field = text ? parse_pmu_field(*text) : std::nullopt;
    if (!field)
      return Error{Errc::bad_input,
                   "cannot read " + dir + "/format/" + name,
                   text ? "\"" + trimmed(*text) + "\"" : text.error().what,
                   {}};
    pmu.format[name] = *field;
  }
  for (const std::string& name : file_names(dir + "/caps"))
    if (const auto value = read_number(dir + "/caps/" + name, 16)) pmu.caps[name] = *value;
  pmu.max_nonturbo_ratio = read_number(dir + "/max_nonturbo_ratio", 10);
  pmu.nr_addr_filters = read_number(dir + "/nr_addr_filters", 10);
  if (const auto text = read_text_file(dir + "/tsc_art_ratio", 64)) {
    std::string ratio = trimmed(*text);
    std::string_view rest = ratio;
    const auto num = take_number(rest, 10);
    if (num && !rest.empty() && rest.front() == ':') {
      rest.remove_prefix(1);
      const auto den = parse_number(rest, 10);
      if (den && *num <= UINT32_MAX && *den <= UINT32_MAX && *den)
        pmu.tsc_art_ratio = {static_cast<uint32_t>(*num), static_cast<uint32_t>(*den)};
    }
  }
  return pmu;
}

Result<uint64_t> pt_config_bits(const PtPmu& pmu, const PtOptions& o) {
  struct Setting {
    const char* name;
    uint64_t value;
    const char* values_cap;  // the caps file that lists the legal values, one bit each
    const char* needs_cap;   // the caps file that must not be 0 for a value other than 0
  };
  const Setting settings[] = {
      {"pt", o.pt, nullptr, nullptr},
      {"branch", o.branch, nullptr, nullptr},
      {"tsc", o.tsc, nullptr, nullptr},
      {"mtc", o.mtc, nullptr, "mtc"},
      {"mtc_period", o.mtc ? o.mtc_period : uint64_t{0}, "mtc_periods", nullptr},
      {"cyc", o.cyc, nullptr, "psb_cyc"},
      {"cyc_thresh", o.cyc ? o.cyc_thresh : uint64_t{0}, "cycle_thresholds", nullptr},
      {"psb_period", o.psb_period, "psb_periods", "psb_cyc"},
      {"noretcomp", o.noretcomp, nullptr, nullptr},
      {"ptw", o.ptw, nullptr, "ptwrite"},
      {"fup_on_ptw", o.fup_on_ptw, nullptr, "ptwrite"},
      {"pwr_evt", o.pwr_evt, nullptr, "power_event_trace"},
      {"event", o.event, nullptr, "event_trace"},
      {"notnt", o.notnt, nullptr, "tnt_disable"},
  };
  const auto refuse = [&](const std::string& what, const std::string& found) {
    return Error{Errc::unsupported, "this CPU cannot trace with " + what, found,
                 "change --pt; `hindcast doctor` lists what the CPU can do"};
  };
  uint64_t config = 0;
  for (const Setting& s : settings) {
    // a period of 0 is a value like others, and the driver looks it up, too
    if (s.value == 0 && !(o.mtc && std::string_view(s.name) == "mtc_period")) continue;
    const std::string text = std::string(s.name) + "=" + std::to_string(s.value);
    const auto field = pmu.format.find(s.name);
    // kernels before 4.15 have no "pt" and "branch": both are always on there
    if (field == pmu.format.end() && (std::string_view(s.name) == "pt" || std::string_view(s.name) == "branch"))
      continue;
    if (field == pmu.format.end()) return refuse(text, "no intel_pt/format/" + std::string(s.name));
    if (s.needs_cap && pmu.caps.count(s.needs_cap) && pmu.cap(s.needs_cap) == 0)
      return refuse(text, "intel_pt/caps/" + std::string(s.needs_cap) + " = 0");
    if (s.values_cap && pmu.caps.count(s.values_cap) && !(s.value < 64 && pmu.cap(s.values_cap) >> s.value & 1)) {
      std::string legal;
      for (int v = 0; v < 64; v++)
        if (pmu.cap(s.values_cap) >> v & 1) legal += (legal.empty() ? "" : ",") + std::to_string(v);
      return refuse(text, "it offers " + std::string(s.name) + " = " + (legal.empty() ? "none" : legal));
    }
    const auto bits = field->second.place(s.value);
    if (!bits || field->second.word != PmuField::WordName::config) return refuse(text, "its field is too small");
    config |= *bits;
  }
  return config;
}

PtOptions fit_pt_options(const PtPmu& pmu, std::vector<std::string>& notes) {
  PtOptions o;
  const auto lacks = [&pmu](const char* cap) { return pmu.caps.count(cap) && pmu.cap(cap) == 0; };
  if (!pmu.format.count("mtc") || lacks("mtc")) {
    o.mtc = false;
    notes.push_back("this CPU has no MTC packets: times between TSC packets are wide");
  } else if (pmu.caps.count("mtc_periods") && !(pmu.cap("mtc_periods") >> o.mtc_period & 1)) {
    const uint64_t offered = pmu.cap("mtc_periods");
    const int largest_below = std::bit_width(offered & ((uint64_t{1} << o.mtc_period) - 1)) - 1;
    o.mtc_period = static_cast<uint8_t>(largest_below >= 0 ? largest_below : std::countr_zero(offered | 1u << 15));
    notes.push_back("this CPU has no mtc_period=3: tracing with mtc_period=" + std::to_string(o.mtc_period));
  }
  const bool no_periods = !pmu.format.count("psb_period") || lacks("psb_cyc");
  if (no_periods || (pmu.caps.count("psb_periods") && !(pmu.cap("psb_periods") >> o.psb_period & 1))) {
    o.psb_period = 0;
    notes.push_back("this CPU has no psb_period=3: its PSB packets come as often as it chooses");
  }
  return o;
}

Result<PtCpu> read_pt_cpu(const MachineRoots& roots, const PtPmu* pmu) {
  HC_TRY(const std::string text, read_text_file(roots.proc + "/cpuinfo", size_t{16} << 20));
  PtCpu cpu;
  cpu.intel = false;
  bool any = false;
  for (size_t at = 0; at < text.size();) {
    size_t end = text.find('\n', at);
    if (end == std::string::npos) end = text.size();
    const std::string_view line = std::string_view(text).substr(at, end - at);
    at = end + 1;
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos) {
      if (any) break;  // the blank line after the first CPU
      continue;
    }
    const std::string key = trimmed(line.substr(0, colon)), value = trimmed(line.substr(colon + 1));
    const uint64_t number = parse_number(value, 10).value_or(0);
    if (key == "vendor_id") cpu.intel = value == "GenuineIntel";
    if (key == "cpu family") {
      cpu.family = static_cast<uint16_t>(number);
      any = true;
    }
    if (key == "model") cpu.model = static_cast<uint8_t>(number);
    if (key == "stepping") cpu.stepping = static_cast<uint8_t>(number);
  }
  if (!any)
    return Error{Errc::bad_input, "cannot tell which CPU this is: " + roots.proc + "/cpuinfo names none", {}, {}};
  if (pmu && pmu->tsc_art_ratio) {
    cpu.tsc_ctc_num = pmu->tsc_art_ratio->first;
    cpu.tsc_ctc_den = pmu->tsc_art_ratio->second;
  }
  if (pmu && pmu->max_nonturbo_ratio && *pmu->max_nonturbo_ratio <= 255)
    cpu.nominal_ratio = static_cast<uint8_t>(*pmu->max_nonturbo_ratio);
  if (pmu) add_cpuid_ratio(cpu);
  return cpu;
}

}  // namespace hindcast::capture
