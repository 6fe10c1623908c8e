#include "capture/wait_probe.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <vector>

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <waits.skel.h>

namespace hindcast::capture {

namespace {

constexpr ino_t kFirstPidNamespace = 0xeffffffc;  // PROC_PID_INIT_INO: part of the kernel's interface to user space

constexpr BpfNeeds kNeeds{
    "cap_bpf,cap_perfmon",
    "a kernel with CONFIG_BPF_SYSCALL, CONFIG_BPF_EVENTS and CONFIG_DEBUG_INFO_BTF, 5.15 or newer"};

Error refused(int error, const WaitProbeConfig& config, const std::string& what) {
  return bpf_refused(error, config.proc, "cannot record waits and messages: " + what, kNeeds);
}

/// Where the kernel keeps a per-CPU variable, from the begin of these; none when its BTF does not say.
std::optional<int64_t> per_cpu_offset(const btf* types, const char* variable) {
  const int id = btf__find_by_name_kind(types, ".data..percpu", BTF_KIND_DATASEC);
  if (id < 0) return std::nullopt;
  const btf_type* section = btf__type_by_id(types, static_cast<uint32_t>(id));
  const btf_var_secinfo* entries = btf_var_secinfos(section);
  for (int i = 0; i < btf_vlen(section); ++i) {
    const btf_type* type = btf__type_by_id(types, entries[i].type);
    const char* name = type ? btf__name_by_offset(types, type->name_off) : nullptr;
    if (name && std::strcmp(name, variable) == 0) return entries[i].offset;
  }
  return std::nullopt;
}

/// From a CPU's run queue to its preempt_count, or to the pcpu_hot that holds it (kernels 6.2 to 6.13). None: what woke a
/// thread cannot be told from what was interrupted.
std::optional<int64_t> preempt_count_offset() {
  const std::unique_ptr<btf, void (*)(btf*)> types(btf__load_vmlinux_btf(), btf__free);
  if (!types) return std::nullopt;
  const auto queues = per_cpu_offset(types.get(), "runqueues");
  auto count = per_cpu_offset(types.get(), "__preempt_count");
  if (!count) count = per_cpu_offset(types.get(), "pcpu_hot");
  return queues && count ? std::optional(*count - *queues) : std::nullopt;
}

/// How deep a cgroup lies below the first one of its hierarchy. Errors: unavailable where only a part of the hierarchy is
/// mounted here.
Result<uint32_t> cgroup_level(const Cgroup& cgroup) {
  const auto unavailable = [&](const std::string& found, const std::string& fix) {
    return Error{Errc::unavailable, "cannot record waits and messages of cgroup " + cgroup.path(), found, fix};
  };
  struct statfs system {};
  if (::fstatfs(cgroup.fd(), &system) != 0) return errno_error("cannot stat", cgroup.path());
  if (system.f_type != CGROUP2_SUPER_MAGIC)
    return unavailable("it is of cgroup version 1; BPF programs know threads by version 2",
                       "name a cgroup below a mount of type cgroup2");
  struct stat at {};
  if (::fstat(cgroup.fd(), &at) != 0) return errno_error("cannot stat", cgroup.path());
  constexpr uint32_t kDeepest = 256;
  std::string path = ".";
  for (uint32_t level = 0; level < kDeepest; ++level) {
    // Every cgroup but the first has this file.
    if (::faccessat(cgroup.fd(), (path + "/cgroup.events").c_str(), F_OK, 0) != 0) return level;
    path += "/..";
    struct stat above {};
    if (::fstatat(cgroup.fd(), path.c_str(), &above, 0) != 0 || above.st_dev != at.st_dev) break;
  }
  return unavailable("the first cgroup of its hierarchy is not mounted above it (a cgroup namespace?)",
                     "run hindcastd in the host's cgroup namespace");
}

}  // namespace

struct WaitProbe::Impl {
  waits_bpf* programs = nullptr;
  BpfRing ring;
  size_t cpus = 0;

  ~Impl() { waits_bpf::destroy(programs); }
};

WaitProbe::WaitProbe(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
WaitProbe::WaitProbe(WaitProbe&&) noexcept = default;
WaitProbe& WaitProbe::operator=(WaitProbe&&) noexcept = default;
WaitProbe::~WaitProbe() = default;

Result<WaitProbe> WaitProbe::open(const WaitProbeConfig& config) {
  const std::string btf = config.sys + "/kernel/btf/vmlinux";
  if (::access(btf.c_str(), R_OK) != 0)
    return Error{Errc::unavailable, "cannot record waits and messages: the kernel does not describe its structures",
                 btf + ": " + std::strerror(errno), "a kernel with CONFIG_DEBUG_INFO_BTF"};
  struct stat pids {};
  if (::stat((config.proc + "/self/ns/pid").c_str(), &pids) != 0 || pids.st_ino != kFirstPidNamespace)
    return Error{Errc::unavailable, "cannot record waits and messages: hindcastd runs in a pid namespace",
                 "BPF programs tell the process ids of the host, sideband those of this namespace",
                 "run hindcastd in the host's pid namespace"};
  hush_bpf();
  auto impl = std::make_unique<Impl>();
  impl->programs = waits_bpf::open();
  if (!impl->programs) return refused(errno, config, "the BPF programs cannot be opened");
  waits_bpf& programs = *impl->programs;
  impl->cpus = static_cast<size_t>(std::max(libbpf_num_possible_cpus(), 1));
  if (impl->cpus > std::size(programs.bss->dropped))
    return Error{Errc::unavailable,
                 "cannot record waits and messages: this machine may have too many CPUs",
                 std::to_string(impl->cpus) + "; at most " + std::to_string(std::size(programs.bss->dropped)),
                 {}};
  if (config.cgroup) {
    HC_TRY(const uint32_t level, cgroup_level(*config.cgroup));
    struct stat folder {};
    if (::fstat(config.cgroup->fd(), &folder) != 0) return errno_error("cannot stat", config.cgroup->path());
    programs.rodata->by_cgroup = 1;
    programs.rodata->cgroup_id = folder.st_ino;  // of kernfs on a 64-bit machine
    programs.rodata->cgroup_level = level;
  }
  if (const auto at = preempt_count_offset()) {
    programs.rodata->knows_preempt_count = 1;
    programs.rodata->preempt_count_at = *at;
  }
  if (const int e = errno_of(bpf_map__set_max_entries(programs.maps.ring, static_cast<uint32_t>(config.ring_bytes))))
    return refused(e, config, "the ring cannot have " + std::to_string(config.ring_bytes) + " bytes");
  if (const int e = errno_of(waits_bpf::load(impl->programs)))
    return refused(e, config, "the kernel refuses the BPF programs");
  if (const int e = impl->ring.open(bpf_map__fd(programs.maps.ring), config.ring_bytes))
    return refused(e, config, "the ring cannot be mapped");
  if (const int e = errno_of(waits_bpf::attach(impl->programs)))
    return refused(e, config, "the BPF programs cannot be attached");
  return WaitProbe(std::move(impl));
}

Result<void> WaitProbe::follow(const Fd& pidfd) {
  const bpf_map* threads = impl_->programs->maps.threads;
  const std::vector<uint8_t> nothing(bpf_map__value_size(threads));
  const int fd = pidfd.get();
  if (bpf_map__update_elem(threads, &fd, sizeof fd, nothing.data(), nothing.size(), BPF_ANY) != 0)
    return errno_error("cannot follow", "a process with BPF programs");
  return {};
}

void WaitProbe::drain(const std::function<void(ByteSpan)>& sink) { impl_->ring.drain(sink); }

void WaitProbe::detach() { waits_bpf::detach(impl_->programs); }

std::span<const uint64_t> WaitProbe::dropped() const {
  return {reinterpret_cast<const uint64_t*>(impl_->programs->bss->dropped), impl_->cpus};
}

uint64_t WaitProbe::missed() const { return cost_of(impl_->programs->obj).missed; }

BpfCost WaitProbe::cost() const { return cost_of(impl_->programs->obj); }

}  // namespace hindcast::capture
