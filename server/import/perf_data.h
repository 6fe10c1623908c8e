// A perf.data file of Linux perf with Intel PT: what `perf record -e intel_pt//` writes, and what our export writes.
#pragma once

#include "hindcast/bytes.h"
#include "server/import/imported.h"
#include "server/import/input_files.h"

namespace hindcast::server {

/// True for the first bytes of any perf.data file, also of those that cannot be imported.
bool is_perf_data(ByteSpan file);

/// Understands files (PERFILE2, hindcast/perf_file.h), packed by -z or not; not pipes, not those of big-endian machines.
///   PT         AUXTRACE records of one CPU (or one thread) joined to one stream. Where a snapshot begins or bytes are
///              missing is a cut; what two snapshots of a ring have in common is taken once.
///   records    one sideband stream per CPU and one for what belongs to no CPU, trailers rewritten as kOurSampleType says.
///              SAMPLE records are left out with a note.
///   options    from the attr of the intel_pt event; clock and CPU constants from AUXTRACE_INFO, else TIME_CONV
///   images     files that mappings name, by build-id from `build_ids` (.build-id/xx/rest/elf, perf's cache),
///              else by path from `root`, when the build-ids agree. What is not found is named in a note: its code will
///              be a gap image_missing.
/// Errors: bad_input with the length, offset or count that is wrong; unsupported; too_large.
Result<Imported> read_perf_data(ByteSpan file, const InputFolder& build_ids, const InputFolder& root);

}  // namespace hindcast::server
