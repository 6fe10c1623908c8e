// Export of one snapshot as a perf.data file that `perf script --itrace` decodes, with its code in a build-id cache.
#pragma once

#include <string>
#include <vector>

#include "server/query.h"

namespace hindcast::server::views {

struct PerfDataExport {
  std::string file;         // FOLDER/perf.data
  std::string code_folder;  // FOLDER/buildid: for perf --buildid-dir
  uint64_t trace_bytes = 0, records = 0, code_files = 0;
  std::vector<std::string> notes;  // what perf cannot be told, one line each
};

/// Makes `folder` when it is not there. What perf needs of the snapshot is written as it is:
///   PT       one AUXTRACE per stream and cut, byte for byte
///   records  all that perf 6.1 knows, in time order, with one kind of trailer (perf_records.h)
///   code     every image that a record maps, by build-id, so that perf never reads today's files
///   clock    TIME_CONV, and the constants in AUXTRACE_INFO
/// Errors: those of Query; unsupported for a snapshot whose PT belongs to no CPU and no thread; io.
Result<PerfDataExport> export_perf_data(Query& query, size_t snapshot, const std::string& folder);

}  // namespace hindcast::server::views
