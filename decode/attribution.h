// Who ran: context-switch records to slices, and traced stretches to slices by clocks alone.
//
// With only user code traced no packet says who runs. But a stretch lies inside one slice (a switch is kernel code),
// stretches and slices of a CPU are both in time order, and each has an interval of time. What fits in exactly one way
// is a fact; everything else is left unattributed.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "decode/host_trace.h"
#include "decode/sideband.h"
#include "decode/stretches.h"

namespace hindcast::decode {

/// Builds the slices of one CPU. Feed its switch records, LOST records and the rest in time order.
///   - a task that is shown leaving but not arriving, or the reverse, has an open side
///   - around a LOST record nobody knows who ran: a slice of kNoTid from the record before to the record after it
///   - so before the first switch, when older ones were dropped
class SliceBuilder {
 public:
  explicit SliceBuilder(CpuId cpu) : cpu_(cpu) {}
  /// Switches are missing before the first one that comes.
  void older_were_dropped() { older_dropped_ = true; }
  void add(const SidebandRecord& record);
  /// Nothing could be read from this time on, or from the last record on if that was later.
  void lost_from(RecordTime time);
  /// In time order: neither `in` nor `out` ever decreases. Idle has slices too (tid 0).
  std::vector<Slice> finish();

 private:
  void begin(RecordTime in, Pid pid, Tid tid, bool open_start);
  void end(RecordTime out, bool open_end, bool preempted);
  void on_switch(RecordTime time, const SwitchRecord& s);

  CpuId cpu_;
  std::vector<Slice> slices_;
  bool running_ = false;  // slices_.back() has no end yet
  bool any_switch_ = false;
  bool older_dropped_ = false;
  bool lost_pending_ = false;  // a LOST record came; the next record ends the unknown time
  RecordTime last_{0};         // of the last record
  RecordTime lost_since_{0};
  RecordTime idle_since_{0};  // when the last slice ended
  Pid next_pid_ = kNoPid;     // whom the last "out" record announced
  Tid next_tid_ = kNoTid;
};

inline constexpr uint32_t kNoSlice = 0xffffffffu;

/// Which slices a stretch may lie in: [first, last] by index. certain: it lies in one of them, and all are one known
/// thread's. When it fits nowhere, those that overlap it; kNoSlice when none does: it may be anybody's.
struct Owner {
  uint32_t first = kNoSlice, last = kNoSlice;
  bool certain = false;
};

/// One Owner per stretch.
///   stretches  in stream order, times as the packet scan gives them
///   slices     of this CPU, from SliceBuilder, without those that cannot have been traced
///   user_only  false: a stretch may span switches, so it must surely lie inside its slice
/// Two passes, O(stretches + slices).
std::vector<Owner> attribute(std::span<const Stretch> stretches, std::span<const Slice> slices,
                             const TscConversion& clock, bool user_only);

}  // namespace hindcast::decode
