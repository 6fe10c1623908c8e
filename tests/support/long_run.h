// How much of a campaign runs: all of it with scripts/test --long; environment variables pick parts.
#pragma once

#include <cstdint>
#include <cstdlib>

namespace hindcast::test {

inline bool long_run() { return std::getenv("HINDCAST_LONG") != nullptr; }

inline uint64_t number_from(const char* variable, uint64_t otherwise) {
  const char* text = std::getenv(variable);
  return text ? std::strtoull(text, nullptr, 10) : otherwise;
}

}  // namespace hindcast::test
