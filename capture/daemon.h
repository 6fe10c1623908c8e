// hindcastd as a service: keeps a window over a command, freezes it when the server orders it, spools what it took, and ships
// it.
//
//   armed ──order──▶ freezing ──rings copied: "frozen"──▶ writing ──in the spool: "durable"──▶ cooldown ──▶ armed
//
// The window goes on all the time. One thread drives it; what was taken is compressed and written by another, one snapshot
// at a time, so that memory stays bounded: orders wait meanwhile. The Sender's thread ships.
#pragma once

#include "capture/daemon_config.h"

namespace hindcast::capture {

/// Runs until SIGTERM or SIGINT; then ends the command (TERM, and KILL after 5 s), finishes what is frozen, and returns.
/// When the command ends by itself the window stays as it is and is still frozen on demand. Errors: nothing could be
/// started, or the source cannot go on.
Result<void> run_daemon(PtSource& source, PerfCalls& calls, const DaemonConfig& config, const Window::Say& say);

}  // namespace hindcast::capture
