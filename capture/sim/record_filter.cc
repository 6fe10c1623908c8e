#include "capture/sim/record_filter.h"

#include <algorithm>
#include <chrono>
#include <fstream>
#include <iterator>

#include <elf.h>
#include <sys/mman.h>

#include "capture/record_builder.h"

namespace hindcast::sim {
namespace {

// Where QEMU puts guest programs, while a process has not said it itself yet: far below its own mappings.
constexpr uint64_t kLikelyLow = 0x1000, kLikelyHigh = 0x500000000000;
constexpr std::chrono::milliseconds kWaitForWord{30};
constexpr size_t kMaxFiles = 4096;

std::string base_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

std::vector<std::string> command_line(Pid pid) {
  std::ifstream file("/proc/" + std::to_string(pid.value()) + "/cmdline", std::ios::binary);
  std::vector<std::string> words;
  for (std::string word; words.size() < 64 && std::getline(file, word, '\0');) words.push_back(word);
  return words;
}

}  // namespace

std::string guest_program_name(const std::vector<std::string>& argv) {
  static const std::set<std::string> kWithoutValue{"-h",           "-help",           "-strace",   "-singlestep",
                                                   "-version",     "--help",          "--version", "--strace",
                                                   "--singlestep", "-one-insn-per-tb"};
  size_t i = 1;
  while (i < argv.size() && argv[i].size() > 1 && argv[i][0] == '-') {
    if (argv[i] == "--") {
      ++i;
      break;
    }
    i += kWithoutValue.contains(argv[i]) ? 1 : 2;
  }
  return i < argv.size() ? base_name(argv[i]) : std::string{};
}

RecordFilter::RecordFilter(std::function<RecordTime(uint64_t)> to_record_time)
    : to_record_time_(std::move(to_record_time)) {}

void RecordFilter::add_root(Pid pid, const std::string& name) { processes_[pid.value()].name = base_name(name); }

void RecordFilter::heard(const Message& m) {
  {
    std::lock_guard lock(mutex_);
    auto& list = connections_[m.pid];
    if (m.kind == MessageKind::process) {
      Connection c;
      c.process = to_record_time_(m.tsc);
      c.low = m.guest_low;
      c.high = m.guest_high;
      list.push_back(c);
    } else if (m.kind == MessageKind::thread && !list.empty()) {
      list.back().first_thread = std::min(list.back().first_thread, to_record_time_(m.tsc));
    } else if (m.kind == MessageKind::exec) {
      execs_[m.pid] = m.value != 0;
    }
  }
  changed_.notify_all();
}

/// The process's connection since `begun`; call with mutex_ held.
const RecordFilter::Connection* RecordFilter::connection_after(Pid pid, RecordTime begun) const {
  const auto it = connections_.find(pid.value());
  if (it == connections_.end()) return nullptr;
  for (const Connection& c : it->second)
    if (c.process >= begun) return &c;
  return nullptr;
}

capture::RecordFate RecordFilter::filter(perf::Record& record, std::span<uint8_t> whole) {
  switch (record.type) {
    case perf::kSwitch:
    case perf::kSwitchCpuWide:
    case perf::kExit: {
      const auto id = perf::read_sample_id(record, perf::kOurSampleType);
      if (record.type == perf::kExit) {
        const auto task = capture::read_task_record(record);
        if (!task || !helpers_.erase(task->tid.value())) return RecordFate::keep;
        ended_helpers_.insert(task->tid.value());
        return RecordFate::drop;
      }
      return id && is_helper(id->tid) ? RecordFate::drop : RecordFate::keep;
    }
    case perf::kFork:
      return fork(record);
    case perf::kComm:
      return comm(record, whole);
    case perf::kMmap2:
      return map(record, whole);
    default:
      return RecordFate::keep;
  }
}

capture::RecordFate RecordFilter::fork(const perf::Record& record) {
  const auto task = capture::read_task_record(record);
  const auto time = capture::record_time(record, perf::kOurSampleType);
  if (!task || !time) return RecordFate::keep;
  const auto parent = processes_.find(task->parent_pid.value());
  if (parent == processes_.end()) return RecordFate::keep;
  if (task->pid != task->parent_pid) {
    Process child = parent->second;
    child.begun = *time;
    {
      std::lock_guard lock(mutex_);
      if (const Connection* c = connection_after(task->parent_pid, parent->second.begun)) {
        child.low = c->low;
        child.high = c->high;
      }
    }
    processes_[task->pid.value()] = child;
    return RecordFate::keep;
  }
  if (parent->second.native) return RecordFate::keep;
  // A thread. Until the first guest thread announces itself, all threads of the process are QEMU's and the plugin's.
  std::unique_lock lock(mutex_);
  const auto decided = [&] {
    const Connection* c = connection_after(task->pid, parent->second.begun);
    return c && c->first_thread != RecordTime::max();
  };
  changed_.wait_for(lock, kWaitForWord, decided);
  const Connection* c = connection_after(task->pid, parent->second.begun);
  if (c && *time >= c->first_thread) return RecordFate::keep;
  helpers_.insert(task->tid.value());
  return RecordFate::drop;
}

capture::RecordFate RecordFilter::comm(const perf::Record& record, std::span<uint8_t> whole) {
  const auto comm = capture::read_comm_record(record);
  if (!comm) return RecordFate::keep;
  if (is_helper(comm->tid)) return RecordFate::drop;
  const auto process = processes_.find(comm->pid.value());
  if (process == processes_.end() || !comm->exec) return RecordFate::keep;
  const bool first = process->second.begun == RecordTime(0);
  if (const auto time = capture::record_time(record, perf::kOurSampleType)) process->second.begun = *time;
  if (comm->comm.rfind("qemu-x86_64", 0) != 0) {
    process->second.native = true;
    return RecordFate::keep;
  }
  process->second.native = false;
  if (!first) {
    const std::string name = guest_program_name(command_line(comm->pid));
    if (!name.empty()) process->second.name = name;
  }
  // The field is the old name, its NUL and padding to 8 bytes; the new name has that much room.
  constexpr size_t kHeader = 8, kIds = 8;
  const size_t trailer = perf::sample_id_bytes(perf::kOurSampleType);
  if (whole.size() < kHeader + kIds + trailer + 8) return RecordFate::keep;
  const std::span<uint8_t> field = whole.subspan(kHeader + kIds, whole.size() - kHeader - kIds - trailer);
  std::fill(field.begin(), field.end(), uint8_t{0});
  const std::string& name = process->second.name;
  std::copy_n(name.begin(), std::min({name.size(), field.size() - 1, size_t{15}}), field.begin());
  return RecordFate::keep;
}

/// Where QEMU puts the program, [first, second); the likely range while the process has not said it.
std::pair<uint64_t, uint64_t> RecordFilter::program_range(Pid pid, const Process& process) const {
  {
    std::lock_guard lock(mutex_);
    if (const Connection* c = connection_after(pid, process.begun); c && c->high > c->low) return {c->low, c->high};
  }
  if (process.high) return {process.low, process.high};
  return {kLikelyLow, kLikelyHigh};
}

bool RecordFilter::in_program(int32_t pid, uint64_t address) const {
  const auto process = processes_.find(pid);
  if (process == processes_.end() || process->second.native) return true;
  const auto [low, high] = program_range(Pid(pid), process->second);
  return address >= low && address < high;
}

capture::RecordFate RecordFilter::filter(const wait::Record& record, std::span<uint8_t> whole) {
  const auto put = [&](const auto& changed) { std::memcpy(whole.data(), &changed, whole.size()); };
  const wait::Header& h = record.header;
  const auto pair = [&](int32_t woken, uint32_t flags) {
    const bool by_helper = has_helper(h.tid) && !(flags & (wait::kSoftInterrupt | wait::kHardInterrupt));
    return by_helper || has_helper(woken) ? RecordFate::drop : RecordFate::keep;
  };
  if (const auto wake = wait::as<wait::Wake>(record)) return pair(wake->woken_tid, wake->flags);
  if (const auto sent = wait::as<wait::SignalSent>(record)) return pair(sent->to_tid, sent->flags);
  if (has_helper(h.tid)) return RecordFate::drop;
  if (const auto futex = wait::as<wait::Futex>(record))
    return in_program(h.pid, futex->address) ? RecordFate::keep : RecordFate::drop;
  if (auto sleep = wait::as<wait::Sleep>(record); sleep && sleep->on.kind == wait::kFutexObject) {
    if (in_program(h.pid, sleep->on.id)) return RecordFate::keep;
    sleep->on = {};
    sleep->begun = 0;
    put(*sleep);
  } else if (auto taken = wait::as<wait::SignalTaken>(record); taken && taken->handler > 1) {
    taken->handler = 1;
    put(*taken);
  }
  return RecordFate::keep;
}

capture::RecordFate RecordFilter::map(const perf::Record& record, std::span<uint8_t> whole) {
  const auto m = capture::read_map_record(record, perf::kOurSampleType);
  if (!m) return RecordFate::keep;
  const auto process = processes_.find(m->pid.value());
  if (process == processes_.end() || process->second.native) return RecordFate::keep;
  const auto [low, high] = program_range(m->pid, process->second);
  if (m->start < low || m->start >= high || m->length > high - m->start) return RecordFate::drop;
  if (m->path.empty() || m->path[0] != '/' || m->path.rfind("//", 0) == 0) return RecordFate::keep;
  if (!(m->prot & PROT_READ) || (m->prot & PROT_EXEC) || !executable(m->path, m->file_offset, m->length))
    return RecordFate::keep;
  // struct { header; u32 pid, tid; u64 addr, len, pgoff; 24 bytes of file identity; u32 prot, flags; }
  constexpr size_t kMiscAt = 4, kProtAt = 8 + 8 + 24 + 24;
  uint32_t prot = m->prot | PROT_EXEC;
  std::memcpy(whole.data() + kProtAt, &prot, sizeof prot);
  uint16_t misc;
  std::memcpy(&misc, whole.data() + kMiscAt, sizeof misc);
  misc = static_cast<uint16_t>(misc & ~perf::kMiscMmapData);
  std::memcpy(whole.data() + kMiscAt, &misc, sizeof misc);
  return RecordFate::keep;
}

/// Whether the file's bytes at offset would be mapped executable: those of an executable ELF segment, or any of a file
/// that is no ELF file (a program that maps its own code).
bool RecordFilter::executable(const std::string& path, uint64_t offset, uint64_t length) {
  auto it = files_.find(path);
  if (it == files_.end()) {
    if (files_.size() >= kMaxFiles) files_.clear();
    std::vector<Segment> segments;
    std::ifstream file(path, std::ios::binary);
    Elf64_Ehdr header{};
    file.read(reinterpret_cast<char*>(&header), sizeof header);
    if (file && std::memcmp(header.e_ident, ELFMAG, SELFMAG) == 0 && header.e_phentsize == sizeof(Elf64_Phdr) &&
        header.e_phnum < 512) {
      file.seekg(static_cast<std::streamoff>(header.e_phoff));
      for (unsigned i = 0; i < header.e_phnum; ++i) {
        Elf64_Phdr p{};
        if (!file.read(reinterpret_cast<char*>(&p), sizeof p)) break;
        if (p.p_type == PT_LOAD && p.p_filesz) segments.push_back({p.p_offset, p.p_filesz, (p.p_flags & PF_X) != 0});
      }
    }
    it = files_.emplace(path, std::move(segments)).first;
  }
  if (it->second.empty()) return true;
  // Mappings are whole pages, segments are not: the one that begins in the mapping's first page, or spans its begin.
  const auto overlap = [&](const Segment& s) {
    const uint64_t a = std::max(s.offset & ~uint64_t{4095}, offset), b = std::min(s.offset + s.length, offset + length);
    return b > a ? b - a : 0;
  };
  const auto best = std::max_element(it->second.begin(), it->second.end(),
                                     [&](const Segment& x, const Segment& y) { return overlap(x) < overlap(y); });
  return overlap(*best) > 0 && best->executable;
}

}  // namespace hindcast::sim
