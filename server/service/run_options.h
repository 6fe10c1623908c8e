// Which commands of `hindcast`, with which options, a server runs for others.
#pragma once

#include <string>
#include <vector>

#include "hindcast/result.h"

namespace hindcast::server {

/// Nothing that names a file, in or out. Each option is one word: "--name" or "--name=value", names spelled whole.
/// Errors: usage, saying which options the command has here.
Result<void> check_run(const std::string& command, const std::vector<std::string>& options);

}  // namespace hindcast::server
