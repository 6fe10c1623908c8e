// How commands and sizes are written for people.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace hindcast::capture {

/// Words as a shell would read them back.
std::string shell_quoted(const std::vector<std::string>& words);

/// "12.3 MiB".
std::string human_bytes(uint64_t bytes);

}  // namespace hindcast::capture
