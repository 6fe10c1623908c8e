// `hindcastd --doctor`: each ability that capture can use, whether it is there, and what to do when it is not.
#include "capture/doctor.h"

#include <cstring>

#include <linux/capability.h>
#include <sys/statfs.h>
#include <nlohmann/json.hpp>

#include "capture/kcore.h"
#include "capture/kernel_symbols.h"
#include "capture/net_tap.h"
#include "capture/privilege.h"
#include "capture/proc_identity.h"
#include "capture/sideband.h"
#include "capture/sim_files.h"
#include "capture/text_file.h"
#include "capture/wait_probe.h"
#include "capture/words.h"

namespace hindcast::capture {

namespace {

// PROC_CGROUP_INIT_INO, PROC_PID_INIT_INO: part of the kernel's interface to user space
constexpr uint64_t kFirstCgroupNamespace = 0xeffffffb, kFirstPidNamespace = 0xeffffffc;

#ifndef CAP_CHECKPOINT_RESTORE
#define CAP_CHECKPOINT_RESTORE 40
#endif

std::string file_or(const std::string& path, const std::string& otherwise) {
  const auto text = read_text_file(path, 4096);
  return text ? trimmed(*text) : otherwise;
}

/// The words of a list, so that a text stays on one line.
std::string joined(const std::vector<std::string>& words) {
  std::string s;
  for (const std::string& w : words) s += (s.empty() ? "" : " ") + w;
  return s;
}

class Doctor {
 public:
  explicit Doctor(const DoctorConfig& config)
      : config_(config), calls_(config.calls ? *config.calls : kernel_perf_calls()) {}

  Diagnosis run() {
    const bool sideband = look_at_sideband();
    const bool pt = look_at_pt();
    if (pt) look_at_kernel_code();
    look_at_limits();
    look_at_capabilities();
    look_at_tracing_files();
    look_at_identities();
    look_at_waits();
    look_at_net();
    const bool simulator = look_at_simulator();
    out_.perf_source = pt && sideband;
    out_.simulated_source = simulator && sideband;
    return std::move(out_);
  }

 private:
  Ability& add(std::string name, AbilityState state, std::string found, std::string needed = {},
               std::string consequence = {}, std::string fix = {}) {
    if (state == AbilityState::ok) consequence = fix = "";
    return out_.abilities.emplace_back(
        Ability{std::move(name), state, std::move(found), std::move(needed), std::move(consequence), std::move(fix)});
  }

  bool look_at_sideband() {
    const auto cpus = online_cpus(config_.roots.sys);
    if (!cpus) {
      add("online CPUs", AbilityState::missing, cpus.error().what, "a readable list", "nothing can be recorded",
          "mount -t sysfs sysfs /sys");
      return false;
    }
    // really opened, on every CPU: settings alone do not tell what a container or a security module forbids
    std::vector<std::string> refused;
    SidebandConfig sideband;
    sideband.cpus = *cpus;
    sideband.ring_bytes = size_t{64} << 10;
    const auto opened = Sideband::open(calls_, sideband, refused);
    if (!opened) {
      add("context switches and mappings (perf software events)", AbilityState::missing, opened.error().what,
          "perf_event_open on every CPU", "nothing can be recorded: which thread ran what stays unknown",
          opened.error().fix.empty() ? opened.error().found : opened.error().fix);
      return false;
    }
    const std::string found = "opened on " + std::to_string(cpus->size()) + " CPUs";
    if (refused.empty())
      add("context switches and mappings (perf software events)", AbilityState::ok, found);
    else
      add("context switches and mappings (perf software events)", AbilityState::degraded, found,
          "every kind of sideband record", joined(refused), "a newer kernel");
    return true;
  }

  bool look_at_pt() {
    const auto pmu = read_pt_pmu(config_.roots);
    if (!pmu) {
      add("Intel PT (intel_pt PMU)", AbilityState::missing, pmu.error().found, "an Intel CPU with PT",
          "--source perf does not work; --source simulated does", pmu.error().fix);
      return false;
    }
    std::vector<std::string> options, caps;
    for (const auto& [name, field] : pmu->format) options.push_back(name);
    for (const auto& [name, value] : pmu->caps) {
      char text[40];
      std::snprintf(text, sizeof text, "=0x%llx", static_cast<unsigned long long>(value));
      caps.push_back(name + text);
    }
    const auto bits = pt_config_bits(*pmu, PtOptions{});
    add("Intel PT (intel_pt PMU)", bits ? AbilityState::ok : AbilityState::degraded,
        "type " + std::to_string(pmu->type) + "; options: " + joined(options) + "; caps: " + joined(caps),
        "pt, branch, tsc, mtc", bits ? "" : bits.error().what + ": " + bits.error().found, "choose other --pt options");
    const bool ratio = pmu->tsc_art_ratio.has_value() || read_pt_cpu(config_.roots, &*pmu).ok();
    add("timing constants (max_nonturbo_ratio, tsc_art_ratio)",
        pmu->max_nonturbo_ratio && pmu->tsc_art_ratio ? AbilityState::ok : AbilityState::degraded,
        "max_nonturbo_ratio " + (pmu->max_nonturbo_ratio ? std::to_string(*pmu->max_nonturbo_ratio) : "unknown") +
            ", tsc_art_ratio " +
            (pmu->tsc_art_ratio
                 ? std::to_string(pmu->tsc_art_ratio->first) + ":" + std::to_string(pmu->tsc_art_ratio->second)
             : ratio ? "by CPUID"
                     : "unknown"),
        "both", "times between TSC packets are wider", "");
    return true;
  }

  /// What a trace of the kernel needs besides PT: without it the trace is the same, and its reader knows less.
  void look_at_kernel_code() {
    const auto row = [this](const std::string& name, const std::string& found, const std::string& consequence,
                            const Error* error) {
      if (!error)
        add(name, AbilityState::ok, found);
      else
        add(name, AbilityState::degraded, error->what + (error->found.empty() ? "" : ": " + error->found), "readable",
            consequence, error->fix);
    };
    const std::string gaps = "with --kernel, what they ran shows as gaps of cause image_missing";
    const auto core = Kcore::open(config_.roots.proc, config_.roots.sys);
    row("kernel code (/proc/kcore)", core ? std::to_string(core->segments().size()) + " segments" : "",
        "with --kernel, what the kernel and its modules ran shows as gaps of cause image_missing",
        core ? nullptr : &core.error());
    const auto symbols = KernelSymbols::read(config_.roots.proc);
    row("kernel names and addresses (/proc/kallsyms)",
        symbols ? human_bytes(symbols->lines().size()) + " of functions" : "",
        "with --kernel, the kernel's functions have no names, and its code is not found",
        symbols ? nullptr : &symbols.error());
    const auto modules = read_modules(config_.roots.proc);
    const bool none = !modules && modules.error().code == Errc::unavailable && symbols && !symbols->has_modules();
    row("kernel modules (/proc/modules)",
        none      ? "none"
        : modules ? std::to_string(modules->size()) + " loaded"
                  : "",
        gaps, none || modules ? nullptr : &modules.error());
    JitedPrograms& programs = config_.programs ? *config_.programs : kernel_programs();
    const auto ids = programs.ids();
    std::optional<Error> refused;
    if (!ids)
      refused = ids.error();
    else if (!ids->empty())
      if (const auto program = programs.read(ids->front()); !program) refused = program.error();
    row("code of BPF programs (bpf(2))", ids ? std::to_string(ids->size()) + " programs" : "", gaps,
        refused ? &*refused : nullptr);
  }

  void look_at_limits() {
    const std::string proc = config_.roots.proc + "/sys/kernel/";
    const std::string paranoid = file_or(proc + "perf_event_paranoid", "unreadable");
    const bool perfmon = has_capability(CAP_PERFMON) || has_capability(CAP_SYS_ADMIN);
    const std::optional<int> level = perf_paranoid(config_.roots.proc);
    add("perf_event_paranoid", perfmon || (level && *level <= 0) ? AbilityState::ok : AbilityState::missing,
        paranoid + (perfmon ? " (CAP_PERFMON overrides it)" : ""), "0 or less, or CAP_PERFMON",
        std::string("whole CPUs cannot be traced") +
            (level && *level <= 1 ? "" : ", nor can the kernel (--kernel), which needs 1 or less"),
        "sysctl kernel.perf_event_paranoid=0");
    const auto cpus = online_cpus(config_.roots.sys);
    const size_t count = cpus ? cpus->size() : 1;
    const RingMemory memory = ring_memory(config_.roots.proc, count);
    add("locked memory", memory.limited ? AbilityState::degraded : AbilityState::ok,
        memory.text + (memory.limited ? ": " + human_bytes(memory.bytes / count) + " for each CPU" : std::string()),
        "CAP_IPC_LOCK, or limits above the ring sizes", "rings must be small: the window is short (--ring auto)",
        "setcap cap_perfmon,cap_ipc_lock+ep HINDCASTD, or ulimit -l unlimited");
  }

  bool has_capability(int number) const { return capture::has_capability(config_.roots.proc, number); }

  void look_at_capabilities() {
    struct Row {
      int number;
      const char* name;
      bool admin_implies;  // CAP_SYS_ADMIN grants the same
      const char* consequence;
    };
    constexpr Row kRows[] = {
        {CAP_PERFMON, "CAP_PERFMON", true, "system-wide and kernel tracing depend on perf_event_paranoid"},
        {CAP_SYS_ADMIN, "CAP_SYS_ADMIN", false,
         "deleted programs of others cannot be read through /proc/PID/map_files (CAP_CHECKPOINT_RESTORE does, too)"},
        {CAP_IPC_LOCK, "CAP_IPC_LOCK", false, "ring sizes are limited by perf_event_mlock_kb"},
        {CAP_BPF, "CAP_BPF", true, "waits and wake-ups are not recorded"},
        {CAP_NET_ADMIN, "CAP_NET_ADMIN", false, "network messages are not recorded"},
        {CAP_SYS_PTRACE, "CAP_SYS_PTRACE", false,
         "memory and mappings of other users' processes cannot be read, nor code that they make at run time"},
        {CAP_DAC_READ_SEARCH, "CAP_DAC_READ_SEARCH", false, "programs that only their owner may read are missing"},
        {CAP_SYSLOG, "CAP_SYSLOG", false, "kernel symbols have no addresses"},
    };
    const bool admin = has_capability(CAP_SYS_ADMIN);
    for (const Row& r : kRows) {
      const bool have = has_capability(r.number);
      std::string lower(r.name);
      for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
      add(r.name, have || (r.admin_implies && admin) ? AbilityState::ok : AbilityState::degraded,
          have                       ? "held"
          : r.admin_implies && admin ? "held by way of CAP_SYS_ADMIN"
                                     : "not held",
          "held", r.consequence, "run as root, or: setcap " + lower + "+ep HINDCASTD");
    }
  }

  void look_at_tracing_files() {
    const std::string tracefs = config_.roots.sys + "/kernel/tracing";
    const bool mounted = ::access((tracefs + "/events").c_str(), F_OK) == 0;
    add("tracefs", mounted ? AbilityState::ok : AbilityState::degraded, mounted ? tracefs : tracefs + " is empty",
        "mounted and readable", "tracepoints (waits, wake-ups) cannot be found by name",
        "mount -t tracefs tracefs " + tracefs);
    const std::string btf = config_.roots.sys + "/kernel/btf/vmlinux";
    const bool there = ::access(btf.c_str(), R_OK) == 0;
    add("BTF", there ? AbilityState::ok : AbilityState::degraded, there ? btf : btf + " is missing", "readable",
        "BPF programs cannot read kernel structures: no waits and wake-ups", "a kernel with CONFIG_DEBUG_INFO_BTF");
  }

  /// Of ourselves: what it shows of us it shows of others, but for what CAP_SYS_PTRACE is for.
  void look_at_identities() {
    const std::string name = "cgroups and namespaces of threads";
    const std::string needed = "a readable /proc, and the host's cgroup namespace and pid namespace";
    const Pid self(::getpid());
    const auto folder = ThreadFolder::open(config_.roots.proc, self, Tid(self.value()));
    const auto text = folder ? folder->cgroup_text() : Result<std::string>(folder.error());
    if (!text) {
      add(name, AbilityState::degraded, text.error().what, needed,
          "which container, pod or service a thread belongs to is not known", "mount -t proc proc /proc");
      return;
    }
    const bool version_2 = text->starts_with("0::") || text->find("\n0::") != std::string::npos;
    const auto lines = std::count(text->begin(), text->end(), '\n');
    std::string found = version_2 ? "version 2" : "no cgroups of version 2";
    if (const auto others = lines - (version_2 ? 1 : 0); others > 0)
      found += (version_2 ? " and " : ", ") + std::to_string(others) + " hierarchies of version 1";
    bool refused = false;  // never: they are our own
    const identity::Namespaces ours = folder->namespaces(refused);
    const auto elsewhere = [&](identity::NamespaceKind kind, uint64_t first) {
      return ours[kind].known() && ours[kind].inode != first;
    };
    std::string within, consequence;
    if (elsewhere(identity::kCgroup, kFirstCgroupNamespace)) {
      within += ", in a cgroup namespace";
      consequence = "paths of cgroups begin at hindcastd's own (\"/../x\" for what is beside it)";
    }
    if (elsewhere(identity::kPid, kFirstPidNamespace)) {
      within += ", in a pid namespace";
      consequence += std::string(consequence.empty() ? "" : "; ") + "threads outside of it are not seen";
    }
    add(name, consequence.empty() ? AbilityState::ok : AbilityState::degraded, found + within, needed, consequence,
        "run hindcastd in the host's namespaces (a container: --pid=host --cgroupns=host)");
  }

  void look_at_waits() {
    // really loaded and attached, like sideband: for a moment, and following nobody
    WaitProbeConfig probe;
    probe.ring_bytes = size_t{64} << 10;
    probe.sys = config_.roots.sys;
    probe.proc = config_.roots.proc;
    const auto opened = WaitProbe::open(probe);
    const std::string name = "waits, wakes and messages (BPF programs)";
    if (opened)
      add(name, AbilityState::ok, "loaded and attached");
    else
      add(name, AbilityState::degraded, opened.error().what + ": " + opened.error().found,
          "CAP_BPF and CAP_PERFMON, BTF, a ring buffer (Linux 5.15)",
          "who waited for what, who woke whom and which message was whose is not recorded; all else is",
          opened.error().fix);
  }

  void look_at_net() {
    NetTapConfig tap;
    tap.ring_bytes = size_t{64} << 10;
    tap.proc = config_.roots.proc;
    const auto loaded = NetTap::can_load(tap);
    const std::string name = "packets on network interfaces (BPF programs)";
    if (loaded)
      add(name, AbilityState::ok, "loaded; attached only when asked for (--net on)");
    else
      add(name, AbilityState::degraded, loaded.error().what + ": " + loaded.error().found,
          "CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN, XDP and tc with bpf_xdp_load_bytes (Linux 5.18)",
          "which packets went between hosts is not recorded; all else is", loaded.error().fix);
  }

  bool look_at_simulator() {
    const std::string version =
        config_.qemu.empty() || !config_.version_of ? "" : version_in(config_.version_of(config_.qemu));
    const bool right = version.rfind("7.2", 0) == 0;
    const bool usable = !config_.qemu.empty() && !version.empty();
    add("simulator: qemu-x86_64",
        right    ? AbilityState::ok
        : usable ? AbilityState::degraded
                 : AbilityState::missing,
        config_.qemu.empty() ? "not in PATH" : config_.qemu + " version " + (version.empty() ? "unknown" : version),
        "QEMU user emulation 7.2 with TCG plugins",
        usable ? "this version was never tried with the plugin" : "--source simulated does not work",
        "apt-get install qemu-user");
    const bool plugin = !config_.plugin.empty() && ::access(config_.plugin.c_str(), R_OK) == 0;
    add("simulator: plugin", plugin ? AbilityState::ok : AbilityState::missing,
        plugin ? config_.plugin : "hindcast-sim.so is neither beside hindcastd nor in ../lib", "readable",
        "--source simulated does not work", "build the target hindcast_sim_plugin, or set HINDCAST_SIM_PLUGIN");
    const std::string source =
        file_or(config_.roots.sys + "/devices/system/clocksource/clocksource0/current_clocksource", "unreadable");
    const bool tsc = source == "tsc";
    add("clock source", tsc ? AbilityState::ok : AbilityState::degraded, source, "tsc",
        "simulated traces: record times are no exact function of the TSC, so threads are told apart less sharply",
        "boot with clocksource=tsc");
    return usable && plugin;
  }

  const DoctorConfig& config_;
  PerfCalls& calls_;
  Diagnosis out_;
};

const char* word(AbilityState s) {
  switch (s) {
    case AbilityState::ok:
      return "ok";
    case AbilityState::degraded:
      return "degraded";
    case AbilityState::missing:
      return "missing";
  }
  return "?";
}

}  // namespace

std::string version_in(const std::string& line) {
  const size_t at = line.find("version ");
  if (at == std::string::npos) return {};
  const size_t from = at + 8;
  const size_t end = line.find_first_not_of("0123456789.", from);
  return line.substr(from, end == std::string::npos ? end : end - from);
}

DoctorConfig this_machine() {
  DoctorConfig c;
  c.qemu = find_qemu();
  c.plugin = find_sim_plugin();
  c.version_of = [](const std::string& program) -> std::string { return first_output_line(program, "--version"); };
  return c;
}

Diagnosis diagnose(const DoctorConfig& config) { return Doctor(config).run(); }

std::string to_text(const Diagnosis& diagnosis) {
  std::string out;
  for (const Ability& a : diagnosis.abilities) {
    std::string state = word(a.state);
    state.resize(10, ' ');
    out += state + a.name + "\n            found   " + a.found + "\n";
    if (a.state == AbilityState::ok) continue;
    if (!a.needed.empty()) out += "            needed  " + a.needed + "\n";
    if (!a.consequence.empty()) out += "            so      " + a.consequence + "\n";
    if (!a.fix.empty()) out += "            fix     " + a.fix + "\n";
  }
  out += "\nreal PT (--source perf):             ";
  out += diagnosis.perf_source ? "can record\n" : "cannot record\n";
  out += "simulated PT (--source simulated):   ";
  out += diagnosis.simulated_source ? "can record\n" : "cannot record\n";
  return out;
}

std::string to_json(const Diagnosis& diagnosis) {
  std::string out;
  const auto line = [&](const nlohmann::ordered_json& j) {
    out += j.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  };
  for (const Ability& a : diagnosis.abilities) {
    nlohmann::ordered_json row;
    row["type"] = "ability";
    row["name"] = a.name;
    row["state"] = word(a.state);
    row["found"] = a.found;
    row["needed"] = a.needed;
    row["consequence"] = a.consequence;
    row["fix"] = a.fix;
    line(row);
  }
  line({{"type", "summary"},
        {"can_record", diagnosis.can_record()},
        {"perf", diagnosis.perf_source},
        {"simulated", diagnosis.simulated_source}});
  return out;
}

}  // namespace hindcast::capture
