// Reads input files whole, and keeps names from a trace inside their folder.
#include "server/import/input_files.h"

#include <dirent.h>

#include <algorithm>
#include <climits>
#include <cstdlib>
#include <memory>

#include "hindcast/fd.h"

namespace hindcast::server {
namespace {

Result<std::vector<uint8_t>> read_regular(const Fd& fd, const std::string& path, uint64_t limit) {
  struct stat st {};
  if (::fstat(fd.get(), &st) != 0) return errno_error("cannot stat", path);
  if (!S_ISREG(st.st_mode)) return Error{Errc::bad_input, "cannot read " + path + ": not a regular file", {}, {}};
  const auto size = static_cast<uint64_t>(st.st_size);
  if (size > limit)
    return Error{
        Errc::too_large, "cannot read " + path, std::to_string(size) + " bytes; at most " + std::to_string(limit), {}};
  std::vector<uint8_t> bytes(size);
  size_t have = 0;
  while (have < bytes.size()) {
    const ssize_t n = ::read(fd.get(), bytes.data() + have, bytes.size() - have);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno_error("cannot read", path);
    if (n == 0) return Error{Errc::io, "cannot read " + path + ": it became shorter while it was read", {}, {}};
    have += static_cast<size_t>(n);
  }
  return bytes;
}

}  // namespace

Result<std::vector<uint8_t>> read_input_file(const std::string& path, uint64_t limit) {
  // O_NONBLOCK: a pipe must not make us wait before fstat can refuse it.
  Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!fd.valid()) return errno_error("cannot open", path);
  return read_regular(fd, path, limit);
}

const char* unsafe_name(const std::string& name) {
  if (name.empty()) return "it is empty";
  if (name.size() >= PATH_MAX) return "it is too long";
  if (name.find('\0') != name.npos) return "it holds a NUL byte";
  if (name.front() == '/') return "it is absolute";
  for (size_t at = 0; at <= name.size();) {
    const size_t slash = std::min(name.find('/', at), name.size());
    if (name.compare(at, slash - at, "..") == 0) return "it leads out of its folder";
    at = slash + 1;
  }
  return nullptr;
}

std::string shown(const std::string& name) {
  constexpr size_t kLongest = 200;
  std::string out;
  for (const char c : name.substr(0, kLongest)) out += c >= 0x20 && c != 0x7f ? c : '?';
  return name.size() > kLongest ? out + "..." : out;
}

Result<std::vector<uint8_t>> DiskFolder::read(const std::string& name, uint64_t limit) const {
  const auto refused = [&](const char* why) {
    return Error{Errc::bad_input, "refused to open the file \"" + shown(name) + "\" that the trace names", why,
                 "put the file into " + path_ + " and name it relative to there"};
  };
  if (const char* why = unsafe_name(name)) return refused(why);
  const auto resolve = [](const std::string& p) {
    return std::unique_ptr<char, decltype(&std::free)>(::realpath(p.c_str(), nullptr), &std::free);
  };
  const std::string path = path_ + "/" + name;
  const auto folder = resolve(path_), file = resolve(path);
  if (!folder) return errno_error("cannot open", path_);
  if (!file) return errno_error("cannot open", path_ + "/" + shown(name));
  const std::string inside = std::string(folder.get()) == "/" ? "/" : std::string(folder.get()) + "/";
  if (!std::string_view(file.get()).starts_with(inside)) return refused("a symbolic link leads out of its folder");
  return read_input_file(file.get(), limit);
}

Result<std::vector<std::string>> DiskFolder::list() const {
  const std::unique_ptr<DIR, int (*)(DIR*)> dir(::opendir(path_.c_str()), &::closedir);
  if (!dir) return errno_error("cannot open", path_);
  std::vector<std::string> names;
  while (const dirent* entry = ::readdir(dir.get())) {
    if (names.size() == kMaxFolderEntries)
      return Error{
          Errc::too_large, "cannot look through " + path_ + ": too many files", {}, "name the trace file itself"};
    struct stat st {};
    if (::fstatat(::dirfd(dir.get()), entry->d_name, &st, 0) == 0 && S_ISREG(st.st_mode))
      names.push_back(entry->d_name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace hindcast::server
