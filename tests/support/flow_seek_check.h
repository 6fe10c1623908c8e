// The same events, however they are come by: a flow that is read backwards, from times and from instruction numbers on,
// against one that is read from its beginning.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "decode/host_trace.h"

namespace hindcast::test {

using OpenFlow = std::function<std::unique_ptr<decode::SeekableFlow>()>;

/// What differs first; empty when nothing does.
///   open   the same flow anew; numbered or not
///   walks  how often to go somewhere and to read on from there to and fro
/// `events` counts those of the flow; beyond `most` of them nothing is compared.
std::string seeking_differs(const OpenFlow& open, uint64_t seed, size_t walks, size_t most, size_t& events);

}  // namespace hindcast::test
