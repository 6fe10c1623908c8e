// A bundle's contents as plain bytes that a test may damage, and back into a bundle with good checksums.
#pragma once

#include <memory>
#include <string>

#include "tests/support/memory_source.h"

namespace hindcast::test {

/// Snapshot 0 of the file; ends the process with the error when it cannot be read.
std::unique_ptr<MemorySnapshot> read_bundle(const std::string& path);

/// Writes it with a preliminary manifest, so that a file cut later still tells what it lacks. Sizes are taken from the
/// bytes; images come first, then sideband, then PT. Ends the process with the error when that fails.
void write_bundle(MemorySnapshot& snapshot, const std::string& path);

}  // namespace hindcast::test
