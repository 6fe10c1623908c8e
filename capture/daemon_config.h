// The settings of hindcastd as a service: a TOML file.
#pragma once

#include <chrono>
#include <string>

#include "capture/choose_source.h"
#include "capture/window.h"
#include "transport/sender.h"
#include "transport/spool.h"

namespace hindcast::capture {

struct DaemonConfig {
  transport::SenderConfig sender;  // host is this host's name for all that it makes
  transport::SpoolConfig spool;
  SourceChoice source;
  WindowConfig window;  // the command may be empty
  std::chrono::seconds cooldown{1};
  std::chrono::seconds late{60};  // an order older than this is heeded, and the snapshot says how late that was

  // where keys are read from
  std::string key_file, server_key_file;
};

/// capture/hindcastd.example.toml shows every setting. Paths are relative to `folder`. Errors: bad_input with all that is
/// wrong. Keys are not read.
Result<DaemonConfig> parse_daemon_config(const std::string& text, const std::string& origin, const std::string& folder);

/// The file, and the keys that it names. Errors: also those of the key files.
Result<DaemonConfig> read_daemon_config(const std::string& path);

}  // namespace hindcast::capture
