// One look at who a thread is: its cgroups, its namespaces and its ids inside of pid namespaces, from /proc.
#include "capture/proc_identity.h"

#include <algorithm>
#include <cerrno>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "capture/text_file.h"

namespace hindcast::capture {

namespace {

constexpr size_t kMaxStatus = size_t{16} << 10;

/// As NAMESPACES records have it: the kernel's new_encode_dev().
uint64_t encoded_device(dev_t device) {
  const uint32_t major = ::major(device), minor = ::minor(device);
  return (minor & 0xff) | (major << 8) | ((minor & ~0xffu) << 12);
}

/// The numbers of the line that begins with `name`.
std::vector<int32_t> numbers_of(std::string_view text, std::string_view name) {
  std::vector<int32_t> out;
  size_t at = text.starts_with(name) ? 0 : text.find("\n" + std::string(name));
  if (at == std::string_view::npos) return out;
  at += (at == 0 ? 0 : 1) + name.size();
  std::string_view line = text.substr(at, text.find('\n', at) - at);
  while (out.size() <= identity::kMostLevels) {
    line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
    const auto n = take_number(line, 10);
    if (!n || *n > INT32_MAX) break;
    out.push_back(static_cast<int32_t>(*n));
  }
  return line.empty() ? out : std::vector<int32_t>();
}

}  // namespace

Result<ThreadFolder> ThreadFolder::open(const std::string& proc, Pid pid, Tid tid) {
  ThreadFolder t;
  t.path_ = proc + "/" + std::to_string(pid.value()) + "/task/" + std::to_string(tid.value());
  t.folder_ = Fd(::open(t.path_.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!t.folder_.valid()) return errno_error("cannot read", t.path_);
  return t;
}

Result<std::string> ThreadFolder::read(const char* name, size_t max) const {
  const std::string path = path_ + "/" + name;
  const Fd file(::openat(folder_.get(), name, O_RDONLY | O_CLOEXEC));
  if (!file.valid()) return errno_error("cannot read", path);
  return read_text(file, path, max);
}

Result<std::string> ThreadFolder::cgroup_text() const { return read("cgroup", identity::kMostCgroupText); }

identity::Namespaces ThreadFolder::namespaces(bool& refused) const {
  identity::Namespaces all{};
  for (size_t i = 0; i < all.size(); ++i) {
    struct stat s {};
    const std::string name = "ns/" + std::string(identity::kNamespaceNames[i]);
    if (::fstatat(folder_.get(), name.c_str(), &s, 0) == 0)
      all[i] = {encoded_device(s.st_dev), s.st_ino};
    else
      refused |= errno == EACCES || errno == EPERM;
  }
  return all;
}

std::vector<identity::Ids> ThreadFolder::levels() const {
  const auto status = read("status", kMaxStatus);
  return status ? parse_levels(*status) : std::vector<identity::Ids>();
}

std::vector<identity::Ids> parse_levels(std::string_view status) {
  const std::vector<int32_t> pids = numbers_of(status, "NStgid:"), tids = numbers_of(status, "NSpid:");
  if (pids.size() != tids.size() || pids.size() > identity::kMostLevels) return {};
  std::vector<identity::Ids> out;
  for (size_t i = 0; i < pids.size(); ++i) out.push_back({pids[i], tids[i]});
  return out;
}

Result<std::vector<std::pair<Pid, Tid>>> list_threads(const std::string& proc) {
  HC_TRY(const std::vector<int32_t> pids, numeric_entries(proc));
  std::vector<std::pair<Pid, Tid>> out;
  for (const int32_t pid : pids)
    if (const auto tids = numeric_entries(proc + "/" + std::to_string(pid) + "/task"))
      for (const int32_t tid : *tids) out.emplace_back(Pid(pid), Tid(tid));
  return out;
}

}  // namespace hindcast::capture
