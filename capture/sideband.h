// All sideband rings of one host as one stream of records, in an order that respects time across CPUs.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "capture/record_fifo.h"
#include "capture/sideband_ring.h"

namespace hindcast::capture {

struct SidebandConfig {
  std::vector<CpuId> cpus;
  RecordClock clock = RecordClock::perf_default;
  size_t ring_bytes = size_t{4} << 20;  // per CPU
  size_t fault_ring_bytes = size_t{2} << 20;
  uint32_t wakeup_bytes = 128u << 10;  // small values make the daemon trace its own wake-ups
};

enum class RingKind : uint8_t { sideband, page_faults };

/// What one delivered record comes with.
struct Delivered {
  CpuId cpu;  // whose ring it came from
  RingKind ring;
  OrderKey key;
  std::span<uint8_t> bytes;  // the whole record, header included; borrowed, may be changed in place
};

/// Life: open, enable, then drain and deliver again and again; disable, and both once more. One thread.
class Sideband {
 public:
  /// notes gets a line for each thing that the kernel refused. Errors: an event or its ring could not be
  /// made.
  static Result<Sideband> open(PerfCalls& calls, const SidebandConfig& config, std::vector<std::string>& notes);

  /// Adds page faults of one process and of all that it will fork. Call before enable.
  Result<void> watch_page_faults(Pid pid);

  /// Makes a descriptor of wakeup_fds() readable as soon as this process, or one that it will fork, maps code: so that
  /// the file can be opened before it may be deleted. Call before enable.
  Result<void> wake_on_mappings(Pid pid);

  Result<void> enable();
  Result<void> disable();

  /// Follows a CPU that came online after enable(); one that was there before gets a new ring in place of its dead one, whose
  /// records are kept. Errors: its ring cannot be made.
  Result<void> add_cpu(CpuId cpu);

  /// The records' clock now; none when only the kernel can read it (a default clock without user time
  /// conversion).
  std::optional<RecordTime> now() const;

  /// Takes every record out of every ring, into our memory. Stops early for a ring that already has 64 MiB
  /// waiting for delivery: the kernel then drops records of it and says so.
  ///   sink   called for each new record at once, in ring order only; empty: nobody wants to know so early
  void drain(const std::function<void(CpuId, const perf::Record&)>& sink = {});

  /// Hands out waiting records that are no later than `until`, in order of time, each ring's own order kept.
  void deliver(RecordTime until, const std::function<void(Delivered&)>& sink);

  /// The latest time seen in any record; 0 before the first.
  RecordTime newest() const { return RecordTime(newest_); }
  /// Records that arrived after something later than them had been delivered: the promised order was broken.
  /// 0 unless a CPU was stopped for longer than the caller waited between drain and deliver.
  uint64_t late_records() const { return late_; }
  size_t ring_bytes() const;
  const std::vector<CpuId>& cpus() const { return config_.cpus; }
  /// The map page of the first ring: the kernel's time conversion is there.
  const perf_event_mmap_page* page() const;
  /// Descriptors that become readable when a ring should be drained soon. Those of wake_on_mappings hang up for good
  /// when their process ends.
  std::vector<int> wakeup_fds() const;

 private:
  struct Ring {
    CpuId cpu;
    RingKind kind;
    SidebandRing ring;
    RecordFifo waiting;
    uint64_t last_time = 0;
    uint64_t damaged = 0;
  };
  PerfCalls* calls_ = nullptr;
  void take(Ring& ring, const std::function<void(CpuId, const perf::Record&)>& sink);

  SidebandConfig config_;
  perf_event_attr attr_{};  // as the kernel granted it
  std::vector<Ring> rings_;
  std::vector<SidebandRing> alarms_;  // their records only repeat what the rings hold
  uint64_t arrivals_ = 0;
  uint64_t newest_ = 0;
  uint64_t delivered_until_ = 0;
  uint64_t late_ = 0;
};

}  // namespace hindcast::capture
