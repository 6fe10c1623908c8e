// Cuts stretches of a trace of the kernel where the thread that runs, or its code, changes.
//
// With only user code traced a stretch is one thread's. With the kernel traced one goes on through context switches, and no
// packet says who runs; but switch records say when, and the clock says which packets are surely before and surely behind. What
// lies between these is a stretch of its own, which nobody is sure to have run. Code that changes is cut out in the same way.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "decode/attribution.h"

namespace hindcast::decode {

struct CutStretches {
  std::vector<Stretch> stretches;
  std::vector<Owner> owners;
};

/// What every stretch but the first of those that were one has: start handover, and begin_ip only where a decoder can start that
/// knows nothing (Paging::ip); but the last: how handover.
///   owners   as attribute() gives them, without user_only
///   slices   of this CPU, those of idle among them
///   changes  when the code of a process, or the kernel's, may have changed: ascending; of kNoPid the kernel's
/// A cut never lies at a PSB. Cost: O(slices + stretches), and for each cut a search in the time map.
CutStretches cut_stretches(const StretchMap& map, std::span<const Owner> owners, const TimeMap& times,
                           std::span<const Slice> slices, const TscConversion& clock,
                           const std::function<std::span<const RecordTime>(Pid)>& changes);

}  // namespace hindcast::decode
