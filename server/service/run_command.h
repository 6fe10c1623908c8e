// A child process whose answer is passed on while it runs: what it writes, in the order of the frames of /v1/run.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "hindcast/fd.h"
#include "hindcast/result.h"

namespace hindcast::server {

struct RunFrame {
  enum class Kind : uint8_t { keep_alive = 0, out = 1, err = 2, exit = 3 };
  Kind kind = Kind::keep_alive;
  std::string bytes;  // exit: 4 bytes, the exit code, little-endian; 128 + N when signal N ended it
};

/// The frame as it is sent: u8 kind, u32 length little-endian, bytes.
std::string frame_bytes(const RunFrame& frame);

struct RunOptions {
  std::string folder;  // where it runs
  std::chrono::seconds limit{};
  std::string cache{};         // HINDCAST_CACHE; empty: it keeps nothing
  bool in_background = false;  // it leaves CPUs to others
};

class RunCommand {
 public:
  /// Starts argv[0], in a process group of its own, with a fixed environment, /dev/null as stdin and no other descriptors of
  /// ours. Short of memory, the kernel kills it before us. Errors: io, not_found, permission.
  static Result<std::unique_ptr<RunCommand>> start(const std::vector<std::string>& argv, const RunOptions& options);
  /// Kills its whole group when it still runs, and reaps it.
  ~RunCommand();

  /// What it wrote next; keep_alive when it wrote nothing for `wait`; once, at the end, exit. Past the limit it is killed, which
  /// stderr says.
  RunFrame next(std::chrono::milliseconds wait);
  /// The exit frame was given.
  bool done() const { return done_; }

 private:
  RunCommand() = default;
  RunFrame end();
  void kill_group();

  pid_t pid_ = -1;
  Fd out_, err_;
  std::chrono::steady_clock::time_point deadline_;
  std::chrono::seconds limit_{};
  bool late_ = false, done_ = false;
};

}  // namespace hindcast::server
