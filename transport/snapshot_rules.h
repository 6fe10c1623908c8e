// What every SnapshotInfo in a bundle keeps to: the same rules for the writer, the reader and the importers.
#pragma once

#include <string>
#include <vector>

#include "hindcast/cut.h"

namespace hindcast::transport {

/// The rules that info breaks, one line each, at most about twenty; empty when it keeps them all:
/// counts and text lengths within bundle_format.h, no NUL in texts, ids > 0 and unique, cuts ascending and
/// not beyond the stream, PT codes <= 15, time shift <= 32, placements inside an existing image and not
/// wrapping the address space, from <= to. Sizes of streams are not compared with data here.
std::vector<std::string> broken_rules(const SnapshotInfo& info);

/// The same as one line of text.
std::string joined(const std::vector<std::string>& lines);

}  // namespace hindcast::transport
