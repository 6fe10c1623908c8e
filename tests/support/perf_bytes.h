// Writes perf records for tests, one call a record, with the trailer that our own sideband events ask for.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string_view>
#include <vector>

#include "hindcast/perf_record.h"

namespace hindcast::test {

class PerfBytes {
 public:
  explicit PerfBytes(uint32_t cpu = 0) : cpu_(cpu) {}

  /// Who runs and when, for the records that follow.
  PerfBytes& at(uint64_t time, int32_t pid = 0, int32_t tid = 0) {
    time_ = time, pid_ = pid, tid_ = tid;
    return *this;
  }
  PerfBytes& switch_in(uint64_t time, int32_t pid, int32_t tid, int32_t prev_pid = 0, int32_t prev_tid = 0) {
    at(time, pid, tid);
    return record(perf::kSwitchCpuWide, 0, Body().i32(prev_pid).i32(prev_tid));
  }
  PerfBytes& switch_out(uint64_t time, int32_t pid, int32_t tid, int32_t next_pid = 0, int32_t next_tid = 0) {
    at(time, pid, tid);
    return record(perf::kSwitchCpuWide, perf::kMiscSwitchOut, Body().i32(next_pid).i32(next_tid));
  }
  PerfBytes& comm(int32_t pid, int32_t tid, std::string_view name, bool exec = false) {
    return record(perf::kComm, exec ? perf::kMiscCommExec : 0, Body().i32(pid).i32(tid).text(name));
  }
  PerfBytes& mmap(int32_t pid, int32_t tid, uint64_t address, uint64_t length, uint64_t offset, std::string_view path) {
    return record(perf::kMmap, 0, Body().i32(pid).i32(tid).u64(address).u64(length).u64(offset).text(path));
  }
  PerfBytes& mmap2(int32_t pid, int32_t tid, uint64_t address, uint64_t length, uint64_t offset, std::string_view path,
                   const std::vector<uint8_t>& build_id = {}) {
    Body b;
    b.i32(pid).i32(tid).u64(address).u64(length).u64(offset);
    const bool has_id = !build_id.empty();
    std::vector<uint8_t> file(24, 0);  // device and inode, or size of the build-id, 3 bytes, build-id
    if (has_id) file[0] = static_cast<uint8_t>(build_id.size());
    std::copy(build_id.begin(), build_id.end(), file.begin() + 4);
    b.bytes.insert(b.bytes.end(), file.begin(), file.end());
    b.i32(5).i32(2).text(path);
    return record(perf::kMmap2, has_id ? perf::kMiscMmapBuildId : 0, b);
  }
  PerfBytes& fork(int32_t pid, int32_t parent, int32_t tid, int32_t parent_tid) {
    return record(perf::kFork, 0, Body().i32(pid).i32(parent).i32(tid).i32(parent_tid).u64(time_));
  }
  PerfBytes& exit(int32_t pid, int32_t parent, int32_t tid, int32_t parent_tid) {
    return record(perf::kExit, 0, Body().i32(pid).i32(parent).i32(tid).i32(parent_tid).u64(time_));
  }
  PerfBytes& lost(uint64_t count) { return record(perf::kLost, 0, Body().u64(1).u64(count)); }
  PerfBytes& aux(uint64_t offset, uint64_t size, uint64_t flags) {
    return record(perf::kAux, 0, Body().u64(offset).u64(size).u64(flags));
  }
  PerfBytes& ksymbol(uint64_t address, uint32_t length, std::string_view name, bool unregister = false,
                     uint16_t type = 1) {  // 1: BPF; 2: out of line
    return record(perf::kKsymbol, 0, Body().u64(address).u32(length).u16(type).u16(unregister).text(name));
  }
  PerfBytes& bpf_event(uint32_t id, bool load) {
    return record(perf::kBpfEvent, 0, Body().u16(load ? 1 : 2).u16(0).u32(id).u64(0x1122334455667788));
  }
  PerfBytes& raw(std::vector<uint8_t> bytes) {
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
    return *this;
  }

  struct Body {
    std::vector<uint8_t> bytes;
    Body& u16(uint16_t v) { return put(&v, 2); }
    Body& u32(uint32_t v) { return put(&v, 4); }
    Body& i32(int32_t v) { return put(&v, 4); }
    Body& u64(uint64_t v) { return put(&v, 8); }
    Body& text(std::string_view s) {  // with a NUL, padded to 8 bytes
      bytes.insert(bytes.end(), s.begin(), s.end());
      do bytes.push_back(0);
      while (bytes.size() % 8 != 0);
      return *this;
    }

   private:
    Body& put(const void* p, size_t n) {
      bytes.insert(bytes.end(), static_cast<const uint8_t*>(p), static_cast<const uint8_t*>(p) + n);
      return *this;
    }
  };

  PerfBytes& record(uint32_t type, uint16_t misc, Body body) {
    if (type < 64) body.i32(pid_).i32(tid_).u64(time_).i32(static_cast<int32_t>(cpu_)).i32(0).u64(7);
    ByteWriter w(bytes_);
    w.u32(type);
    w.u16(misc);
    w.u16(static_cast<uint16_t>(8 + body.bytes.size()));
    w.bytes(body.bytes);
    return *this;
  }
  const std::vector<uint8_t>& bytes() const { return bytes_; }

 private:
  uint32_t cpu_;
  uint64_t time_ = 0;
  int32_t pid_ = 0, tid_ = 0;
  std::vector<uint8_t> bytes_;
};

}  // namespace hindcast::test
