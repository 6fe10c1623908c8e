// The sideband window: the newest records of every CPU in bounded memory, and a checkpoint of what older ones
// said.
#include "capture/sideband_store.h"

#include <algorithm>

namespace hindcast::capture {

namespace {

perf::Record first_record(ByteSpan bytes) {
  perf::Record record;
  perf::RecordReader(bytes).next(record);
  return record;
}

bool describes_processes(uint32_t type) {
  switch (type) {
    case perf::kMmap:
    case perf::kMmap2:
    case perf::kComm:
    case perf::kFork:
    case perf::kExit:
    case perf::kNamespaces:
    case perf::kKsymbol:
    case perf::kBpfEvent:
    case perf::kCgroup:
    case perf::kTextPoke:
      return true;
    default:
      return false;
  }
}

bool is_switch(uint32_t type) { return type == perf::kSwitch || type == perf::kSwitchCpuWide; }

struct Piece {
  OrderKey key;
  ByteSpan bytes;
};

}  // namespace

void SidebandStore::add(CpuId cpu, const OrderKey& key, ByteSpan bytes) {
  const perf::Record record = first_record(bytes);
  Cpu& c = cpus_[cpu];
  if (record.type == perf::kLost) {
    ByteReader r(record.body);
    r.skip(8);
    lost_ += r.u64();
  }
  if (describes_processes(record.type)) {
    const size_t before = c.processes.bytes();
    c.processes.push(key, bytes);
    process_bytes_ += c.processes.bytes() - before;
    if (process_bytes_ > budget_.process_bytes) fold_oldest();
  } else {
    c.switches.push(key, bytes);
    if (c.switches.bytes() > budget_.switch_bytes_per_cpu) evict_switches(c);
  }
}

void SidebandStore::evict_switches(Cpu& cpu) {
  // an eighth at a time, so that the work per record stays constant
  const size_t goal = budget_.switch_bytes_per_cpu - budget_.switch_bytes_per_cpu / 8;
  while (cpu.switches.bytes() > goal) {
    const ByteSpan bytes = cpu.switches.front();
    const uint32_t type = first_record(bytes).type;
    if (is_switch(type)) {
      cpu.last_switch.assign(bytes.begin(), bytes.end());
      cpu.last_switch_key = cpu.switches.front_key();
      evicted_switches_++;
    } else if (type == perf::kLost) {
      cpu.last_switch.clear();  // switches were lost after it: nobody knows who runs
    }
    cpu.switches.pop();
  }
  cpu.evicted = true;
}

void SidebandStore::fold_oldest() {
  const size_t goal = budget_.process_bytes - budget_.process_bytes / 8;
  while (process_bytes_ > goal) {
    Cpu* oldest = nullptr;
    for (auto& [id, c] : cpus_)
      if (!c.processes.empty() && (!oldest || c.processes.front_key() < oldest->processes.front_key())) oldest = &c;
    HC_CHECK(oldest);
    checkpoint_time_ = RecordTime(std::max(checkpoint_time_.value(), oldest->processes.front_key().time));
    checkpoint_.fold(first_record(oldest->processes.front()));
    const size_t before = oldest->processes.bytes();
    oldest->processes.pop();
    process_bytes_ -= before - oldest->processes.bytes();
    folded_++;
  }
}

std::vector<Cut> SidebandStore::streams(const std::vector<CpuId>& cpus, const std::vector<Cut>& extra,
                                        ByteSpan more) const {
  std::vector<Cut> out;
  const auto add_stream = [&](CpuId cpu) -> Cut& {
    Cut& cut = out.emplace_back();
    cut.info.kind = StreamKind::sideband;
    cut.info.cpu = cpu;
    cut.info.sample_type = perf::kOurSampleType;
    return cut;
  };
  Cut& checkpoint = add_stream(kNoCpu);
  checkpoint.bytes = checkpoint_.to_records(checkpoint_time_);
  checkpoint.bytes.insert(checkpoint.bytes.end(), more.begin(), more.end());
  std::vector<CpuId> all = cpus;
  for (const auto& [id, c] : cpus_) all.push_back(id);
  for (const Cut& e : extra) all.push_back(e.info.cpu);
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  for (const CpuId id : all) {
    Cut& cut = add_stream(id);
    std::vector<Piece> pieces;
    if (const auto it = cpus_.find(id); it != cpus_.end()) {
      const Cpu& c = it->second;
      cut.info.wrapped = c.evicted;
      const auto keep = [&](const OrderKey& key, ByteSpan bytes) { pieces.push_back({key, bytes}); };
      // Records of processes may be older than it.
      if (!c.last_switch.empty()) keep(c.last_switch_key, c.last_switch);
      c.switches.each(keep);
      c.processes.each(keep);
    }
    for (const Cut& e : extra) {
      if (e.info.cpu != id) continue;
      perf::RecordReader reader(e.bytes);
      perf::Record record;
      uint64_t time = 0;
      while (reader.next(record)) {
        if (const auto t = record_time(record, e.info.sample_type)) time = std::max(time, t->value());
        const ByteSpan whole = ByteSpan(e.bytes).subspan(record.offset, record.body.size() + 8);
        pieces.push_back({{time, ~uint64_t{0}}, whole});
      }
    }
    std::stable_sort(pieces.begin(), pieces.end(), [](const Piece& a, const Piece& b) { return a.key < b.key; });
    for (const Piece& p : pieces) cut.bytes.insert(cut.bytes.end(), p.bytes.begin(), p.bytes.end());
  }
  for (Cut& cut : out) cut.info.bytes = cut.bytes.size();
  return out;
}

}  // namespace hindcast::capture
