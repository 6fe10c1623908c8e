// The perf-PID.map files of processes: found where the process itself writes them, and read when the window is frozen.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "hindcast/fd.h"
#include "hindcast/units.h"

namespace hindcast::capture {

class PerfMaps {
 public:
  static constexpr uint64_t kMostBytes = uint64_t{256} << 20;  // of one file; what is beyond is left out, with a note
  static constexpr size_t kMost = 1024;                        // files

  explicit PerfMaps(std::string proc = "/proc") : proc_(std::move(proc)) {}

  /// Opens the map of a living process, if it has one by now: /tmp/perf-N.map in its own mount namespace, N as its innermost
  /// pid namespace counts. No link is followed, and a file of another user than the process's or root is none: what a process
  /// may not read must not come into a recording through it.
  void look(Pid pid);

  struct Map {
    Pid pid;
    std::string path;  // as the process names it
    Fd file;           // of its own
    uint64_t bytes;    // now
  };
  std::vector<Map> collect(std::vector<std::string>& notes) const;

 private:
  struct Found {
    std::string path;
    Fd file;
  };
  std::string proc_;
  std::map<Pid, Found> found_;
};

}  // namespace hindcast::capture
