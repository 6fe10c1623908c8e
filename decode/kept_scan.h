// What a packet scan found, as bytes: a trace need not be scanned again when it is opened the next time.
#pragma once

#include <vector>

#include "decode/pt_trace.h"
#include "hindcast/bytes.h"

namespace hindcast::decode {

/// About an eighth of a trace with dense timing packets.
std::vector<uint8_t> pack_scan(const PtTrace& trace, const PtTimeConfig& config);

/// Gives the trace, of which bytes and cuts are there, its times and its map. False: `packed` is damaged, or is what another
/// trace, another configuration or another version of the scan gave; times and map then mean nothing. Cost: 2 ns a byte.
bool unpack_scan(ByteSpan packed, const PtTimeConfig& config, PtTrace& trace);

}  // namespace hindcast::decode
