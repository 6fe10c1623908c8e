// The sideband of a snapshot as perf wants it: one list of records in time order, all with the same trailer, every mapping
// of code that we have under a build-id that perf can look up.
#pragma once

#include <cstdint>
#include <set>
#include <vector>

#include "hindcast/perf_record.h"
#include "server/query.h"
#include "server/views/export/code_files.h"

namespace hindcast::server::views {

struct PerfRecords {
  std::vector<uint8_t> bytes;      // trailers as kOurSampleType says
  std::vector<uint64_t> round_at;  // offsets in bytes where a FINISHED_ROUND record may stand
  std::set<uint64_t> ids;          // of the events that the trailers name; 0 is none
  RecordTime first = RecordTime::max(), last{0};
  uint64_t left_out = 0;      // records that perf 6.1 does not know or that its format cannot hold
  uint64_t added = 0;         // mappings for code that no file holds
  bool only_cpu_wide = true;  // no SWITCH record, whose partner is not told
  bool any_switch = false;
};

/// Memory copies and files that were placed without a record get MMAP2 records of their own, again after each record that
/// covers them without having code itself. Errors: those of Query.
Result<PerfRecords> perf_records(Query& query, const Overview& overview, CodeFiles& code);

}  // namespace hindcast::server::views
