// perf_event_open(2) and what goes with it: the system calls behind an interface, and the attributes of our
// events.
#include "capture/perf_event.h"

#include <cerrno>
#include <cstring>
#include <ctime>

#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "capture/text_file.h"

namespace hindcast::capture {

namespace {

class KernelPerfCalls : public PerfCalls {
 public:
  int open(const perf_event_attr& attr, pid_t pid, int cpu, unsigned long flags) override {
    perf_event_attr copy = attr;  // the kernel writes its own size back on E2BIG
    const long fd = ::syscall(SYS_perf_event_open, &copy, pid, cpu, -1, flags | PERF_FLAG_FD_CLOEXEC);
    return fd < 0 ? -errno : static_cast<int>(fd);
  }
  int map(const Fd& fd, size_t bytes, int prot, off_t offset, Mapping& out) override {
    auto m = Mapping::map(fd, bytes, prot, MAP_SHARED, offset);
    if (!m) return -errno;
    out = std::move(m).value();
    return 0;
  }
  int control(const Fd& fd, unsigned long request, unsigned long argument) override {
    return ::ioctl(fd.get(), request, argument) < 0 ? -errno : 0;
  }
};

perf_event_attr base_attr(RecordClock clock, uint32_t wakeup_bytes) {
  perf_event_attr a;
  std::memset(&a, 0, sizeof a);
  a.size = sizeof a;
  a.sample_type = perf::kOurSampleType;
  a.sample_id_all = 1;
  a.disabled = 1;
  a.watermark = 1;
  a.wakeup_watermark = wakeup_bytes;
  if (clock == RecordClock::monotonic_raw) {
    a.use_clockid = 1;
    a.clockid = CLOCK_MONOTONIC_RAW;
  }
  return a;
}

struct OptionalKind {
  const char* name;
  bool (*get)(const perf_event_attr&);
  void (*set)(perf_event_attr&, bool);
  const char* consequence;
};
#define HC_ATTR_BIT(field) \
  [](const perf_event_attr& a) -> bool { return a.field; }, [](perf_event_attr& a, bool on) { a.field = on; }
constexpr OptionalKind kOptionalKinds[] = {
    {"comm_exec", HC_ATTR_BIT(comm_exec), "an exec cannot be told from a renamed thread"},
    {"mmap_data", HC_ATTR_BIT(mmap_data), "code that is mapped without execute permission at first is not seen"},
    {"namespaces", HC_ATTR_BIT(namespaces), "processes in containers have no namespace ids"},
    {"ksymbol", HC_ATTR_BIT(ksymbol), "code that the kernel makes at run time has no name"},
    {"bpf_event", HC_ATTR_BIT(bpf_event), "BPF programs have no name"},
    {"cgroup", HC_ATTR_BIT(cgroup), "control groups have no name"},
    {"build_id", HC_ATTR_BIT(build_id), "files are told apart by path and inode only"},
};
#undef HC_ATTR_BIT

}  // namespace

PerfCalls& kernel_perf_calls() {
  static KernelPerfCalls calls;
  return calls;
}

perf_event_attr sideband_attr(RecordClock clock, uint32_t wakeup_bytes) {
  perf_event_attr a = base_attr(clock, wakeup_bytes);
  a.type = PERF_TYPE_SOFTWARE;
  a.config = PERF_COUNT_SW_DUMMY;
  a.mmap = a.mmap2 = a.mmap_data = a.comm = a.comm_exec = a.task = a.context_switch = 1;
  a.build_id = a.namespaces = a.cgroup = a.ksymbol = a.bpf_event = 1;
  return a;
}

perf_event_attr page_fault_attr(RecordClock clock, uint32_t wakeup_bytes) {
  perf_event_attr a = base_attr(clock, wakeup_bytes);
  a.type = PERF_TYPE_SOFTWARE;
  a.config = PERF_COUNT_SW_PAGE_FAULTS;
  a.sample_period = 1;
  a.exclude_kernel = 1;
  return a;
}

perf_event_attr mapping_alarm_attr(RecordClock clock) {
  perf_event_attr a = base_attr(clock, 1);
  a.type = PERF_TYPE_SOFTWARE;
  a.config = PERF_COUNT_SW_DUMMY;
  a.mmap = a.mmap2 = 1;
  a.inherit = 1;
  return a;
}

Result<perf_event_attr> negotiate_sideband(PerfCalls& calls, perf_event_attr wanted, int cpu,
                                           std::vector<std::string>& notes) {
  if (Fd whole(calls.open(wanted, -1, cpu, 0)); whole.valid()) return wanted;
  perf_event_attr granted = wanted;
  for (const OptionalKind& k : kOptionalKinds) k.set(granted, false);
  const int base = calls.open(granted, -1, cpu, 0);
  if (base < 0) return perf_open_error(-base, "CPU " + std::to_string(cpu) + ": sideband records");
  Fd base_fd(base);
  for (const OptionalKind& k : kOptionalKinds) {
    if (!k.get(wanted)) continue;
    k.set(granted, true);
    const int e = calls.open(granted, -1, cpu, 0);
    Fd fd(e);
    if (fd.valid()) continue;
    k.set(granted, false);
    notes.push_back(std::string("the kernel refuses sideband records of kind ") + k.name + " (" + std::strerror(-e) +
                    "): " + k.consequence);
  }
  return granted;
}

Error perf_open_error(int error, const std::string& object, PerfReach reach, const std::string& proc) {
  Error e{Errc::io, "cannot trace " + object + ": perf_event_open: " + std::strerror(error), {}, {}};
  const std::string paranoid_file = proc + "/sys/kernel/perf_event_paranoid";
  const auto paranoid = read_text_file(paranoid_file, 64);
  switch (error) {
    case EACCES:
    case EPERM:
      e.code = Errc::permission;
      e.found = paranoid_file + " = " + (paranoid ? trimmed(*paranoid) : std::string("unreadable")) + "; " +
                (reach.whole_cpu ? "tracing a whole CPU needs 0 or less"
                 : reach.kernel  ? "tracing the kernel needs 1 or less"
                                 : "tracing processes of one's own needs 2 or less") +
                ", or CAP_PERFMON (inside a container: also a seccomp profile that lets perf_event_open through)";
      e.fix =
          "run as root, or: setcap cap_perfmon,cap_ipc_lock+ep HINDCASTD   (check everything: hindcast "
          "doctor)";
      break;
    case ENOENT:
    case ENODEV:
    case EOPNOTSUPP:
      e.code = Errc::unavailable;
      e.found = "the kernel knows this event but this CPU cannot do it (virtual machines rarely pass PT through)";
      e.fix = "use --source simulated, or a machine with Intel PT   (check everything: hindcast doctor)";
      break;
    case ENOSYS:
      e.code = Errc::unavailable;
      e.found = "a kernel built without CONFIG_PERF_EVENTS, or a sandbox that hides perf_event_open";
      e.fix = "run outside the sandbox";
      break;
    case EBUSY:
      e.code = Errc::unavailable;
      e.found =
          "Intel PT serves one user per CPU, and somebody else has it (perf, another hindcastd, a debugger, "
          "KVM)";
      e.fix = "end the other user: look for running perf, gdb and hindcastd processes";
      break;
    case EINVAL:
      e.code = Errc::unsupported;
      e.found = "a setting that this CPU or kernel does not have";
      e.fix = "leave options out of --pt until it opens; `hindcast doctor` lists what the CPU can do";
      break;
    case EMFILE:
    case ENFILE:
      e.found = "no free file descriptors; one per CPU and kind of event is needed";
      e.fix = "ulimit -n 4096";
      break;
    default:
      break;
  }
  return e;
}

}  // namespace hindcast::capture
