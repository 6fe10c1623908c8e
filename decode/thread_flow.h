// How flows are walked: which parts of which streams make up a thread, in what order.
#pragma once

#include <cstdint>
#include <vector>

#include "decode/host_trace_impl.h"

namespace hindcast::decode {

/// Neighbouring stretches of one stream that belong to a thread, or may belong to it; or a gap between stretches in which
/// it may have run.
struct FlowPart {
  const PtStream* stream = nullptr;
  const Event* gap = nullptr;                 // of the packet scan; then first and last mean nothing
  size_t first = 0, last = 0;                 // stretches, inclusive
  TscInterval time;                           // when it ran, by stretches and slices
  RecordTime in{0}, out = RecordTime::max();  // of the slices it lies in
};

/// A thread's parts in its program order. Parts whose order the clocks leave open follow each other in the order of their
/// earliest times.
std::vector<FlowPart> thread_parts(const HostTrace::Impl& host, Tid tid, const TscInterval& time);

}  // namespace hindcast::decode
