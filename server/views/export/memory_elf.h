// Code that stood in memory, as an ELF file: perf reads code from ELF files alone.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "hindcast/bytes.h"

namespace hindcast::server::views {

/// Where the code begins in the file: a page of its own, so that mappings of it are on page boundaries.
inline constexpr uint64_t kMemoryElfCode = 4096;

/// A shared object with one executable segment, the build-id note and one function symbol over all of it.
std::vector<uint8_t> memory_elf(ByteSpan code, const std::array<uint8_t, 20>& build_id, const std::string& name);

}  // namespace hindcast::server::views
