#include "tests/support/pt_kernel.h"

#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <bit>
#include <ctime>

#include "capture/record_builder.h"

namespace hindcast::test {
namespace {

constexpr uint32_t kPtType = 8;  // intel_pt/type of PtMachineFiles
constexpr uint64_t kPage = 4096;
constexpr uint64_t kLargestPiece = 1024;  // pages: the page allocator has no larger piece of memory (order 10)

constexpr uint64_t bit(unsigned n) { return uint64_t{1} << n; }
constexpr uint64_t kPt = bit(0), kCyc = bit(1), kPwrEvt = bit(4), kFupOnPtw = bit(5), kMtc = bit(9), kTsc = bit(10),
                   kNoRetComp = bit(11), kPtw = bit(12), kBranch = bit(13), kMtcPeriod = uint64_t{15} << 14,
                   kCycThresh = uint64_t{15} << 19, kPsbPeriod = uint64_t{15} << 24;

uint64_t raw_clock() {
  timespec t{};
  ::clock_gettime(CLOCK_MONOTONIC_RAW, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1000000000u + static_cast<uint64_t>(t.tv_nsec);
}

}  // namespace

struct PtKernel::Event {
  int number = -1;  // the caller's descriptor
  ino_t inode = 0;  // tells whether that is still ours
  Fd memory;        // page, records and, at aux_offset, the AUX area
  perf_event_attr attr{};
  pid_t pid = -1;
  CpuId cpu = kNoCpu;
  unsigned long flags = 0;
  bool pt = false;
  bool enabled = false, in_service = true, running = false, has_run = false;
  Mapping records, aux;
  uint64_t head = 0;     // of the AUX area; the hardware's own
  uint64_t pending = 0;  // flags of the transaction
  uint64_t lost = 0;
  uint64_t locked = 0, pinned = 0;  // pages, as perf_mmap counts them

  bool is_open() const {
    struct stat st {};
    return ::fstat(number, &st) == 0 && st.st_ino == inode;
  }
  bool of_task() const { return pid >= 0 && !(flags & PERF_FLAG_PID_CGROUP); }
  bool watches(Pid who) const { return !of_task() || attr.inherit || pid == who.value(); }
  perf_event_mmap_page* page() const { return static_cast<perf_event_mmap_page*>(records.data()); }
};

PtKernel::PtKernel(const PtMachine& machine, PerfCalls* others)
    : clock(raw_clock), machine_(machine), others_(others) {}
PtKernel::~PtKernel() = default;

PtKernel::Event* PtKernel::find(const Fd& fd) {
  for (const auto& e : events_)
    if (e->number == fd.get() && e->is_open()) return e.get();
  return nullptr;
}

/// Whether the driver takes these bits.
bool PtKernel::config_valid(uint64_t config) const {
  const auto cap = [this](const char* name) {
    const auto it = machine_.caps.find(name);
    return it == machine_.caps.end() ? uint64_t{0} : it->second;
  };
  const auto offers = [&cap](const char* values, uint64_t v) { return cap(values) >> v & 1; };
  constexpr uint64_t kKnown = kPt | kCyc | kPwrEvt | kFupOnPtw | kMtc | kTsc | kNoRetComp | kPtw | kBranch |
                              kMtcPeriod | kCycThresh | kPsbPeriod;
  if (config & ~kKnown) return false;
  const uint64_t psb = (config & kPsbPeriod) >> 24, cyc = (config & kCycThresh) >> 19;
  if (config & (kCyc | kCycThresh | kPsbPeriod)) {
    if (!cap("psb_cyc")) return false;
    if (psb && !offers("psb_periods", psb)) return false;
    if (cyc && !offers("cycle_thresholds", cyc)) return false;
  }
  if (config & (kMtc | kMtcPeriod) && (!cap("mtc") || !offers("mtc_periods", (config & kMtcPeriod) >> 14)))
    return false;
  if (config & kPwrEvt && !cap("power_event_trace")) return false;
  if (config & (kPtw | kFupOnPtw) && (!cap("ptwrite") || !(config & kPtw))) return false;
  if (!(config & kPt)) return !(config & kBranch);
  return config & kBranch || !machine_.branch_always_on;
}

int PtKernel::check_open(const perf_event_attr& attr, pid_t pid, int cpu, unsigned long flags) const {
  if (!machine_.pmu) return ENOENT;
  if (pid < 0 && cpu < 0) return EINVAL;
  if (machine_.paranoid > 2 && !machine_.cap_perfmon) return EACCES;  // Debian's and Android's kernels
  if (!attr.exclude_kernel && machine_.paranoid > 1 && !machine_.cap_perfmon) return EACCES;
  if (!config_valid(attr.config)) return EINVAL;
  const bool of_task = pid >= 0 && !(flags & PERF_FLAG_PID_CGROUP);
  if (!of_task && machine_.paranoid > 0 && !machine_.cap_perfmon) return EACCES;
  if (!of_task && (cpu >= static_cast<int>(machine_.cpus) || offline_.count(CpuId(static_cast<uint32_t>(cpu)))))
    return ENODEV;
  // One event a CPU, and never of tasks and of CPUs together: the hardware has one set of registers.
  const auto exclusive = [&](bool other_of_task, int other_cpu) {
    return of_task != other_of_task || (!of_task && cpu == other_cpu);
  };
  for (const CpuId other : taken_)
    if (exclusive(false, static_cast<int>(other.value()))) return EBUSY;
  for (const auto& e : events_) {
    if (!e->pt || !e->in_service || !e->is_open()) continue;
    if (exclusive(e->of_task(), static_cast<int>(e->cpu.value()))) return EBUSY;
    if (of_task && pid == e->pid && cpu == static_cast<int>(e->cpu.value())) return EBUSY;
  }
  return 0;
}

int PtKernel::open(const perf_event_attr& attr, pid_t pid, int cpu, unsigned long flags) {
  const bool pt = attr.type == kPtType;
  if (!pt && others_) return others_->open(attr, pid, cpu, flags);
  if (pt)
    if (const int e = check_open(attr, pid, cpu, flags)) return -e;
  auto e = std::make_unique<Event>();
  e->number = ::memfd_create("perf-event", MFD_CLOEXEC);
  if (e->number < 0) return -errno;
  struct stat st {};
  HC_CHECK(::fstat(e->number, &st) == 0);
  e->inode = st.st_ino;
  e->memory = Fd(::fcntl(e->number, F_DUPFD_CLOEXEC, 0));
  e->attr = attr;
  e->pid = pid;
  e->cpu = CpuId(static_cast<uint32_t>(cpu));
  e->flags = flags;
  e->pt = pt;
  if (pt) opened_.push_back({attr, pid, cpu, flags});
  events_.push_back(std::move(e));
  return events_.back()->number;
}

/// perf_mmap's accounts: up to perf_event_mlock_kb a CPU is free for each user, the rest counts against RLIMIT_MEMLOCK.
bool PtKernel::charge(Event& e, uint64_t pages) {
  uint64_t locked = 0, pinned = 0;
  for (const auto& other : events_) {
    if (!other->is_open()) continue;
    locked += other->locked;
    pinned += other->pinned;
  }
  const uint64_t free_pages = machine_.mlock_kb / 4 * (machine_.cpus - offline_.size());
  const uint64_t over = locked + pages > free_pages ? std::min(pages, locked + pages - free_pages) : 0;
  const bool limited = machine_.paranoid > -1 && !machine_.cap_ipc_lock;
  if (limited && over > 0 && pinned + over > machine_.memlock_bytes / kPage) return false;
  e.locked += pages - over;
  e.pinned += over;
  return true;
}

int PtKernel::map(const Fd& fd, size_t bytes, int prot, off_t offset, Mapping& out) {
  Event* e = find(fd);
  if (!e) return others_ ? others_->map(fd, bytes, prot, offset, out) : -EBADF;
  if (bytes == 0 || bytes % kPage != 0) return -EINVAL;
  if (e->of_task() && e->attr.inherit && e->cpu == kNoCpu) return -EINVAL;
  const int error = offset == 0 ? map_records(*e, bytes) : map_aux(*e, bytes, prot, static_cast<uint64_t>(offset));
  if (error) return -error;
  auto m = Mapping::map(e->memory, bytes, prot, MAP_SHARED, offset);
  HC_CHECK(m.ok());
  out = std::move(m).value();
  return 0;
}

int PtKernel::map_records(Event& e, size_t bytes) {
  if (e.page() || !std::has_single_bit(bytes / kPage - 1)) return EINVAL;
  if (!charge(e, bytes / kPage)) return EPERM;
  if (::ftruncate(e.memory.get(), static_cast<off_t>(bytes)) != 0) return errno;
  auto m = Mapping::map(e.memory, bytes, PROT_READ | PROT_WRITE, MAP_SHARED);
  if (!m) return ENOMEM;
  e.records = std::move(m).value();
  e.page()->data_offset = kPage;
  e.page()->data_size = bytes - kPage;
  return 0;
}

int PtKernel::map_aux(Event& e, size_t bytes, int prot, uint64_t offset) {
  const perf_event_mmap_page* page = e.page();
  if (!page || !e.pt || e.aux.data()) return EINVAL;
  if (page->aux_offset != offset || page->aux_size != bytes || offset < page->data_offset + page->data_size)
    return EINVAL;
  if (!std::has_single_bit(bytes / kPage)) return EINVAL;
  HC_CHECK(!(prot & PROT_WRITE));  // full trace mode is not what this is a double of
  // Without scatter-gather an overwritten ring must be one piece of memory.
  const auto pieces = machine_.caps.find("topa_multiple_entries");
  const bool one_piece = pieces == machine_.caps.end() || pieces->second == 0;
  const uint64_t locked = e.locked, pinned = e.pinned;
  if (!charge(e, bytes / kPage)) return EPERM;
  if (one_piece && bytes / kPage > kLargestPiece) {
    e.locked = locked;
    e.pinned = pinned;
    return ENOMEM;
  }
  if (::ftruncate(e.memory.get(), static_cast<off_t>(offset + bytes)) != 0) return errno;
  auto m = Mapping::map(e.memory, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, static_cast<off_t>(offset));
  if (!m) return ENOMEM;
  e.aux = std::move(m).value();
  return 0;
}

int PtKernel::control(const Fd& fd, unsigned long request, unsigned long argument) {
  Event* e = find(fd);
  if (!e) return others_ ? others_->control(fd, request, argument) : -EBADF;
  switch (request) {
    case PERF_EVENT_IOC_ENABLE:
      e->enabled = e->in_service;
      start(*e);
      return 0;
    case PERF_EVENT_IOC_DISABLE:
      stop(*e);
      e->enabled = false;
      return 0;
    default:
      return -ENOTTY;
  }
}

void PtKernel::start(Event& e) {
  if (!e.pt || !e.enabled || !e.in_service || e.running || !e.aux.data() || offline_.count(e.cpu)) return;
  if (!e.has_run) {
    std::vector<uint8_t> body;
    ByteWriter w(body);
    w.u32(static_cast<uint32_t>(e.of_task() ? e.pid : 0));
    w.u32(static_cast<uint32_t>(e.of_task() ? e.pid : 0));
    write_record(e, perf::kItraceStart, body);
  }
  e.running = e.has_run = true;
  e.pending = 0;
}

void PtKernel::stop(Event& e) {
  if (!e.running) return;
  e.running = false;
  std::vector<uint8_t> body;
  ByteWriter w(body);
  w.u64(e.head);
  w.u64(e.aux.size());
  w.u64(e.pending | perf::kAuxOverwrite);
  write_record(e, perf::kAux, body);
  __atomic_store_n(&e.page()->aux_head, e.head, __ATOMIC_RELEASE);
  if (e.pending & perf::kAuxTruncated) e.enabled = false;
  e.pending = 0;
}

void PtKernel::write_record(Event& e, uint32_t type, const std::vector<uint8_t>& body) {
  const capture::RecordStamp stamp{RecordTime(clock()), e.cpu, Pid(0), Tid(0)};
  std::vector<uint8_t> bytes;
  if (e.lost) capture::append_lost_record(bytes, 0, e.lost, stamp);
  capture::append_record(bytes, type, 0, body, stamp);
  perf_event_mmap_page* page = e.page();
  const uint64_t head = page->data_head, tail = __atomic_load_n(&page->data_tail, __ATOMIC_ACQUIRE);
  if (head + bytes.size() - tail > page->data_size) {
    ++e.lost;
    return;
  }
  e.lost = 0;
  uint8_t* data = static_cast<uint8_t*>(e.records.data()) + page->data_offset;
  for (size_t i = 0; i < bytes.size(); ++i) data[(head + i) % page->data_size] = bytes[i];
  __atomic_store_n(&page->data_head, head + bytes.size(), __ATOMIC_RELEASE);
}

PtKernel::Event* PtKernel::running(CpuId cpu, Pid who) const {
  for (const auto& e : events_)
    if (e->running && e->cpu == cpu && e->watches(who) && e->is_open()) return e.get();
  return nullptr;
}

bool PtKernel::tracing(CpuId cpu, Pid who) const { return running(cpu, who) != nullptr; }

void PtKernel::trace(CpuId cpu, ByteSpan packets, Pid who) {
  Event* e = running(cpu, who);
  if (!e) {
    lost_packets_ += packets.size();
    return;
  }
  auto* ring = static_cast<uint8_t*>(e->aux.data());
  while (!packets.empty()) {
    const size_t n = std::min(packets.size(), e->aux.size() - e->head);
    std::copy_n(packets.begin(), n, ring + e->head);
    e->head = (e->head + n) % e->aux.size();
    packets = packets.subspan(n);
  }
}

void PtKernel::reschedule(CpuId cpu) {
  for (const auto& e : events_) {
    if (!e->running || e->cpu != cpu) continue;
    stop(*e);
    start(*e);
  }
}

void PtKernel::flag(CpuId cpu, uint64_t flags) {
  for (const auto& e : events_) {
    if (!e->running || e->cpu != cpu) continue;
    e->pending |= flags;
    if (flags & perf::kAuxTruncated) stop(*e);
  }
}

void PtKernel::go_offline(CpuId cpu) {
  for (const auto& e : events_) {
    if (e->cpu != cpu) continue;
    stop(*e);
    if (!e->of_task()) e->in_service = e->enabled = false;
  }
  offline_.insert(cpu);
}

void PtKernel::come_online(CpuId cpu) {
  offline_.erase(cpu);
  for (const auto& e : events_)
    if (e->cpu == cpu) start(*e);
}

}  // namespace hindcast::test
