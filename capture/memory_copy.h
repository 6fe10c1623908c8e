// Bytes that stood in the memory of a process, and where they were code.
#pragma once

#include <string>
#include <vector>

#include "hindcast/cut.h"

namespace hindcast::capture {

struct MemoryCopy {
  std::vector<PlacementInfo> placements;  // image is not set
  std::string path;                       // as MMAP2 records name it
  std::vector<uint8_t> bytes;
};

}  // namespace hindcast::capture
