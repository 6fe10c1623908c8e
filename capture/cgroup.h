// A control group as the thing to keep a window over: its processes and those of the groups below it.
#pragma once

#include <string>
#include <vector>

#include "hindcast/fd.h"
#include "hindcast/perf_record.h"
#include "hindcast/result.h"

namespace hindcast::capture {

class Cgroup {
 public:
  /// path: its folder in a cgroup file system that perf knows: version 2, or the perf_event hierarchy of version 1.
  /// Errors: not_found, bad_input (no cgroup), permission.
  static Result<Cgroup> open(const std::string& path);

  /// What perf_event_open wants instead of a pid.
  int fd() const { return folder_.get(); }
  const std::string& path() const { return path_; }
  /// Those that are in it now, ascending. It may be empty, and gone later: then nobody is in it.
  std::vector<Pid> members() const;

 private:
  Fd folder_;
  std::string path_;
};

}  // namespace hindcast::capture
