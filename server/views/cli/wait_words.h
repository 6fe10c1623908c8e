// Records of waits, wakes, messages and packets in words and as JSON.
#pragma once

#include <string>

#include "hindcast/wait_record.h"
#include "server/views/cli/json.h"

namespace hindcast::server::cli {

/// What happened, without when and by whom: "wakes thread 4712", "receives 13 bytes, 10.0.0.1:80 < 10.0.0.2:41000 (fd 4)".
std::string wait_text(const wait::Record& record);
/// "sleep", "wake", ...; "kind N" for what this version does not know.
std::string wait_kind(const wait::Record& record);
/// Its fields under the names of wait_layout.h; those of the header are not repeated. Empty for an unknown kind.
Json wait_fields(const wait::Record& record);

}  // namespace hindcast::server::cli
