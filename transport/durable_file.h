// Small files and names that survive loss of power.
#pragma once

#include <string>

#include "hindcast/bytes.h"
#include "hindcast/result.h"

namespace hindcast::transport {

/// Makes the names in a folder durable. Errors: io.
Result<void> sync_folder(const std::string& folder);

/// Writes path whole: under another name, fsynced, renamed, its folder fsynced. Mode 0600. After a crash there is the old
/// file or the new one. Errors: io, permission.
Result<void> write_durable(const std::string& path, ByteSpan bytes);

/// The same without fsync, for what can be made again: after a crash it may be missing or damaged.
Result<void> write_whole(const std::string& path, ByteSpan bytes);

/// A regular file of at most `most` bytes. Errors: not_found, io, too_large.
Result<std::vector<uint8_t>> read_small(const std::string& path, uint64_t most);

}  // namespace hindcast::transport
