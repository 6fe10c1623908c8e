// One packet, one line of text: for `hindcast dump` and golden tests. The format is stable.
//
//   0000002c  TIP       0x0000000000401000  update16 0x1000
//   offset    name      what it says
#pragma once

#include <string>

#include "decode/packet_reader.h"

namespace hindcast::decode {

/// expanded_ip: what expand_ip() gave for this packet; looked at for IP packets only. No newline.
std::string packet_text(const Packet& packet, uint64_t expanded_ip);

/// A line for bytes that are no packet: step is truncated or bad. Shows up to 16 of them in hex.
std::string damage_text(Step step, ByteSpan bytes, uint64_t offset);

}  // namespace hindcast::decode
