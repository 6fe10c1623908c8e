// Makes the catalog agree with the bundles that are in the store: run when a server starts, before anything is received.
#pragma once

#include <string>
#include <vector>

#include "hindcast/result.h"
#include "server/service/catalog.h"

namespace hindcast::server {

struct StoreCheck {
  uint64_t bundles = 0;            // files FOLDER/HOST/INCIDENT.hcb
  uint64_t added = 0;              // of these, those that the catalog did not show as committed
  uint64_t gone = 0;               // committed in the catalog, not in the folder: removed there now
  std::vector<std::string> words;  // one line for each bundle that cannot be read, or has another size than it had
};

/// `folder` is that of the FileSink. What the catalog has not heard of (a kill between a bundle's rename and the catalog, a new
/// catalog) is added with what the bundle says of itself. Errors: io; those of the catalog.
Result<StoreCheck> check_store(Catalog& catalog, const std::string& folder);

}  // namespace hindcast::server
