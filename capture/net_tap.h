// The BPF programs of net.bpf.c on one interface: attached, what a dead daemon left there removed, and their ring drained.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "capture/bpf_load.h"
#include "hindcast/bytes.h"
#include "hindcast/result.h"

namespace hindcast::capture {

struct NetTapConfig {
  size_t ring_bytes = size_t{2} << 20;        // shared with the kernel; a power of two pages
  uint32_t most_packets_per_second = 200000;  // told of, on each CPU; more are counted as lost. 0: no limit
  std::string proc = "/proc";
};

struct NetInterface {
  std::string name;
  uint32_t index = 0;
  bool ethernet = true;  // else its packets begin with the IP header
};
/// Those that are up, but loopback, of the network namespace of this thread. Errors: io.
Result<std::vector<NetInterface>> network_interfaces();

/// The programs stay on the interface when the process is killed: nobody but the next NetTap there takes them away. They do
/// nothing then but fill a ring that nobody reads, and let every packet pass. One thread.
class NetTap {
 public:
  /// Takes away programs that a dead daemon left on the interface, loads ours and attaches them: packets are told of from now
  /// on. XDP through libxdp: beside others where the interface has its dispatcher, alone where it has none, never in place of
  /// somebody else's; tc on egress, in front of others. Errors: permission, unavailable, io; also unavailable when another living daemon
  /// taps it.
  static Result<NetTap> open(const NetInterface& interface, const NetTapConfig& config);
  /// Loads the programs and attaches them nowhere: what open() would meet. Errors: permission, unavailable.
  static Result<void> can_load(const NetTapConfig& config);
  NetTap(NetTap&&) noexcept;
  NetTap& operator=(NetTap&&) noexcept;
  /// Takes the programs off.
  ~NetTap();

  const NetInterface& interface() const;
  /// What is not seen there, and why; a line each.
  std::span<const std::string> notes() const;

  /// As WaitProbe::drain().
  void drain(const std::function<void(ByteSpan record)>& sink);
  /// By CPU: packets so far that were not told of, for want of room or since they came too fast. The kernel counts on.
  std::span<const uint64_t> dropped() const;
  /// How often both programs ran, and for how long; 0 unless kernel.bpf_stats_enabled. For benchmarks.
  BpfCost cost() const;

 private:
  struct Impl;
  explicit NetTap(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace hindcast::capture
