// The recorded command as a child process: forked first, let go when everything is ready to see it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <sys/resource.h>

#include "hindcast/fd.h"
#include "hindcast/result.h"
#include "hindcast/units.h"

namespace hindcast::capture {

/// How the command ended.
struct ChildEnd {
  bool signaled = false;
  int number = 0;  // exit status, or the signal
  /// "exited with status 3", "was killed by signal 11 (Segmentation fault)".
  std::string text() const;
  /// As a shell reports it: the status, or 128 + signal.
  int shell_status() const { return signaled ? 128 + number : number; }
};

/// Not killed by the destructor: a child that was never released ends by itself, any other runs on.
class Child {
 public:
  /// Forks. The child waits for release() with the caller's standard streams, then gives itself `mask` and `files` (the
  /// signal mask and RLIMIT_NOFILE that the command should have) and executes argv[0] by PATH.
  static Result<Child> fork_stopped(const std::vector<std::string>& argv, const sigset_t& mask, const rlimit& files);

  Pid pid() const { return pid_; }
  /// Lets it run. Returns when it has executed the command. Errors: not_found or permission when it could not.
  Result<void> release();
  /// Readable when the child has ended.
  int end_fd() const { return pidfd_.get(); }
  const Fd& pidfd() const { return pidfd_; }
  /// Collects its end without waiting; none while it runs.
  std::optional<ChildEnd> poll_end();
  void send(int signal);

 private:
  Pid pid_ = kNoPid;
  std::string program_;
  Fd go_, failed_, pidfd_;
  std::optional<ChildEnd> end_;
};

}  // namespace hindcast::capture
