// Both engines over one stream: do they tell the same story?
#pragma once

#include <functional>
#include <optional>

#include "decode/host_trace.h"

namespace hindcast::decode {

struct EngineDifference {
  uint64_t stretch = 0, offset = 0;   // in the stream; of the libipt engine's event, or else ours
  std::optional<Event> fast, libipt;  // nothing: that engine says no more of this stretch
  std::optional<Event> before;        // the last one that both told
};

struct EngineComparison {
  uint64_t stretches = 0;    // compared
  uint64_t events = 0;       // told by both
  uint64_t beside_gaps = 0;  // stretches of which one engine says that it lost a part: what they tell may differ
  uint64_t different = 0;    // stretches that both claim to know, and do not tell alike
  std::optional<EngineDifference> first;
};

/// Compares blocks and control events stretch by stretch: kinds, addresses, counts, and that the times overlap; not offsets
/// and bounds of time, which the fast engine knows more closely. Where a stretch ends in what nobody knows (overflow, cut,
/// end of the stream, damage) libipt may tell one block more: the one whose branch no packet shows any more.
///   told      called with each event of the fast engine; may be empty.
///   progress  called now and then with the offset in the stream; may be empty.
EngineComparison compare_flows(std::unique_ptr<FlowCursor> fast, std::unique_ptr<FlowCursor> libipt,
                               const std::function<void(const Event&)>& told = {},
                               const std::function<void(uint64_t)>& progress = {});

/// The same of a stream. Errors: as HostTrace::stream_flow().
Result<EngineComparison> compare_engines(const HostTrace& host, uint32_t stream, Resync resync,
                                         const std::function<void(const Event&)>& told = {},
                                         const std::function<void(uint64_t)>& progress = {});

}  // namespace hindcast::decode
