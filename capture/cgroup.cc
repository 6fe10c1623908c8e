#include "capture/cgroup.h"

#include <charconv>
#include <filesystem>
#include <fstream>
#include <set>

#include <fcntl.h>

namespace hindcast::capture {

namespace {

namespace fs = std::filesystem;

constexpr const char* kProcs = "cgroup.procs";

void read_members(const fs::path& folder, std::set<Pid>& pids) {
  std::ifstream in(folder / kProcs);
  std::string line;
  while (std::getline(in, line)) {
    int32_t pid = 0;
    const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), pid);
    if (error == std::errc() && end == line.data() + line.size() && pid > 0) pids.insert(Pid(pid));
  }
}

}  // namespace

Result<Cgroup> Cgroup::open(const std::string& path) {
  Cgroup c;
  c.path_ = path;
  c.folder_ = Fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!c.folder_.valid())
    return errno_error("cannot open the cgroup", path,
                       "name its folder, as in /sys/fs/cgroup/system.slice/shop.service");
  std::error_code error;
  if (!fs::exists(fs::path(path) / kProcs, error))
    return Error{Errc::bad_input, path + " is no cgroup", std::string("it has no file ") + kProcs,
                 "name its folder, as in /sys/fs/cgroup/system.slice/shop.service"};
  return c;
}

std::vector<Pid> Cgroup::members() const {
  std::set<Pid> pids;
  read_members(path_, pids);
  std::error_code error;
  for (fs::recursive_directory_iterator it(path_, fs::directory_options::skip_permission_denied, error), end;
       !error && it != end; it.increment(error)) {
    std::error_code ignored;
    if (it->is_directory(ignored) && !it->is_symlink(ignored)) read_members(it->path(), pids);
  }
  return {pids.begin(), pids.end()};
}

}  // namespace hindcast::capture
