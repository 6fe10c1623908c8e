// The reference engine: libipt's block decoder behind the FlowDecoder interface.
//
// libipt walks code and packets; this file adds what the contract asks for: code that changes with the thread, typed
// gaps, an interval of time per event, cuts inside the stream, and continuing at the earliest safe packet.
#pragma once

#include <memory>

#include "decode/libipt_code.h"
#include "decode/pt_trace.h"
#include "hindcast/decoder.h"

namespace hindcast::decode {

/// A FlowDecoder over trace. All arguments are borrowed but for code, which is shared. Errors: unsupported when libipt
/// rejects the configuration.
///   Events in a stretch have begin <= offset <= end of it; `enabled` has offset == begin.
///   A stretch that nobody claims (ImageSelector says nullptr) is one gap `unattributed` with its offset and bytes.
///   Resync::psb continues at the next PSB after an error. Resync::earliest also continues where tracing turned on anew
///   or an overflow ended: no TNT bit and no TIP of before can be pending there, and returns that the CPU compressed
///   against calls from before are recognised (the return stack is empty) and become the next gap.
/// Not safe from itself on hostile input alone: code that jumps in circles without using a packet ends in gap desync.
/// Cost: 30-80 ns a branch when the code is known, several times that the first time.
Result<std::unique_ptr<FlowDecoder>> make_libipt_decoder(const PtTrace& trace, const DecodeConfig& config,
                                                         ImageSelector& images, std::shared_ptr<IptCode> code);

}  // namespace hindcast::decode
