// One snapshot of an open bundle: its bytes, its history, its names, and the overview made of them once.
#pragma once

#include <memory>

#include "decode/host_trace.h"
#include "server/bundle_source.h"
#include "server/place_finder.h"
#include "server/query.h"
#include "transport/bundle_reader.h"

namespace hindcast::server {

/// Members borrow from each other in this order; neither copied nor moved.
struct OpenSnapshot {
  OpenSnapshot(const transport::BundleReader& reader, size_t index, const ScanStore* scans)
      : source(reader, index, scans) {}
  OpenSnapshot(const OpenSnapshot&) = delete;
  OpenSnapshot& operator=(const OpenSnapshot&) = delete;

  BundleSource source;
  std::unique_ptr<decode::HostTrace> trace;
  std::unique_ptr<PlaceFinder> places;
  Overview overview;

  /// Ticks of a record time; unknown() when the snapshot does not relate the two clocks, and for the ends of time.
  TscInterval ticks(RecordTime t) const;
  std::vector<SliceRow> slices(const decode::ThreadInfo& thread) const;
};

/// Errors: as HostTrace::build(). reader, debug_dirs and scans (nullptr: none are kept) are borrowed.
Result<std::unique_ptr<OpenSnapshot>> open_snapshot(const transport::BundleReader& reader, size_t index,
                                                    const std::vector<std::string>& debug_dirs,
                                                    const ScanStore* scans = nullptr);

}  // namespace hindcast::server
