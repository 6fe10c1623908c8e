// What the store keeps when it may not keep everything: the oldest committed bundles go first.
#pragma once

#include <chrono>

#include "hindcast/result.h"
#include "server/service/catalog.h"
#include "server/service/log.h"
#include "transport/file_sink.h"

namespace hindcast::server {

struct Keep {
  uint64_t bytes = 0;          // of committed bundles together; 0: without end
  std::chrono::seconds age{};  // since the commit; 0: without end
};

struct Removed {
  uint64_t bundles = 0, bytes = 0;
};

/// Removes until the rest is within `keep`; the catalog says "removed" and why. Errors: those of the catalog and the store;
/// what was removed before stays removed.
Result<Removed> remove_old(const Keep& keep, uint64_t now_ns, Catalog& catalog, transport::FileSink& sink, Log& log);

}  // namespace hindcast::server
