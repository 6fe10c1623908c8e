// LLDB's trace bundle: trace.json and the files that it names.
#pragma once

#include <string_view>

#include "server/import/imported.h"
#include "server/import/input_files.h"

namespace hindcast::server {

/// Understands "cores" with coreId/traceBuffer (LLDB 14, 15) and "cpus" with id/iptTrace (from 16 on), and threads with
/// traceBuffer or iptTrace. Numbers may be JSON numbers or "0x..." or decimal text.
///   PT          one stream per CPU or per thread
///   switches    contextSwitchTrace: the CPU's raw PERF_RECORD_SWITCH_CPU_WIDE records, a sideband stream of that CPU with
///               sample_type TID|TIME, bytes as they are
///   processes   a sideband stream without CPU: one COMM record per thread, at time 0, so that a thread's process is known
///   modules     ELF images, one placement per PT_LOAD in their process: bias = loadAddress - page of the lowest PT_LOAD
/// A module without a file, or whose build-id contradicts its uuid, is left out with a note.
/// Errors: bad_input with the key that is wrong; those of InputFolder; too_large.
Result<Imported> read_lldb_bundle(std::string_view trace_json, const InputFolder& folder);

}  // namespace hindcast::server
