// A decoded flow as the items that views show: events with the names and instructions of their code.
#pragma once

#include <memory>

#include "server/open_snapshot.h"
#include "server/query.h"

namespace hindcast::server {

/// Errors: usage unless exactly one of question.tid, cpu and stream is set; not_found with what there is.
Result<std::unique_ptr<decode::SeekableFlow>> open_cursor(const OpenSnapshot& snapshot, const FlowQuestion& question);

/// The reader borrows the snapshot.
Result<std::unique_ptr<FlowReader>> read_flow(OpenSnapshot& snapshot, const FlowQuestion& question);

}  // namespace hindcast::server
