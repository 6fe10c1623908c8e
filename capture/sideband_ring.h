// One perf data ring: the kernel writes records into it, we take them out whole.
#pragma once

#include <functional>
#include <vector>

#include "capture/perf_event.h"

namespace hindcast::capture {

/// Owns the event and its map. Read by one thread. When full, the kernel drops records and says so in a LOST
/// record.
class SidebandRing {
 public:
  /// Opens the event and maps a ring of ring_bytes (rounded up to a power of two pages); halves it, down to
  /// 64 KiB, when the kernel refuses to lock so much memory. Errors: from perf_open_error, or the map was
  /// refused. flags: as for PerfCalls::open. proc: where the settings are that a refusal names.
  static Result<SidebandRing> open(PerfCalls& calls, const perf_event_attr& attr, pid_t pid, int cpu, size_t ring_bytes,
                                   const std::string& object, unsigned long flags = 0,
                                   const std::string& proc = "/proc");

  Result<void> enable();
  Result<void> disable();

  /// Hands out every whole record that the ring holds now, oldest first, then gives the space back to the
  /// kernel. The bytes are borrowed for the call of sink. Cost: one copy for records that wrap, none for
  /// others.
  void drain(const std::function<void(ByteSpan record)>& sink);

  /// Records with an impossible size: the ring was damaged there and what it held was skipped. 0 unless the
  /// kernel errs.
  uint64_t damaged() const { return damaged_; }
  size_t ring_bytes() const { return size_; }
  const Fd& fd() const { return fd_; }
  /// The first page of the map. Valid while this lives.
  perf_event_mmap_page* page() const { return static_cast<perf_event_mmap_page*>(map_.data()); }

 private:
  PerfCalls* calls_ = nullptr;
  Fd fd_;
  Mapping map_;
  size_t size_ = 0;
  uint64_t damaged_ = 0;
  std::vector<uint8_t> wrapped_;  // a record put together from the ring's end and its beginning
};

}  // namespace hindcast::capture
