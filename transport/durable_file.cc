// Write, fsync, rename, fsync the folder.
#include "transport/durable_file.h"

#include "hindcast/fd.h"
#include "transport/bundle_bytes.h"

namespace hindcast::transport {

Result<void> sync_folder(const std::string& folder) {
  Fd dir(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!dir.valid() || ::fsync(dir.get()) != 0) return errno_error("cannot make the names durable in", folder);
  return {};
}

namespace {

Result<void> replace_file(const std::string& path, ByteSpan bytes, bool durable) {
  const std::string fresh = path + ".new";
  Fd fd(::open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd.valid()) return errno_error("cannot create", fresh);
  const auto failed = [&](const char* action) -> Result<void> {
    Error e = errno_error(action, fresh, "free some space");
    ::unlink(fresh.c_str());
    return e;
  };
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd.get(), bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return failed("cannot write");
    bytes = bytes.subspan(static_cast<size_t>(n));
  }
  if (durable && ::fsync(fd.get()) != 0) return failed("cannot make durable");
  if (::rename(fresh.c_str(), path.c_str()) != 0) return failed("cannot rename");
  if (!durable) return {};
  const size_t slash = path.rfind('/');
  return sync_folder(slash == path.npos ? "." : slash == 0 ? "/" : path.substr(0, slash));
}

}  // namespace

Result<void> write_durable(const std::string& path, ByteSpan bytes) { return replace_file(path, bytes, true); }

Result<void> write_whole(const std::string& path, ByteSpan bytes) { return replace_file(path, bytes, false); }

Result<std::vector<uint8_t>> read_small(const std::string& path, uint64_t most) {
  HC_TRY(const BundleBytes file, BundleBytes::file(path));
  if (file.size() > most) return Error{Errc::too_large, "cannot read " + path + ": it is too long", {}, {}};
  std::vector<uint8_t> bytes(file.size());
  if (!file.read(0, bytes)) return Error{Errc::io, "cannot read " + path, {}, {}};
  return bytes;
}

}  // namespace hindcast::transport
