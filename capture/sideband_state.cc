// What sideband records add up to: names, address spaces and namespaces at one moment.
#include "capture/sideband_state.h"

namespace hindcast::capture {

namespace {

constexpr uint16_t kKsymbolUnregister = 1;  // PERF_RECORD_KSYMBOL_FLAGS_UNREGISTER
constexpr uint16_t kBpfProgramUnload = 2;   // PERF_BPF_EVENT_PROG_UNLOAD

ByteSpan without_trailer(const perf::Record& record) {
  const size_t n = perf::sample_id_bytes(perf::kOurSampleType);
  return record.body.size() < n ? ByteSpan{} : record.body.first(record.body.size() - n);
}

}  // namespace

SidebandState::Thread& SidebandState::thread(Pid pid, Tid tid) {
  const auto [it, added] = threads_.try_emplace(tid, Thread{pid, {}, {}});
  if (!added && it->second.pid != pid) {  // the tid was used again, and the EXIT between was lost
    if (const auto old = processes_.find(it->second.pid); old != processes_.end() && --old->second.threads == 0)
      processes_.erase(old);
    it->second = Thread{pid, {}, {}};
    processes_[pid].threads++;
  } else if (added) {
    processes_[pid].threads++;
  }
  return it->second;
}

void SidebandState::set_comm(Pid pid, Tid tid, const std::string& comm) { thread(pid, tid).comm = comm; }

void SidebandState::punch(std::map<uint64_t, MapRecord>& maps, uint64_t start, uint64_t end) {
  auto it = maps.upper_bound(start);
  if (it != maps.begin()) --it;
  while (it != maps.end() && it->second.start < end) {
    const MapRecord old = it->second;
    const uint64_t old_end = old.start + old.length;
    if (old_end <= start) {
      ++it;
      continue;
    }
    it = maps.erase(it);
    if (old.start < start) {
      MapRecord left = old;
      left.length = start - old.start;
      maps.emplace(left.start, left);
    }
    if (old_end > end) {
      MapRecord right = old;
      right.start = end;
      right.length = old_end - end;
      right.file_offset += end - old.start;
      it = maps.emplace(right.start, right).first;
    }
  }
}

void SidebandState::add_map(const MapRecord& map) {
  if (map.length == 0 || map.start + map.length < map.start) return;
  if (map.pid == kNoPid) return;  // the kernel's own
  auto& maps = processes_[map.pid].maps;
  punch(maps, map.start, map.start + map.length);
  maps.emplace(map.start, map);
}

void SidebandState::fork(const TaskRecord& task) {
  const auto parent = threads_.find(task.parent_tid);
  const std::string comm = parent == threads_.end() ? std::string() : parent->second.comm;
  Thread& child = thread(task.pid, task.tid);
  child.comm = comm;
  if (task.pid == task.parent_pid) return;
  const auto from = processes_.find(task.parent_pid);
  if (from == processes_.end()) return;
  Process& to = processes_[task.pid];
  to.maps = from->second.maps;
  for (auto& [start, map] : to.maps) {
    map.pid = task.pid;
    map.tid = task.tid;
  }
}

void SidebandState::exit(const TaskRecord& task) {
  const auto it = threads_.find(task.tid);
  if (it == threads_.end()) return;
  const auto process = processes_.find(it->second.pid);
  threads_.erase(it);
  if (process != processes_.end() && --process->second.threads == 0) processes_.erase(process);
}

void SidebandState::fold(const perf::Record& record) {
  const ByteSpan body = without_trailer(record);
  ByteReader r(body);
  switch (record.type) {
    case perf::kComm:
      if (const auto c = read_comm_record(record)) {
        set_comm(c->pid, c->tid, c->comm);
        if (c->exec) processes_[c->pid].maps.clear();
      }
      break;
    case perf::kFork:
      if (const auto t = read_task_record(record)) fork(*t);
      break;
    case perf::kExit:
      if (const auto t = read_task_record(record)) exit(*t);
      break;
    case perf::kMmap2:
      if (const auto m = read_map_record(record, perf::kOurSampleType)) {
        thread(m->pid, m->tid);
        add_map(*m);
      }
      break;
    case perf::kNamespaces: {
      const Pid pid(r.read<int32_t>());
      const Tid tid(r.read<int32_t>());
      if (r.failed()) break;
      thread(pid, tid).namespaces.assign(body.begin(), body.end());
      break;
    }
    case perf::kKsymbol: {  // u64 addr; u32 len; u16 ksym_type; u16 flags; name
      const uint64_t address = r.u64();
      r.skip(6);
      const uint16_t flags = r.u16();
      if (r.failed()) break;
      if (flags & kKsymbolUnregister)
        kernel_.erase({record.type, address});
      else
        kernel_[{record.type, address}] = {record.type, record.misc, {body.begin(), body.end()}};
      break;
    }
    case perf::kBpfEvent: {  // u16 type; u16 flags; u32 id; u8 tag[8]
      const uint16_t type = r.u16();
      r.skip(2);
      const uint32_t id = r.u32();
      if (r.failed()) break;
      if (type == kBpfProgramUnload)
        kernel_.erase({record.type, id});
      else
        kernel_[{record.type, id}] = {record.type, record.misc, {body.begin(), body.end()}};
      break;
    }
    case perf::kCgroup: {  // u64 id; path
      const uint64_t id = r.u64();
      if (!r.failed()) kernel_[{record.type, id}] = {record.type, record.misc, {body.begin(), body.end()}};
      break;
    }
    default:
      break;
  }
}

std::vector<uint8_t> SidebandState::to_records(RecordTime time) const {
  std::vector<uint8_t> out;
  for (const auto& [tid, thread] : threads_) {
    const RecordStamp stamp{time, kNoCpu, thread.pid, tid};
    if (!thread.comm.empty()) append_comm_record(out, {thread.pid, tid, thread.comm, false}, stamp);
    if (!thread.namespaces.empty()) append_record(out, perf::kNamespaces, 0, thread.namespaces, stamp);
  }
  for (const auto& [pid, process] : processes_) {
    const RecordStamp stamp{time, kNoCpu, pid, Tid(pid.value())};
    for (const auto& [start, map] : process.maps) append_map_record(out, map, stamp);
  }
  for (const auto& [key, record] : kernel_)
    append_record(out, record.type, record.misc, record.body, {time, kNoCpu, kNoPid, kNoTid});
  return out;
}

size_t SidebandState::map_count() const {
  size_t n = 0;
  for (const auto& [pid, process] : processes_) n += process.maps.size();
  return n;
}

}  // namespace hindcast::capture
