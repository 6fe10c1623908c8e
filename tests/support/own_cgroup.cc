#include "tests/support/own_cgroup.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <vector>

namespace hindcast::test {

namespace {

namespace fs = std::filesystem;

/// Where version 2 is mounted from its first cgroup on; empty: nowhere.
std::string mount_point() {
  std::ifstream mounts("/proc/self/mountinfo");
  std::string line;
  while (std::getline(mounts, line)) {
    std::istringstream words(line);
    std::string id, parent, device, root, at;
    words >> id >> parent >> device >> root >> at;
    if (root == "/" && line.find(" - cgroup2 ") != std::string::npos) return at;
  }
  return {};
}

std::vector<fs::path> innermost_first(const fs::path& folder) {
  std::vector<fs::path> all{folder};
  std::error_code error;
  for (fs::recursive_directory_iterator it(folder, error), end; !error && it != end; it.increment(error))
    if (it->is_directory()) all.push_back(it->path());
  std::sort(all.begin(), all.end(),
            [](const fs::path& a, const fs::path& b) { return a.native().size() > b.native().size(); });
  return all;
}

}  // namespace

OwnCgroup::OwnCgroup(const std::string& name) {
  const std::string mount = mount_point();
  if (mount.empty()) {
    missing_ = "no file system of type cgroup2 is mounted from its first cgroup on";
    return;
  }
  static int made = 0;
  path_ = "/" + name + "-" + std::to_string(::getpid()) + "-" + std::to_string(++made);
  std::error_code error;
  if (fs::create_directory(mount + path_, error))
    folder_ = mount + path_;
  else
    missing_ = "cannot make a cgroup below " + mount + ": " + error.message();
}

OwnCgroup::~OwnCgroup() {
  if (folder_.empty()) return;
  const std::vector<fs::path> all = innermost_first(folder_);
  for (int tries = 0; tries < 500; ++tries) {
    std::error_code error;
    bool gone = true;
    for (const fs::path& f : all) {
      std::ifstream members(f / "cgroup.procs");
      for (int pid = 0; members >> pid;)
        if (pid > 0) ::kill(pid, SIGKILL);
      fs::remove(f, error);  // refused while somebody is in it
      gone &= !fs::exists(f, error);
    }
    if (gone) return;
    ::usleep(10000);
  }
}

std::string OwnCgroup::inside(const std::string& name) const {
  fs::create_directories(fs::path(folder_) / name);
  return (fs::path(folder_) / name).string();
}

bool OwnCgroup::take(int pid, const std::string& folder) const {
  std::ofstream members((folder.empty() ? folder_ : folder) + "/cgroup.procs");
  members << pid << std::flush;
  return members.good();
}

}  // namespace hindcast::test
