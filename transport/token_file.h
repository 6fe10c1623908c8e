// The token that requests to a server's HTTP bring along where it wants one.
#pragma once

#include <string>

#include "hindcast/result.h"

namespace hindcast::transport {

/// The first line of a file that only its owner may read. Errors: not_found, io, permission; those of check_token.
Result<std::string> read_token_file(const std::string& path);

/// 16 to 512 printable characters without blanks: it may stand in a header. Errors: bad_input; `from` says where it comes from.
Result<void> check_token(const std::string& token, const std::string& from);

}  // namespace hindcast::transport
