// What loading BPF programs through libbpf needs everywhere: its words, errno, and a ring that is drained in bounded steps.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include <bpf/libbpf.h>

#include "hindcast/bytes.h"
#include "hindcast/result.h"

namespace hindcast::capture {

/// From now on libbpf's and libxdp's warnings are kept, not printed: one callback serves the whole process, but each thread
/// keeps its own.
void hush_bpf();
/// errno of a failed libbpf call that returns it negated; 0 when it did not fail.
inline int errno_of(int result) { return result < 0 ? -result : 0; }

/// What programs need.
struct BpfNeeds {
  const char* capabilities;  // as setcap takes them
  const char* kernel;        // one that can run them
};
/// A refused call: what the kernel and libbpf said, their last warning since hush_bpf(), and what to do.
Error bpf_refused(int error, const std::string& proc, const std::string& what, const BpfNeeds& needs);

/// How often programs ran, and for how long: both are 0 unless kernel.bpf_stats_enabled. And how often they could not, since
/// they ran already on that CPU.
struct BpfCost {
  uint64_t runs = 0, ns = 0, missed = 0;
};
/// Of all programs of an object. Asks the kernel: some microseconds.
BpfCost cost_of(const bpf_object* programs);

/// User space's side of a BPF ring buffer.
class BpfRing {
 public:
  /// errno; 0: it is there.
  int open(int map_fd, size_t bytes);
  /// Hands out what is in the ring, oldest first, but no more than it holds: the kernel may write as fast as we read. The
  /// bytes are borrowed for the call of sink.
  void drain(const std::function<void(ByteSpan record)>& sink);

 private:
  struct State {
    const std::function<void(ByteSpan)>* sink = nullptr;
    size_t bytes = 0, taken = 0;
  };
  static int take(void* state, void* data, size_t size);

  std::unique_ptr<State> state_ = std::make_unique<State>();
  std::unique_ptr<ring_buffer, void (*)(ring_buffer*)> ring_{nullptr, ring_buffer__free};
};

}  // namespace hindcast::capture
