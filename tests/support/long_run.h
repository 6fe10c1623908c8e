// Whether campaigns run their full counts: scripts/test --long.
#pragma once

#include <cstdlib>

namespace hindcast::test {

inline bool long_run() { return std::getenv("HINDCAST_LONG") != nullptr; }

}  // namespace hindcast::test
