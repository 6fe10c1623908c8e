// The sideband window: the newest records of every CPU in bounded memory, and a checkpoint of what older ones
// said.
//
// Two kinds of record, two budgets. Switches and LOST are many, and matter only to the CPU that they happened
// on: each CPU drops its own oldest, so a CPU that idles keeps its last ones however busy the others are.
// Records that describe processes are few and matter to all: the oldest of all CPUs go first, folded into the
// checkpoint in order.
#pragma once

#include <map>
#include <vector>

#include "capture/record_fifo.h"
#include "capture/sideband_state.h"
#include "hindcast/cut.h"

namespace hindcast::capture {

struct SidebandBudget {
  size_t switch_bytes_per_cpu = size_t{64} << 20;
  size_t process_bytes = size_t{64} << 20;  // all CPUs together
};

class SidebandStore {
 public:
  SidebandStore(const SidebandBudget& budget, RecordTime start) : budget_(budget), checkpoint_time_(start) {}

  /// Takes a copy. Keys must not decrease over all calls.
  void add(CpuId cpu, const OrderKey& key, ByteSpan record);

  /// What was known when the recording started; folded records come on top.
  SidebandState& checkpoint() { return checkpoint_; }
  /// That of its records.
  RecordTime checkpoint_time() const { return checkpoint_time_; }

  /// The whole window as streams, without numbers: the checkpoint first (cpu = kNoCpu), then one stream per
  /// CPU in `cpus`, also when it is empty. extra: streams of records from elsewhere, merged into their CPU's
  /// by time. more: records of the checkpoint's time that are put behind it. A copy: the window goes on.
  std::vector<Cut> streams(const std::vector<CpuId>& cpus, const std::vector<Cut>& extra, ByteSpan more = {}) const;

  uint64_t evicted_switches() const { return evicted_switches_; }
  uint64_t folded_records() const { return folded_; }
  /// Records that the kernel said it dropped, in all LOST records seen.
  uint64_t lost_records() const { return lost_; }

 private:
  struct Cpu {
    RecordFifo switches;  // SWITCH, SWITCH_CPU_WIDE, LOST and what else belongs to the CPU alone
    RecordFifo processes;
    std::vector<uint8_t> last_switch;  // the newest evicted switch: who ran when the window of switches begins
    OrderKey last_switch_key;
    bool evicted = false;  // switches
  };
  void evict_switches(Cpu& cpu);
  void fold_oldest();

  SidebandBudget budget_;
  RecordTime checkpoint_time_;
  SidebandState checkpoint_;
  std::map<CpuId, Cpu> cpus_;
  size_t process_bytes_ = 0;
  uint64_t evicted_switches_ = 0, folded_ = 0, lost_ = 0;
};

}  // namespace hindcast::capture
