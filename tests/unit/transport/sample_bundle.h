// A small bundle with something of everything, written by BundleWriter, for the tests of this folder.
#pragma once

#include <string>
#include <vector>

#include "hindcast/cut.h"

namespace hindcast::transport {

struct SampleBundle {
  SnapshotInfo info;
  std::vector<std::vector<uint8_t>> streams, images;  // in the order of info.streams, info.images
};

/// Streams: PT that was cut and wrapped, sideband, an empty one. Images: an ELF and a memory copy with a placement.
SampleBundle sample_snapshot(uint32_t salt = 0);

/// Writes the snapshots to a new file and returns its bytes. `preliminary` calls begin_snapshot with the true sizes.
std::vector<uint8_t> written(const std::vector<SampleBundle>& snapshots, bool preliminary);

/// A path in a new folder that lives as long as the test program.
std::string scratch_path(const std::string& name);

}  // namespace hindcast::transport
