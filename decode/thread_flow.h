// What a thread's flow is made of: which parts of which streams, in what order, and what is known to be missing between.
#pragma once

#include <cstdint>
#include <vector>

#include "decode/host_trace_impl.h"

namespace hindcast::decode {

/// Neighbouring stretches of one stream that belong to a thread, or may belong to it.
struct FlowPart {
  const PtStream* stream = nullptr;
  size_t first = 0, last = 0;              // stretches, inclusive
  uint64_t begin = 0, end = ~uint64_t{0};  // of the events' offsets
  TscInterval time;                        // when it ran, by stretches and slices
  size_t gaps = 0;  // of FlowPlan::gaps: so many are told before it, those of earlier parts included
  TscInterval told{Tsc::min(), Tsc::min()};  // no event before these gaps has later bounds
};

struct FlowPlan {
  std::vector<FlowPart> parts;  // in program order; where the clocks leave the order open, by earliest time
  std::vector<FlowEvent> gaps;  // known from the packet scan and sideband alone
  TscInterval told{Tsc::min(), Tsc::min()};  // as FlowPart::told, of the gaps behind the last part
  bool whole_stream = false;                 // one part, which is told as the stream's events are, whoever's they are
};

FlowPlan plan_thread(const HostTrace::Impl& host, const ThreadInfo& thread);
FlowPlan plan_stream(const PtStream& stream);

/// Program order is order in time, so what bounds one event from below bounds all later ones.
inline TscInterval bound_by(const TscInterval& told, const TscInterval& time) {
  const Tsc earliest = std::max(time.earliest, told.earliest);
  return {earliest, std::max({time.latest, told.latest, earliest})};
}

}  // namespace hindcast::decode
