// Answers of a hindcast-server: JSON of limited size and depth into plain values. Pure; nothing in a body is trusted.
#pragma once

#include <string_view>

#include "hindcast/result.h"
#include "server/remote_types.h"

namespace hindcast::server {

inline constexpr size_t kMaxAnswerBytes = size_t{64} << 20;
inline constexpr uint32_t kMaxAnswerDepth = 16;

/// Members that are not known are skipped: a newer server may say more. Errors: bad_input and too_large, naming what was
/// found.
Result<RemoteIncident> read_incident_answer(std::string_view body);
Result<std::vector<RemoteIncident>> read_incidents_answer(std::string_view body);
Result<RemoteStatus> read_status_answer(std::string_view body);

/// The server's own Error for an answer that is not 200 or 201; for a body that is none, what that HTTP status means.
Error read_error_answer(int status, std::string_view body);

}  // namespace hindcast::server
