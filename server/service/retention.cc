#include "server/service/retention.h"

#include <algorithm>

namespace hindcast::server {

Result<Removed> remove_old(const Keep& keep, uint64_t now_ns, Catalog& catalog, transport::FileSink& sink, Log& log) {
  Removed removed;
  if (keep.bytes == 0 && keep.age.count() == 0) return removed;
  HC_TRY(const auto stored, catalog.stored());
  uint64_t left = 0;
  for (const StoredSnapshot& s : stored) left += s.bytes;
  const uint64_t oldest_ns = static_cast<uint64_t>(keep.age.count()) * 1'000'000'000;
  for (const StoredSnapshot& s : stored) {
    const bool too_much = keep.bytes > 0 && left > keep.bytes;
    const bool too_old = oldest_ns > 0 && now_ns - std::min(now_ns, s.committed_ns) > oldest_ns;
    if (!too_much && !too_old) break;  // the others are younger
    const std::string why = too_old
                                ? "it was older than the " + std::to_string(keep.age.count()) + " s that are kept"
                                : "bundles took more than the " + std::to_string(keep.bytes) + " bytes that are kept";
    // The file goes first: after a crash between the two the check of the store says that it is gone.
    if (auto gone = sink.remove(s.key.host, s.key.incident); !gone.ok() && gone.error().code != Errc::not_found)
      return gone.error();
    HC_TRY(const bool moved, catalog.advance(s.key, SnapshotState::removed, now_ns, 0, "removed: " + why));
    if (moved) log("incident " + s.key.incident + ": removed the bundle of host " + s.key.host + ": " + why);
    left -= s.bytes;
    ++removed.bundles;
    removed.bytes += s.bytes;
  }
  return removed;
}

}  // namespace hindcast::server
