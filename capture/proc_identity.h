// One look at who a thread is: its cgroups, its namespaces and its ids inside of pid namespaces, from /proc.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "hindcast/fd.h"
#include "hindcast/identity_record.h"
#include "hindcast/result.h"

namespace hindcast::capture {

/// A thread's folder in /proc, held open: what is read through it is this thread's, even when its id is given to another one.
class ThreadFolder {
 public:
  /// Errors: not_found when it is gone; permission, io.
  static Result<ThreadFolder> open(const std::string& proc, Pid pid, Tid tid);

  /// The file `cgroup` as it is: a line for each hierarchy. Errors: as open(); too_large beyond kMostCgroupText.
  Result<std::string> cgroup_text() const;
  /// The kinds that may not be read, or that this kernel or a dead thread does not have, stay unknown.
  ///   refused  set when some may not be read: other users' need CAP_SYS_PTRACE
  identity::Namespaces namespaces(bool& refused) const;
  /// By NStgid and NSpid; empty where they cannot be read.
  std::vector<identity::Ids> levels() const;

 private:
  Result<std::string> read(const char* name, size_t max) const;
  Fd folder_;
  std::string path_;
};

/// The ids in /proc/PID/status, outermost pid namespace first; empty when the text has not as many of both, or too many.
std::vector<identity::Ids> parse_levels(std::string_view status);

/// Every thread there is now, by process. Errors: proc is no proc file system.
Result<std::vector<std::pair<Pid, Tid>>> list_threads(const std::string& proc);

}  // namespace hindcast::capture
