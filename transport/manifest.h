// The manifest of a bundle (include/hindcast/bundle_format.h): SnapshotInfo as JSON text and back.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "hindcast/cut.h"
#include "hindcast/result.h"

namespace hindcast::transport {

/// One key per line for the scalars, one line per stream, image and placement. parse_manifest gives the same
/// value back.
std::string manifest_text(const SnapshotInfo& info);

struct ParsedManifest {
  SnapshotInfo info;                      // keeps the rules of snapshot_rules.h
  std::vector<uint32_t> left_out;         // ids of streams of a kind that this version does not know
  std::vector<uint32_t> left_out_images;  // and of images
};

/// Errors: bad_input with the first thing that is wrong; version; too_large.
Result<ParsedManifest> parse_manifest(std::string_view text);

}  // namespace hindcast::transport
