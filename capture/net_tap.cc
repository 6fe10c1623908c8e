#include "capture/net_tap.h"

#include "capture/bpf/net_owner.h"  // which the skeleton needs

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <optional>

#include <bpf/bpf.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <net.skel.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xdp/libxdp.h>

#include "capture/text_file.h"
#include "capture/words.h"
#include "hindcast/fd.h"

namespace hindcast::capture {

namespace {

constexpr const char* kReceives = "hindcast_net_rx";
constexpr const char* kSends = "hindcast_net_tx";
constexpr const char* kSection = "xdp.frags";
constexpr BpfNeeds kNeeds{"cap_bpf,cap_perfmon,cap_net_admin",
                          "a kernel with CONFIG_XDP_SOCKETS, CONFIG_NET_CLS_BPF and bpf_xdp_load_bytes, 5.18 or newer"};

// Ours is the only filter with its priority: in front of all others, unless these have the first ones.
constexpr uint32_t kHandle = 1, kFirstPriority = 1, kLastPriority = 8;

/// What may be told at once when nothing was for a while.
constexpr uint64_t kBurst = 4096;

/// When a process began, in ticks since boot: with its id, no other process's. None: there is no such process.
std::optional<uint64_t> started(const std::string& folder) {
  const auto stat = read_text_file(folder + "/stat", 4096);
  if (!stat) return std::nullopt;
  size_t at = stat->rfind(')');  // behind the name, which may hold anything
  for (int field = 2; field < 22 && at != std::string::npos; ++field) at = stat->find(' ', at + 1);
  if (at == std::string::npos) return std::nullopt;
  std::string_view rest = std::string_view(*stat).substr(at + 1);
  return take_number(rest, 10);
}

Result<NetOwner> this_process(const std::string& proc) {
  struct stat pids {};
  const auto since = started(proc + "/self");
  if (!since || ::stat((proc + "/self/ns/pid").c_str(), &pids) != 0)
    return Error{Errc::io, "cannot tap the network: " + proc + "/self tells nothing of this process", {}, {}};
  return NetOwner{kNetOwnerMark, static_cast<uint32_t>(::getpid()), static_cast<uint32_t>(pids.st_ino), *since};
}

/// Who attached a program with this id; nothing when it is none of ours.
std::optional<NetOwner> owner_of(uint32_t program, const char* name) {
  const Fd fd(program != 0 ? bpf_prog_get_fd_by_id(program) : -1);
  if (!fd.valid()) return std::nullopt;
  std::array<uint32_t, 16> maps{};
  bpf_prog_info info{};
  uint32_t size = sizeof info;
  info.nr_map_ids = maps.size();
  info.map_ids = reinterpret_cast<uint64_t>(maps.data());
  if (bpf_obj_get_info_by_fd(fd.get(), &info, &size) != 0 || std::strcmp(info.name, name) != 0) return std::nullopt;
  for (const uint32_t id : std::span(maps).first(std::min<size_t>(info.nr_map_ids, maps.size()))) {
    const Fd map(bpf_map_get_fd_by_id(id));
    bpf_map_info about{};
    size = sizeof about;
    if (!map.valid() || bpf_obj_get_info_by_fd(map.get(), &about, &size) != 0) continue;
    if (about.type != BPF_MAP_TYPE_ARRAY || about.key_size != 4 || about.value_size > 4096) continue;
    std::vector<uint8_t> value(about.value_size);
    const uint32_t zero = 0;
    if (bpf_map_lookup_elem(map.get(), &zero, value.data()) != 0) continue;
    for (size_t at = 0; at + sizeof(NetOwner) <= value.size(); at += 8) {
      NetOwner owner;
      std::memcpy(&owner, value.data() + at, sizeof owner);
      if (owner.mark == kNetOwnerMark) return owner;
    }
  }
  return std::nullopt;
}

/// Of another pid namespace nobody here knows: it counts as alive.
bool is_alive(const NetOwner& owner, const NetOwner& us, const std::string& proc) {
  return owner.pid_namespace != us.pid_namespace || started(proc + "/" + std::to_string(owner.pid)) == owner.started;
}

struct EndProgram {
  void operator()(xdp_program* p) const { xdp_program__close(p); }
};
struct EndPrograms {
  void operator()(net_bpf* p) const { net_bpf::destroy(p); }
};
struct EndMultiprog {
  void operator()(xdp_multiprog* p) const { xdp_multiprog__close(p); }
};

using Programs = std::unique_ptr<xdp_multiprog, EndMultiprog>;

/// The program that receives on an interface; 0: none does.
uint32_t attached_to(uint32_t interface) {
  uint32_t id = 0;
  return bpf_xdp_query_id(static_cast<int>(interface), 0, &id) == 0 ? id : 0;
}

/// Takes this program off the interface, unless another one is there by now.
void take_off(uint32_t interface, uint32_t program) {
  const Fd fd(bpf_prog_get_fd_by_id(program));
  bpf_xdp_attach_opts only{};
  only.sz = sizeof only;
  only.old_prog_fd = fd.get();
  bpf_xdp_query_opts there{};
  there.sz = sizeof there;
  const auto index = static_cast<int>(interface);
  if (!fd.valid() || bpf_xdp_query(index, 0, &there) != 0) return;
  bpf_xdp_detach(index, there.skb_prog_id == program ? XDP_FLAGS_SKB_MODE : XDP_FLAGS_DRV_MODE, &only);
}

/// Those that share an interface, when `there` is what libxdp makes for them. Of anything else it must not be asked: 1.3.1
/// then leaves a descriptor open.
Programs programs_of_dispatcher(uint32_t interface, uint32_t there) {
  const Fd fd(there != 0 ? bpf_prog_get_fd_by_id(there) : -1);
  bpf_prog_info info{};
  uint32_t size = sizeof info;
  if (!fd.valid() || bpf_obj_get_info_by_fd(fd.get(), &info, &size) != 0) return nullptr;
  if (std::strcmp(info.name, "xdp_dispatcher") != 0) return nullptr;
  xdp_multiprog* const all = xdp_multiprog__get_from_ifindex(static_cast<int>(interface));
  return Programs(libxdp_get_error(all) ? nullptr : all);
}

bpf_tc_hook egress_of(uint32_t interface) {
  bpf_tc_hook hook{};
  hook.sz = sizeof hook;
  hook.ifindex = static_cast<int>(interface);
  hook.attach_point = BPF_TC_EGRESS;
  return hook;
}
bpf_tc_opts filter_of(uint32_t priority) {
  bpf_tc_opts opts{};
  opts.sz = sizeof opts;
  opts.handle = kHandle;
  opts.priority = priority;
  return opts;
}

std::string not_recorded(const char* what, const NetInterface& interface, const Error& e) {
  return "what " + interface.name + " " + what + " is not recorded: " + in_one_line(e, "it");
}

}  // namespace

struct NetTap::Impl {
  explicit Impl(const NetInterface& i) : interface(i) {}
  ~Impl() {
    if (receives) detach_receive();
    if (priority == 0) return;
    bpf_tc_hook hook = egress_of(interface.index);
    bpf_tc_opts filter = filter_of(priority);
    if (bpf_tc_query(&hook, &filter) != 0 || filter.prog_id != sends_id) return;
    filter = filter_of(priority);
    bpf_tc_detach(&hook, &filter);
  }

  void detach_receive();
  Result<void> remove_stale(const std::string& proc, const NetOwner& us);
  Result<void> prepare(const NetTapConfig& config, const NetOwner& us);
  Result<void> load(const std::string& proc);
  Result<void> attach_receive(const NetTapConfig& config, const NetOwner& us);
  Result<void> attach_send(const std::string& proc);
  Error refused(int error, const std::string& proc, const std::string& what) const {
    return bpf_refused(error, proc, "cannot tap " + interface.name + ": " + what, kNeeds);
  }

  NetInterface interface;
  std::vector<std::string> notes;
  std::unique_ptr<net_bpf, EndPrograms> programs;
  std::unique_ptr<xdp_program, EndProgram> receives;  // when it is attached
  uint32_t priority = 0;                              // of the filter; 0: there is none
  uint32_t sends_id = 0;
  BpfRing ring;
  Mapping counters;  // net_bpf::bss
  size_t cpus = 0;
};

void NetTap::Impl::detach_receive() {
  const uint32_t ours = xdp_program__id(receives.get()), there = attached_to(interface.index);
  if (there == ours)
    take_off(interface.index, ours);
  else if (const Programs all = programs_of_dispatcher(interface.index, there))
    xdp_program__detach(receives.get(), static_cast<int>(interface.index), xdp_multiprog__attach_mode(all.get()), 0);
}

Result<void> NetTap::Impl::remove_stale(const std::string& proc, const NetOwner& us) {
  const auto another = [&](const NetOwner& owner) {
    return Error{Errc::unavailable, "cannot tap " + interface.name + ": another hindcastd does",
                 "process " + std::to_string(owner.pid) +
                     (owner.pid_namespace == us.pid_namespace ? "" : " of another pid namespace"),
                 "let one of them tap it"};
  };
  const uint32_t there = attached_to(interface.index);
  if (const auto owner = owner_of(there, kReceives)) {
    if (is_alive(*owner, us, proc)) return another(*owner);
    take_off(interface.index, there);
  } else if (const Programs all = programs_of_dispatcher(interface.index, there)) {
    for (xdp_program* p = xdp_multiprog__next_prog(nullptr, all.get()); p; p = xdp_multiprog__next_prog(p, all.get())) {
      const auto member = owner_of(xdp_program__id(p), kReceives);
      if (!member) continue;
      if (is_alive(*member, us, proc)) return another(*member);
      xdp_program__detach(p, static_cast<int>(interface.index), xdp_multiprog__attach_mode(all.get()), 0);
      break;  // the list is another one now
    }
  }
  bpf_tc_hook hook = egress_of(interface.index);
  for (uint32_t at = kFirstPriority; at <= kLastPriority; ++at) {
    bpf_tc_opts filter = filter_of(at);
    if (bpf_tc_query(&hook, &filter) != 0) continue;
    const auto owner = owner_of(filter.prog_id, kSends);
    if (!owner) continue;
    if (is_alive(*owner, us, proc)) return another(*owner);
    filter = filter_of(at);
    bpf_tc_detach(&hook, &filter);
  }
  hush_bpf();  // what was not there is no news
  return {};
}

/// All but loading, which libxdp does itself.
Result<void> NetTap::Impl::prepare(const NetTapConfig& config, const NetOwner& us) {
  programs.reset(net_bpf::open());
  if (!programs) return refused(errno, config.proc, "the BPF programs cannot be opened");
  net_bpf& p = *programs;
  cpus = static_cast<size_t>(std::max(libbpf_num_possible_cpus(), 1));
  if (cpus > std::size(p.bss->dropped))
    return Error{Errc::unavailable,
                 "cannot tap the network: this machine may have too many CPUs",
                 std::to_string(cpus) + "; at most " + std::to_string(std::size(p.bss->dropped)),
                 {}};
  std::memcpy(&p.rodata->owner, &us, sizeof us);
  p.rodata->interface = interface.index;
  if (!interface.ethernet) p.rodata->ip_at = 0;
  if (config.most_packets_per_second != 0) {
    p.rodata->ns_per_packet = 1000000000 / config.most_packets_per_second;
    p.rodata->most_ahead_ns = p.rodata->ns_per_packet * kBurst;
  }
  if (const int e = errno_of(bpf_map__set_max_entries(p.maps.ring, static_cast<uint32_t>(config.ring_bytes))))
    return refused(e, config.proc, "the ring cannot have " + std::to_string(config.ring_bytes) + " bytes");
  return {};
}

Result<void> NetTap::Impl::load(const std::string& proc) {
  if (const int e = errno_of(net_bpf::load(programs.get())))
    return refused(e, proc, "the kernel refuses the BPF programs");
  return {};
}

Result<void> NetTap::Impl::attach_receive(const NetTapConfig& config, const NetOwner& us) {
  if (const uint32_t there = attached_to(interface.index);
      there != 0 && !programs_of_dispatcher(interface.index, there))
    return Error{Errc::unavailable, "cannot tap " + interface.name + ": another XDP program is there",
                 "program " + std::to_string(there) + ", which shares the interface with nobody",
                 "load that one through libxdp (xdp-loader), which lets several be there"};
  // Some drivers refuse while a feature is on (virtio_net: GRO_HW); the kernel can do it for them, behind GRO.
  for (const xdp_attach_mode mode : {XDP_MODE_UNSPEC, XDP_MODE_SKB}) {
    HC_TRY_VOID(prepare(config, us));
    xdp_program* const program = xdp_program__from_bpf_obj(programs->obj, kSection);
    if (const long e = libxdp_get_error(program))
      return refused(static_cast<int>(-e), config.proc, "libxdp takes no program");
    receives.reset(program);
    const int e = errno_of(xdp_program__attach(program, static_cast<int>(interface.index), mode, 0));
    if (e == 0) return {};
    receives.reset();
    if (e != EOPNOTSUPP || mode == XDP_MODE_SKB) return refused(e, config.proc, "no XDP program can be attached");
  }
  return {};
}

Result<void> NetTap::Impl::attach_send(const std::string& proc) {
  bpf_tc_hook hook = egress_of(interface.index);
  if (const int e = errno_of(bpf_tc_hook_create(&hook)); e != 0 && e != EEXIST)
    return refused(e, proc, "it takes no clsact qdisc");
  int e = 0;
  for (uint32_t at = kFirstPriority; at <= kLastPriority; ++at) {
    bpf_tc_opts filter = filter_of(at);
    filter.prog_fd = bpf_program__fd(programs->progs.hindcast_net_tx);
    e = errno_of(bpf_tc_attach(&hook, &filter));
    if (e != 0) continue;
    priority = at;
    sends_id = filter.prog_id;
    return {};
  }
  return refused(e, proc, "its egress filters of priority 1 to 8 are all somebody else's");
}

NetTap::NetTap(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
NetTap::NetTap(NetTap&&) noexcept = default;
NetTap& NetTap::operator=(NetTap&&) noexcept = default;
NetTap::~NetTap() = default;

Result<NetTap> NetTap::open(const NetInterface& interface, const NetTapConfig& config) {
  HC_TRY(const NetOwner us, this_process(config.proc));
  hush_bpf();
  auto impl = std::make_unique<Impl>(interface);
  HC_TRY_VOID(impl->remove_stale(config.proc, us));
  const auto receive = impl->attach_receive(config, us);
  if (!receive) {
    impl->notes.push_back(not_recorded("receives", interface, receive.error()));
    HC_TRY_VOID(impl->prepare(config, us));
    bpf_program__set_autoload(impl->programs->progs.hindcast_net_rx, false);
    HC_TRY_VOID(impl->load(config.proc));
  }
  const auto send = impl->attach_send(config.proc);
  if (!send && !receive) return send.error();
  if (!send) impl->notes.push_back(not_recorded("sends", interface, send.error()));
  if (const int e = impl->ring.open(bpf_map__fd(impl->programs->maps.ring), config.ring_bytes))
    return impl->refused(e, config.proc, "the ring cannot be mapped");
  // libxdp loads the object without its skeleton, which then knows only what it was before.
  const Fd counters(::fcntl(bpf_map__fd(impl->programs->maps.bss), F_DUPFD_CLOEXEC, 0));
  if (!counters.valid()) return errno_error("cannot tap", interface.name);
  HC_TRY(impl->counters, Mapping::map(counters, sizeof *impl->programs->bss, PROT_READ, MAP_SHARED));
  return NetTap(std::move(impl));
}

Result<void> NetTap::can_load(const NetTapConfig& config) {
  HC_TRY(const NetOwner us, this_process(config.proc));
  hush_bpf();
  Impl impl(NetInterface{"an interface", 0, true});
  HC_TRY_VOID(impl.prepare(config, us));
  return impl.load(config.proc);
}

const NetInterface& NetTap::interface() const { return impl_->interface; }
std::span<const std::string> NetTap::notes() const { return impl_->notes; }
void NetTap::drain(const std::function<void(ByteSpan)>& sink) { impl_->ring.drain(sink); }
std::span<const uint64_t> NetTap::dropped() const {
  return {reinterpret_cast<const uint64_t*>(static_cast<decltype(net_bpf::bss)>(impl_->counters.data())->dropped),
          impl_->cpus};
}

BpfCost NetTap::cost() const { return cost_of(impl_->programs->obj); }

Result<std::vector<NetInterface>> network_interfaces() {
  struct FreeNames {
    void operator()(struct if_nameindex* p) const { if_freenameindex(p); }
  };
  const std::unique_ptr<struct if_nameindex, FreeNames> names(if_nameindex());
  const Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!names || !socket.valid()) return errno_error("cannot list", "network interfaces");
  std::vector<NetInterface> out;
  for (const struct if_nameindex* i = names.get(); i->if_index != 0; ++i) {
    ifreq about{};
    std::strncpy(about.ifr_name, i->if_name, sizeof about.ifr_name - 1);
    if (::ioctl(socket.get(), SIOCGIFFLAGS, &about) != 0) continue;  // gone meanwhile
    if (!(about.ifr_flags & IFF_UP) || about.ifr_flags & IFF_LOOPBACK) continue;
    const bool known = ::ioctl(socket.get(), SIOCGIFHWADDR, &about) == 0;
    out.push_back({i->if_name, i->if_index, !known || about.ifr_hwaddr.sa_family == ARPHRD_ETHER});
  }
  return out;
}

}  // namespace hindcast::capture
