// Packets and sideband records of a snapshot as lines of text.
#pragma once

#include <memory>

#include "server/open_snapshot.h"
#include "server/query.h"

namespace hindcast::server {

/// The readers borrow the snapshot. Streams come in the order of the snapshot, one after the other.
/// Errors: not_found when no stream matches; what reading the first stream says.
Result<std::unique_ptr<Reader<TextItem>>> read_packets(OpenSnapshot& snapshot, const TextQuestion& question);
Result<std::unique_ptr<Reader<TextItem>>> read_records(OpenSnapshot& snapshot, const TextQuestion& question);

}  // namespace hindcast::server
