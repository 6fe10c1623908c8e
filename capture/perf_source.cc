// The real source of PT: the kernel's intel_pt PMU, one event and one AUX ring per CPU, in overwrite mode.
#include "capture/perf_source.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "capture/record_builder.h"
#include "capture/tsc_page.h"

namespace hindcast::capture {

namespace {

constexpr size_t kRecordRing = size_t{64} << 10;
constexpr size_t kMostRecords = size_t{4}
                                << 20;  // the newest AUX records of a CPU; one comes per freeze and per schedule-in
constexpr size_t kMostCuts = 1000;
constexpr size_t kBytesBeforeCut = 64;
constexpr size_t kTailLookedAt = 4096;  // of a ring, for the first wrap: PSB periods put bytes in any page

}  // namespace

RingCopy copy_overwritten_ring(ByteSpan ring, uint64_t head) {
  RingCopy out;
  if (ring.empty()) return out;
  const size_t at = head % ring.size();
  // what lies between the head and the ring's end was written by an earlier round, or never
  const ByteSpan tail = ring.subspan(std::max(at, ring.size() - std::min(kTailLookedAt, ring.size())));
  out.wrapped = std::any_of(tail.begin(), tail.end(), [](uint8_t b) { return b != 0; });
  if (out.wrapped) out.bytes.assign(ring.begin() + static_cast<ptrdiff_t>(at), ring.end());
  out.bytes.insert(out.bytes.end(), ring.begin(), ring.begin() + static_cast<ptrdiff_t>(at));
  return out;
}

RingCut mark_cut(ByteSpan ring, uint64_t head) {
  RingCut cut;
  if (ring.empty()) return cut;
  cut.at = head % ring.size();
  const size_t n = std::min<size_t>(kBytesBeforeCut, ring.size());
  for (size_t i = 0; i < n; ++i) cut.before.push_back(ring[(cut.at + ring.size() - n + i) % ring.size()]);
  return cut;
}

std::vector<uint64_t> surviving_cuts(ByteSpan ring, uint64_t head, const RingCopy& copy, std::vector<RingCut>& cuts) {
  std::erase_if(cuts, [&](const RingCut& c) { return mark_cut(ring, c.at).before != c.before; });
  std::vector<uint64_t> offsets;
  for (const RingCut& c : cuts) {
    const uint64_t offset = copy.wrapped ? (c.at + ring.size() - head % ring.size()) % ring.size() : c.at;
    if (offset > 0 && offset < copy.bytes.size()) offsets.push_back(offset);
  }
  std::sort(offsets.begin(), offsets.end());
  offsets.erase(std::unique(offsets.begin(), offsets.end()), offsets.end());
  return offsets;
}

PerfSource::PerfSource(PerfCalls& calls, MachineRoots roots) : calls_(calls), roots_(std::move(roots)) {}

Result<PerfSource::CpuTrace> PerfSource::open_cpu(const perf_event_attr& attr, CpuId cpu, uint64_t aux_bytes,
                                                  int cgroup) {
  const std::string object = "CPU " + std::to_string(cpu.value()) + ": intel_pt";
  auto ring = SidebandRing::open(calls_, attr, cgroup, static_cast<int>(cpu.value()), kRecordRing, object,
                                 cgroup >= 0 ? PERF_FLAG_PID_CGROUP : 0);
  if (!ring) return std::move(ring).error();
  CpuTrace t{cpu, std::move(ring).value(), {}, {}, {}, 0, 0, 0};
  perf_event_mmap_page* page = t.ring.page();
  page->aux_offset = page->data_offset + page->data_size;
  page->aux_size = aux_bytes;
  // read-only is what asks for overwrite mode: the kernel then never waits for a reader
  const int e = calls_.map(t.ring.fd(), aux_bytes, PROT_READ, static_cast<off_t>(page->aux_offset), t.aux);
  if (e < 0) {
    errno = -e;
    Error error = errno_error("cannot make a PT ring of " + std::to_string(aux_bytes >> 20) + " MiB for", object);
    if (e == -EPERM || e == -EAGAIN) {
      error.code = Errc::permission;
      error.found = "rings beyond /proc/sys/kernel/perf_event_mlock_kb and `ulimit -l` need CAP_IPC_LOCK";
      error.fix = "run as root, or: setcap cap_perfmon,cap_ipc_lock+ep HINDCASTD, or a smaller --ring";
    } else if (e == -ENOMEM) {
      error.found =
          "not enough (contiguous) memory; CPUs whose PT output has one table entry only (Broadwell) need the "
          "whole ring in one piece, about 4 MiB at most";
      error.fix = "a smaller --ring, for instance --ring 4M";
    } else if (e == -EINVAL) {
      error.found = "the ring must be a power of two pages";
      error.fix = "--ring 4M, 8M, 16M ...";
    }
    return error;
  }
  return t;
}

Result<void> PerfSource::prepare(const PtSourceConfig& config) {
  HC_TRY(const PtPmu pmu, read_pt_pmu(roots_));
  HC_TRY(const uint64_t bits, pt_config_bits(pmu, config.pt));
  HC_TRY(cpu_, read_pt_cpu(roots_, &pmu));
  if (config.ring_bytes == 0 || !std::has_single_bit(config.ring_bytes))
    return Error{Errc::usage, "the PT ring must be a power of two pages", std::to_string(config.ring_bytes) + " bytes",
                 "--ring 4M, 8M, 16M ..."};
  uint64_t aux_bytes = config.ring_bytes;
  constexpr uint64_t kSingleEntryRing = uint64_t{4} << 20;
  if (pmu.caps.count("topa_multiple_entries") && !pmu.cap("topa_multiple_entries") && aux_bytes > kSingleEntryRing) {
    aux_bytes = kSingleEntryRing;
    notes_.push_back(
        "PT rings are 4 MiB a CPU: this CPU's output table has a single entry, so that its ring must be "
        "one piece of memory");
  }
  perf_event_attr attr;
  std::memset(&attr, 0, sizeof attr);
  attr.size = sizeof attr;
  attr.type = pmu.type;
  attr.config = bits;
  attr.sample_type = perf::kOurSampleType;
  attr.sample_id_all = 1;
  attr.disabled = 1;
  attr.exclude_kernel = 1;
  attr.exclude_hv = 1;
  attr.watermark = 1;
  attr.wakeup_watermark = kRecordRing / 2;
  for (const CpuId cpu : config.cpus) {
    HC_TRY(CpuTrace t, open_cpu(attr, cpu, aux_bytes, config.cgroup));
    traces_.push_back(std::move(t));
  }
  if (!traces_.empty()) clock_ = read_tsc_conversion(traces_.front().ring.page());
  if (!clock_.known)
    notes_.push_back(
        "the kernel gives no relation between TSC and record times (virtual machine, or a clock source "
        "other than tsc): threads cannot be told apart by time");
  return {};
}

Result<void> PerfSource::on_started(Pid) {
  for (CpuTrace& t : traces_) HC_TRY_VOID(t.ring.enable());
  return {};
}

void PerfSource::drain(CpuTrace& t) {
  t.ring.drain([&t](ByteSpan bytes) {
    perf::RecordReader reader(bytes);
    perf::Record record;
    if (!reader.next(record)) return;
    if (record.type == perf::kAux) {
      ByteReader r(record.body);
      r.skip(16);  // aux_offset, aux_size
      const uint64_t flags = r.u64();
      t.truncated += (flags & perf::kAuxTruncated) != 0;
      t.partial += (flags & perf::kAuxPartial) != 0;
      t.collisions += (flags & perf::kAuxCollision) != 0;
    }
    t.records.push({}, bytes);
    while (t.records.bytes() > kMostRecords) t.records.pop();
  });
}

Result<void> PerfSource::poll() {
  for (CpuTrace& t : traces_) drain(t);
  return {};
}

Result<std::vector<Cut>> PerfSource::stop_and_copy() {
  for (CpuTrace& t : traces_) HC_TRY_VOID(t.ring.disable());
  if (!traces_.empty()) clock_ = read_tsc_conversion(traces_.front().ring.page());
  std::vector<Cut> cuts;
  for (CpuTrace& t : traces_) {
    drain(t);
    // pairs with the kernel's publication of aux_head when the event stopped: the trace below it is written
    const uint64_t head = __atomic_load_n(&t.ring.page()->aux_head, __ATOMIC_ACQUIRE);
    RingCopy copy = copy_overwritten_ring(t.aux.bytes(), head);
    Cut pt;
    pt.info.kind = StreamKind::pt;
    pt.info.cpu = t.cpu;
    pt.info.bytes = copy.bytes.size();
    pt.info.ring_bytes = t.aux.size();
    pt.info.wrapped = copy.wrapped;
    pt.info.cuts = surviving_cuts(t.aux.bytes(), head, copy, t.cuts);
    pt.bytes = std::move(copy.bytes);
    cuts.push_back(std::move(pt));
    Cut records;
    records.info.kind = StreamKind::sideband;
    records.info.cpu = t.cpu;
    records.info.sample_type = perf::kOurSampleType;
    t.records.each([&records](const OrderKey&, ByteSpan bytes) {
      records.bytes.insert(records.bytes.end(), bytes.begin(), bytes.end());
    });
    records.info.bytes = records.bytes.size();
    cuts.push_back(std::move(records));
    t.cuts.push_back(mark_cut(t.aux.bytes(), head));
    if (t.cuts.size() > kMostCuts) t.cuts.erase(t.cuts.begin());
  }
  return cuts;
}

Result<std::vector<Cut>> PerfSource::freeze() { return stop_and_copy(); }

Result<void> PerfSource::start_snapshot() {
  auto cuts = stop_and_copy();
  // Whatever went wrong with one CPU, the window goes on.
  Result<void> failed;
  for (CpuTrace& t : traces_)
    if (auto r = t.ring.enable(); !r.ok() && failed.ok()) failed = std::move(r);
  if (!cuts.ok()) return std::move(cuts).error();
  if (failed.ok()) snapshot_ = std::move(cuts).value();
  return failed;
}

void PerfSource::describe(SnapshotInfo& info) const {
  info.cpu = cpu_;
  info.clock = clock_;
  info.record_clock = "perf";
  info.user_only = true;
  info.notes.insert(info.notes.end(), notes_.begin(), notes_.end());
  for (const CpuTrace& t : traces_) {
    const std::string cpu = "CPU " + std::to_string(t.cpu.value()) + ": ";
    const auto count = [&](uint64_t n, const std::string& before, const std::string& behind) {
      if (n) info.notes.push_back(cpu + before + std::to_string(n) + behind);
    };
    count(t.truncated, "the kernel cut the trace short ", " times");
    count(t.partial, "the trace has ", " holes (a guest took PT)");
    count(t.collisions, "", " collisions with another user of the ring");
  }
}

}  // namespace hindcast::capture
