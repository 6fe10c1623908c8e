// How fast a bundle is decoded on this machine.
#pragma once

#include <chrono>

#include "server/open_snapshot.h"
#include "server/query.h"

namespace hindcast::server {

/// Decodes every PT stream of an opened snapshot again and again, for about `budget` of wall time in each way. Errors: as
/// HostTrace::stream_flow().
Result<BenchReport> bench_snapshot(OpenSnapshot& snapshot, std::chrono::duration<double> budget,
                                   const Progress& progress);

}  // namespace hindcast::server
