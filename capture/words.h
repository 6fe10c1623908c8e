// How commands and sizes are written for people.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "hindcast/result.h"

namespace hindcast::capture {

/// Words as a shell would read them back.
std::string shell_quoted(const std::vector<std::string>& words);

/// What is missing, as a note of one line: "WHAT (FOUND); to have it: FIX". it: "it" or "them".
std::string in_one_line(const Error& e, const char* it);

/// "12.3 MiB".
std::string human_bytes(uint64_t bytes);

/// "7f00ab", without 0x.
std::string hex(uint64_t v);

}  // namespace hindcast::capture
