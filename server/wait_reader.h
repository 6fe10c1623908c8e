// The records of waits, wakes and messages, or of packets, of a snapshot, in order of time.
#pragma once

#include <memory>

#include "server/open_snapshot.h"
#include "server/query.h"

namespace hindcast::server {

/// The reader borrows the snapshot and holds the streams and 16 bytes for each record. Errors: not_found when the snapshot has
/// no such stream; what reading the streams says.
Result<std::unique_ptr<Reader<WaitItem>>> read_waits(OpenSnapshot& snapshot, const WaitQuestion& question);

}  // namespace hindcast::server
