// The INCIDENT.map file of spool.h: to bytes and back, and made again from a bundle.
#pragma once

#include <string>
#include <vector>

#include "hindcast/result.h"
#include "transport/spool.h"

namespace hindcast::transport {

/// Ascending ids: the order that parse_spool_maps wants.
void sort_maps(SpoolMaps& maps);
std::vector<uint8_t> spool_maps_bytes(const SpoolMaps& maps);
/// Errors: corrupt for anything that spool_maps_bytes cannot have written.
Result<SpoolMaps> parse_spool_maps(ByteSpan bytes);
/// Reads and verifies every image and PT stream of the bundle. Errors: those of BundleReader.
Result<SpoolMaps> maps_of_bundle(const std::string& path);

}  // namespace hindcast::transport
