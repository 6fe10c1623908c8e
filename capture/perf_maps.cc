#include "capture/perf_maps.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "capture/text_file.h"

namespace hindcast::capture {

namespace {

constexpr size_t kMaxStatus = 65536;

/// The pid that the process itself sees; nothing when it ended.
std::optional<int32_t> own_pid(const std::string& folder) {
  const auto status = read_text_file(folder + "/status", kMaxStatus);
  if (!status) return std::nullopt;
  const std::string key = "\nNSpid:";
  const size_t at = status->find(key);
  if (at == std::string::npos) return std::nullopt;
  const std::string line = status->substr(at + key.size(), status->find('\n', at + 1) - at - key.size());
  const size_t last = line.find_last_of(" \t");
  const auto n = parse_number(line.substr(last == std::string::npos ? 0 : last + 1), 10);
  return n && *n > 0 && *n <= INT32_MAX ? std::optional(static_cast<int32_t>(*n)) : std::nullopt;
}

Fd open_inside(const Fd& root, const char* path) {
  open_how how{};
  how.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  return Fd(static_cast<int>(::syscall(SYS_openat2, root.get(), path, &how, sizeof how)));
}

}  // namespace

void PerfMaps::look(Pid pid) {
  if (found_.count(pid) || found_.size() == kMost) return;
  const std::string folder = proc_ + "/" + std::to_string(pid.value());
  const auto number = own_pid(folder);
  if (!number) return;
  const Fd root(::open((folder + "/root").c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  struct stat owner {
  }, st{};
  if (!root.valid() || ::stat(folder.c_str(), &owner) != 0) return;
  const std::string path = "/tmp/perf-" + std::to_string(*number) + ".map";
  Fd file = open_inside(root, path.c_str() + 1);
  if (!file.valid() || ::fstat(file.get(), &st) != 0 || !S_ISREG(st.st_mode)) return;
  if (st.st_uid != owner.st_uid && st.st_uid != 0) return;
  found_.emplace(pid, Found{path, std::move(file)});
}

std::vector<PerfMaps::Map> PerfMaps::collect(std::vector<std::string>& notes) const {
  std::vector<Map> out;
  for (const auto& [pid, found] : found_) {
    struct stat st {};
    Fd file(::fcntl(found.file.get(), F_DUPFD_CLOEXEC, 3));
    if (!file.valid() || ::fstat(file.get(), &st) != 0) {
      notes.push_back("names missing: " + found.path + " of process " + std::to_string(pid.value()) + ": " +
                      std::strerror(errno));
      continue;
    }
    const uint64_t bytes = std::min(static_cast<uint64_t>(st.st_size), kMostBytes);
    if (bytes < static_cast<uint64_t>(st.st_size))
      notes.push_back("names missing: " + found.path + " of process " + std::to_string(pid.value()) +
                      " has more than " + std::to_string(kMostBytes >> 20) + " MiB");
    if (bytes != 0) out.push_back({pid, found.path, std::move(file), bytes});
  }
  return out;
}

}  // namespace hindcast::capture
