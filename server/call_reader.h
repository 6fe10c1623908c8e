// A thread's calls and returns as the items that views show.
#pragma once

#include <memory>

#include "server/open_snapshot.h"
#include "server/query.h"

namespace hindcast::server {

/// The reader borrows the snapshot. Errors: not_found for an unknown thread.
Result<std::unique_ptr<Reader<CallItem>>> read_calls(OpenSnapshot& snapshot, const CallQuestion& question);

}  // namespace hindcast::server
