// Records one command into a bundle: `hindcastd --record FILE -- CMD`.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "capture/window.h"

namespace hindcast::capture {

struct RecordConfig {
  std::string output;  // where the bundle goes
  WindowConfig window;
  std::chrono::milliseconds linger{1000};  // for processes that outlive the command
};

struct RecordSummary {
  ChildEnd command;
  bool command_ended = false;  // false: the recording stopped before the command did
  std::vector<StreamInfo> streams;
  size_t images = 0;
  uint64_t image_bytes = 0;
  uint64_t lost_records = 0;           // of sideband
  std::optional<uint64_t> lost_waits;  // none: there are no waits
  uint64_t file_bytes = 0;
  std::vector<std::string> notes;
  /// Some lines for a person, without trailing newline.
  std::string text(const RecordConfig& config, const std::string& source) const;
};

/// Runs the command under `source` and writes the bundle; blocks until both are done.
///   say  words for the person who waits; one line a call
/// SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2 sent to us are forwarded to the command (one from the terminal
/// has reached it already) and the recording is still finished. A second one that is not USR1 or USR2 ends the recording
/// at once and leaves the command running.
/// The command's standard streams, working directory and environment are the caller's. Errors: nothing was recorded, and
/// no file was made.
Result<RecordSummary> record_command(PtSource& source, PerfCalls& calls, const RecordConfig& config,
                                     const std::function<void(const std::string&)>& say);

}  // namespace hindcast::capture
