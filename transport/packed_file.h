// Bytes in a file of their own, packed and checksummed piece by piece as a bundle's are: for what can be made again.
//
//   file := (ChunkHeader stored)+      bundle_format.h; offsets have no gaps, `snapshot` says how many there are
#pragma once

#include <string>
#include <vector>

#include "hindcast/bytes.h"
#include "hindcast/result.h"

namespace hindcast::transport {

/// As write_whole(). Packs on all CPUs. bytes: not empty.
Result<void> write_packed(const std::string& path, ByteSpan bytes);

/// What write_packed() wrote. Unpacks on all CPUs. Errors: not_found, io, corrupt; too_large: more than `most` bytes.
Result<std::vector<uint8_t>> read_packed(const std::string& path, uint64_t most);

}  // namespace hindcast::transport
