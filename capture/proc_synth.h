// What ran before the recording began, read from /proc: names of all threads and, when asked, executable
// mappings.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "capture/sideband_state.h"
#include "hindcast/fd.h"
#include "hindcast/result.h"

namespace hindcast::capture {

/// One line of /proc/PID/maps; none when it breaks the format. Octal escapes in the path are resolved. A
/// mapping without a name gets the kernel's record name for it, "//anon".
std::optional<MapRecord> parse_maps_line(std::string_view line, Pid pid);

/// The mappings of a living process in address order. Errors: it ended, or may not be read.
Result<std::vector<MapRecord>> read_maps(const std::string& proc, Pid pid);

struct ProcSynthOptions {
  std::string proc = "/proc";
  bool with_maps = true;  // executable mappings too, not only names
};

/// Puts every thread of every process into the state. Processes that end while they are read are no error:
/// what was read of them stays, their EXIT records end it. notes gets a line when processes may not be read.
/// Errors: `proc` is no proc file system.
Result<void> synthesise_processes(const ProcSynthOptions& options, SidebandState& state,
                                  std::vector<std::string>& notes);

}  // namespace hindcast::capture
