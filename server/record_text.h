// One perf sideband record as one line of text.
#pragma once

#include <string>

#include "hindcast/perf_record.h"

namespace hindcast::server {

/// "MMAP2", "SWITCH", ...; "type N" for what has no name here.
std::string record_name(uint32_t type);

/// The name and the fields that matter, such as "MMAP2 pid 7 tid 7 [0x1000, 0x3000) off 0x0 r-xp /usr/bin/ls". A body
/// that is too short for its type ends in "(cut short)"; an unknown type shows its length. Control characters of names
/// are written as \xHH, so that a record cannot play tricks on a terminal.
std::string record_text(const perf::Record& record, uint64_t sample_type);

}  // namespace hindcast::server
