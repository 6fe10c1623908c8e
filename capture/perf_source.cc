// The real source of PT: the kernel's intel_pt PMU, one event and one AUX ring per CPU, in overwrite mode.
#include "capture/perf_source.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "capture/privilege.h"
#include "capture/record_builder.h"
#include "capture/tsc_page.h"
#include "capture/words.h"

namespace hindcast::capture {

namespace {

constexpr size_t kPage = 4096;
constexpr size_t kRecordRing = size_t{64} << 10;
constexpr size_t kMostRecords = size_t{4}
                                << 20;  // the newest AUX records of a CPU; one comes per freeze and per schedule-in
constexpr size_t kMostNotes = 200;
constexpr uint64_t kSmallestAutomatic = uint64_t{64} << 10;
constexpr uint64_t kSidebandShare = uint64_t{256} << 10;  // a CPU's, left over when rings are as large as can be
constexpr uint64_t kSingleEntryRing = uint64_t{4} << 20;

std::string name_of(CpuId cpu) { return "CPU " + std::to_string(cpu.value()); }

}  // namespace

PerfSource::PerfSource(PerfCalls& calls, MachineRoots roots) : calls_(calls), roots_(std::move(roots)) {}

/// The size of each ring: as asked for, or the largest that the limits grant. Errors: it surely does not fit.
Result<uint64_t> PerfSource::choose_ring(const PtPmu& pmu) {
  const uint64_t asked = config_.ring_bytes, cpus = std::max<size_t>(config_.cpus.size(), 1);
  if (asked != 0 && (!std::has_single_bit(asked) || asked < kPage))
    return Error{Errc::usage, "the PT ring must be a power of two pages", std::to_string(asked) + " bytes",
                 "--ring auto, 4M, 8M, 16M ..."};
  uint64_t bytes = wanted_ring_bytes(config_);
  if (bytes < kPage)
    return Error{Errc::usage, "the budget for PT rings is less than a page for each CPU",
                 human_bytes(config_.ring_budget) + " for " + std::to_string(cpus) + " CPUs", "--ring-budget 512M"};
  if (pmu.caps.count("topa_multiple_entries") && !pmu.cap("topa_multiple_entries") && bytes > kSingleEntryRing) {
    bytes = kSingleEntryRing;
    notes_.push_back(
        "PT rings are 4 MiB a CPU: this CPU's output table has a single entry, so that its ring must be "
        "one piece of memory");
  }
  const uint64_t wanted = bytes;
  const RingMemory memory = ring_memory(roots_.proc, cpus);
  if (!memory.limited) return bytes;
  const auto needed = [cpus](uint64_t ring) { return cpus * (ring + kRecordRing + kPage); };
  if (asked == 0)
    while (bytes > kSmallestAutomatic && needed(bytes) + cpus * kSidebandShare > memory.bytes) bytes /= 2;
  if (needed(bytes) > memory.bytes)
    return Error{Errc::permission,
                 "PT rings of " + human_bytes(bytes) + " on " + std::to_string(cpus) + " CPUs need " +
                     human_bytes(needed(bytes)) + " of locked memory, and the kernel grants " +
                     human_bytes(memory.bytes),
                 memory.text, "--ring auto, or setcap cap_perfmon,cap_ipc_lock+ep HINDCASTD, or ulimit -l unlimited"};
  if (bytes < wanted)
    notes_.push_back("PT rings are " + human_bytes(bytes) + " a CPU, the largest that fit: " + memory.text);
  return bytes;
}

Result<void> PerfSource::prepare(const PtSourceConfig& config) {
  config_ = config;
  HC_TRY(const PtPmu pmu, read_pt_pmu(roots_));
  if (config_.pt == PtOptions{}) config_.pt = fit_pt_options(pmu, notes_);
  HC_TRY(const uint64_t bits, pt_config_bits(pmu, config_.pt));
  HC_TRY(cpu_, read_pt_cpu(roots_, &pmu));
  HC_TRY(ring_bytes_, choose_ring(pmu));
  std::memset(&attr_, 0, sizeof attr_);
  attr_.size = sizeof attr_;
  attr_.type = pmu.type;
  attr_.config = bits;
  attr_.sample_type = perf::kOurSampleType;
  attr_.sample_id_all = 1;
  attr_.disabled = 1;
  attr_.exclude_kernel = !config_.kernel;
  attr_.exclude_hv = 1;
  attr_.inherit = of_command();
  attr_.watermark = 1;
  attr_.wakeup_watermark = kRecordRing / 2;
  return of_command() ? Result<void>() : open_all();
}

Result<void> PerfSource::open_all() {
  for (const CpuId cpu : config_.cpus) {
    HC_TRY(CpuTrace t, open_cpu(cpu));
    traces_.push_back(std::move(t));
  }
  if (!traces_.empty()) clock_ = read_tsc_conversion(traces_.front().ring.page());
  if (!clock_.known)
    notes_.push_back(
        "the kernel gives no relation between TSC and record times (virtual machine, or a clock source "
        "other than tsc): threads cannot be told apart by time");
  return {};
}

Result<PerfSource::CpuTrace> PerfSource::open_cpu(CpuId cpu) {
  const std::string object = name_of(cpu) + ": intel_pt" + (config_.kernel ? " (user and kernel)" : "");
  const bool cgroup = config_.cgroup >= 0 && !of_command();
  const pid_t pid = of_command() ? root_.value() : cgroup ? config_.cgroup : -1;
  auto ring = SidebandRing::open(calls_, attr_, pid, static_cast<int>(cpu.value()), kRecordRing, object,
                                 cgroup ? PERF_FLAG_PID_CGROUP : 0, roots_.proc);
  if (!ring) return std::move(ring).error();
  CpuTrace t{cpu, std::move(ring).value(), {}, {}, {}};
  HC_TRY_VOID(map_aux(t, object));
  return t;
}

Result<void> PerfSource::map_aux(CpuTrace& t, const std::string& object) {
  perf_event_mmap_page* page = t.ring.page();
  page->aux_offset = page->data_offset + page->data_size;
  uint64_t bytes = ring_bytes_;
  int e = 0;
  for (;; bytes /= 2) {
    page->aux_size = bytes;
    // read-only is what asks for overwrite mode: the kernel then never waits for a reader
    e = calls_.map(t.ring.fd(), bytes, PROT_READ, static_cast<off_t>(page->aux_offset), t.aux);
    const bool too_much = e == -EPERM || e == -EAGAIN || e == -ENOMEM;
    if (!too_much || config_.ring_bytes != 0 || bytes <= kSmallestAutomatic) break;
  }
  if (e == 0) {
    if (bytes < ring_bytes_)
      notes_.push_back(object + ": the ring is " + human_bytes(bytes) + " instead of " + human_bytes(ring_bytes_) +
                       ": the kernel granted no more memory");
    return {};
  }
  errno = -e;
  Error error = errno_error("cannot make a PT ring of " + human_bytes(bytes) + " for", object);
  if (e == -EPERM || e == -EAGAIN) {
    error.code = Errc::permission;
    error.found =
        "the kernel locks no more (other perf users of this user id share it, and in a user namespace "
        "CAP_IPC_LOCK does not count): " +
        ring_memory(roots_.proc, std::max<size_t>(config_.cpus.size(), 1)).text;
    error.fix = "run as root, or: setcap cap_perfmon,cap_ipc_lock+ep HINDCASTD, or a smaller --ring";
  } else if (e == -ENOMEM) {
    error.found =
        "not enough (contiguous) memory; CPUs whose PT output has one table entry only (Broadwell) need the "
        "whole ring in one piece, about 4 MiB at most";
    error.fix = "a smaller --ring, for instance --ring 1M, or --ring auto";
  } else if (e == -EINVAL) {
    error.found = "the ring must be a power of two pages";
    error.fix = "--ring 4M, 8M, 16M ...";
  }
  return error;
}

Result<void> PerfSource::on_started(Pid pid) {
  if (of_command()) {
    if (pid == kNoPid)
      return Error{Errc::usage, "only a command can be traced alone", "a window over a cgroup has none",
                   "trace the cgroup instead"};
    root_ = pid;
    HC_TRY_VOID(open_all());
  }
  for (CpuTrace& t : traces_) HC_TRY_VOID(t.ring.enable());
  return {};
}

void PerfSource::drain(CpuTrace& t) {
  t.ring.drain([&t](ByteSpan bytes) {
    perf::RecordReader reader(bytes);
    perf::Record record;
    if (!reader.next(record)) return;
    ByteReader r(record.body);
    if (record.type == perf::kAux) {
      r.skip(16);  // aux_offset, aux_size
      const uint64_t flags = r.u64();
      t.truncated += (flags & perf::kAuxTruncated) != 0;
      t.partial += (flags & perf::kAuxPartial) != 0;
      t.collisions += (flags & perf::kAuxCollision) != 0;
      t.switched_off |= (flags & perf::kAuxTruncated) != 0;
    } else if (record.type == perf::kLost) {
      r.skip(8);  // id
      t.lost_records += r.u64();
      t.switched_off = true;  // what was lost may have said so; to enable what is enabled does nothing
    }
    t.records.push({}, bytes);
    while (t.records.bytes() > kMostRecords) t.records.pop();
  });
}

/// Whatever goes wrong with one CPU, the window over the others goes on.
void PerfSource::enable(CpuTrace& t) {
  if (const auto r = t.ring.enable(); !r) note(name_of(t.cpu) + " is no longer traced: " + r.error().text());
}

void PerfSource::note(const std::string& text) {
  if (notes_.size() < kMostNotes && std::find(notes_.begin(), notes_.end(), text) == notes_.end())
    notes_.push_back(text);
}

Result<void> PerfSource::poll() {
  for (CpuTrace& t : traces_) {
    drain(t);
    if (std::exchange(t.switched_off, false) && !t.dead) enable(t);
  }
  return {};
}

void PerfSource::cpu_went(CpuId cpu) {
  for (CpuTrace& t : traces_) {
    if (t.cpu != cpu || t.dead || of_command()) continue;
    t.dead = true;
    note(name_of(cpu) + " went offline: its trace ends there");
  }
}

Result<void> PerfSource::cpu_came(CpuId cpu) {
  const auto old = std::find_if(traces_.begin(), traces_.end(), [cpu](const CpuTrace& t) { return t.cpu == cpu; });
  if (old != traces_.end() && !old->dead) return {};  // it never went, or its events only waited
  std::string words = name_of(cpu) + " came online and is traced from then on";
  if (old != traces_.end()) {
    traces_.erase(old);  // its memory may be needed for the new one
    words += "; what it ran before it went is no longer in the window";
  }
  if (of_command()) words += "; processes that the command had started by then are not traced on it";
  HC_TRY(CpuTrace t, open_cpu(cpu));
  HC_TRY_VOID(t.ring.enable());
  traces_.push_back(std::move(t));
  note(words);
  return {};
}

std::vector<Cut> PerfSource::stop_and_copy() {
  std::vector<const CpuTrace*> running;
  for (CpuTrace& t : traces_) {
    if (t.dead) continue;
    if (const auto r = t.ring.disable(); !r) {
      note(name_of(t.cpu) + " is missing in a snapshot: " + r.error().text());
      running.push_back(&t);  // aux_head is not known, and the ring is being written
    }
  }
  if (!traces_.empty()) clock_ = read_tsc_conversion(traces_.front().ring.page());
  std::vector<Cut> cuts;
  for (CpuTrace& t : traces_) {
    drain(t);
    if (std::find(running.begin(), running.end(), &t) == running.end()) {
      // pairs with the kernel's publication of aux_head when the event stopped: the trace below it is written
      const uint64_t head = __atomic_load_n(&t.ring.page()->aux_head, __ATOMIC_ACQUIRE);
      AuxHistory::Copy copy = t.history.take(t.aux.bytes(), head);
      Cut pt;
      pt.info.kind = StreamKind::pt;
      pt.info.cpu = t.cpu;
      pt.info.bytes = copy.bytes.size();
      pt.info.ring_bytes = t.aux.size();
      pt.info.wrapped = copy.wrapped;
      pt.info.cuts = std::move(copy.cuts);
      pt.bytes = std::move(copy.bytes);
      cuts.push_back(std::move(pt));
    }
    Cut records;
    records.info.kind = StreamKind::sideband;
    records.info.cpu = t.cpu;
    records.info.sample_type = perf::kOurSampleType;
    t.records.each([&records](const OrderKey&, ByteSpan bytes) {
      records.bytes.insert(records.bytes.end(), bytes.begin(), bytes.end());
    });
    records.info.bytes = records.bytes.size();
    cuts.push_back(std::move(records));
  }
  return cuts;
}

Result<std::vector<Cut>> PerfSource::freeze() { return stop_and_copy(); }

Result<void> PerfSource::start_snapshot() {
  snapshot_ = stop_and_copy();
  for (CpuTrace& t : traces_) {
    if (t.dead) continue;
    t.switched_off = false;
    enable(t);
  }
  return {};
}

void PerfSource::describe(SnapshotInfo& info) const {
  info.pt = config_.pt;
  info.cpu = cpu_;
  info.clock = clock_;
  info.record_clock = "perf";
  info.user_only = !config_.kernel;
  info.notes.insert(info.notes.end(), notes_.begin(), notes_.end());
  for (const CpuTrace& t : traces_) {
    const std::string cpu = name_of(t.cpu) + ": ";
    const auto count = [&](uint64_t n, const std::string& before, const std::string& behind) {
      if (n) info.notes.push_back(cpu + before + std::to_string(n) + behind);
    };
    count(t.truncated, "the kernel cut the trace short ", " times");
    count(t.partial, "the trace has ", " holes (a guest took PT)");
    count(t.collisions, "", " collisions with another user of the ring");
    count(t.lost_records, "",
          " records about the trace were dropped by the kernel: it may have holes that are not marked");
  }
}

}  // namespace hindcast::capture
