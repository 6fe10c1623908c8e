// The BPF programs of waits.bpf.c: loaded, attached, and their ring drained.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "capture/bpf_load.h"
#include "capture/cgroup.h"
#include "hindcast/bytes.h"
#include "hindcast/fd.h"
#include "hindcast/result.h"

namespace hindcast::capture {

struct WaitProbeConfig {
  const Cgroup* cgroup = nullptr;  // its threads; null: those of the processes that follow() names. Borrowed for open()
  size_t ring_bytes = size_t{8} << 20;       // shared with the kernel; a power of two pages
  std::string sys = "/sys", proc = "/proc";  // where the kernel tells of itself
};

/// Nothing is pinned: programs, maps and ring are gone with this object or with this process, however it ends. One thread.
class WaitProbe {
 public:
  /// Loads the programs and attaches them: events come from now on. Errors: permission, unavailable, io, with what was found
  /// and what to do.
  static Result<WaitProbe> open(const WaitProbeConfig& config);
  WaitProbe(WaitProbe&&) noexcept;
  WaitProbe& operator=(WaitProbe&&) noexcept;
  ~WaitProbe();

  /// Takes in the process's main thread, and every thread and process that will descend from it. Not for a cgroup.
  ///   pidfd  of a process that is not running yet: its other threads, and children that it has, stay out
  Result<void> follow(const Fd& pidfd);

  /// Hands out what is in the ring, oldest first, but no more than it held when this began. The bytes are borrowed for the
  /// call of sink. Not one record may be cut: they are whole or not there.
  void drain(const std::function<void(ByteSpan record)>& sink);

  /// Ends the events. What is in the ring can still be drained.
  void detach();

  /// By CPU: events so far that left no record, for want of room or memory. The kernel counts on.
  std::span<const uint64_t> dropped() const;
  /// Events so far at which a program could not run, since it ran already on that CPU. Asks the kernel: some microseconds.
  uint64_t missed() const;

  /// Of all programs. For benchmarks.
  BpfCost cost() const;

 private:
  struct Impl;
  explicit WaitProbe(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace hindcast::capture
