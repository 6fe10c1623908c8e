#include "server/service/upload.h"

#include <fcntl.h>
#include <stdio.h>

#include <filesystem>

#include "transport/bundle_bytes.h"
#include "transport/bundle_reader.h"
#include "transport/durable_file.h"
#include "transport/names.h"

namespace hindcast::server {
namespace {

namespace fs = std::filesystem;

Result<void> make_folder(const std::string& path) {
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) return errno_error("cannot make", path);
  return {};
}

/// BLAKE2b-256 of a file, hex.
Result<std::string> digest_of(const std::string& path) {
  HC_TRY(const auto file, transport::BundleBytes::file(path));
  transport::Hasher hasher;
  std::vector<uint8_t> buffer(uint64_t{1} << 20);
  for (uint64_t at = 0; at < file.size();) {
    const size_t n = std::min<uint64_t>(buffer.size(), file.size() - at);
    if (!file.read(at, {buffer.data(), n})) return Error{Errc::io, "cannot read " + path, {}, {}};
    hasher.add({buffer.data(), n});
    at += n;
  }
  return transport::hex(hasher.finish());
}

/// The host of a whole, undamaged bundle.
Result<std::string> verified_host(const std::string& path) {
  auto reader = transport::BundleReader::open(path);
  if (!reader.ok()) {
    Error e = reader.error();
    e.what = "refused: the upload is no bundle: " + e.what;
    return e;
  }
  const auto damage = reader->damage().empty() ? reader->scrub() : reader->damage();
  if (!damage.empty())
    return Error{Errc::corrupt, "refused: the upload is damaged: " + damage[0].what, {}, "upload a whole file"};
  if (reader->snapshot_count() == 0)
    return Error{Errc::bad_input, "refused: the upload holds no snapshot", {}, "upload a bundle that holds one"};
  return as_name(reader->snapshot(0).host);
}

}  // namespace

std::string as_name(const std::string& text) {
  std::string name = text.substr(0, transport::kMaxNameBytes);
  for (char& c : name)
    if (!transport::is_name(std::string_view(&c, 1)) && c != '.' && c != '-') c = '_';
  if (name.empty()) return "unknown";
  if (!transport::is_name(name.substr(0, 1))) name[0] = 'x';
  return name;
}

Result<std::unique_ptr<Uploads>> Uploads::create(const std::string& folder, uint64_t most_bytes, Catalog& catalog,
                                                 transport::FileSink& sink, Log& log, Put put) {
  HC_TRY_VOID(make_folder(folder));
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    std::error_code failed;
    if (it->path().extension() == ".part") fs::remove(it->path(), failed);
  }
  if (error) return Error{Errc::io, "cannot list " + folder + ": " + error.message(), {}, {}};
  return std::unique_ptr<Uploads>(new Uploads(folder, most_bytes, catalog, sink, log, std::move(put)));
}

Result<std::unique_ptr<Upload>> Uploads::begin() {
  std::string path;
  {
    std::lock_guard lock(mutex_);
    path = folder_ + "/" + std::to_string(++next_) + ".part";
  }
  Fd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!file.valid()) return errno_error("cannot create", path);
  return std::unique_ptr<Upload>(new Upload(*this, std::move(path), std::move(file)));
}

/// The incident of a stored bundle with exactly this content; empty: none.
Result<std::string> Uploads::find(uint64_t bytes, const std::string& digest) {
  HC_TRY(const auto same_size, catalog_.stored(bytes));
  for (const StoredSnapshot& s : same_size) {
    std::string theirs = s.digest;
    if (theirs.empty()) {
      auto computed = digest_of(sink_.path_of(s.key.host, s.key.incident));
      if (!computed.ok()) continue;
      theirs = *computed;
      HC_TRY_VOID(catalog_.set_digest(s.key, theirs));
    }
    if (theirs == digest) return s.key.incident;
  }
  return std::string();
}

Upload::~Upload() {
  if (!kept_) ::unlink(path_.c_str());
  if (!kept_) uploads_.sink_.release(bytes_);
}

Result<void> Upload::write(ByteSpan bytes) {
  if (bytes.size() > uploads_.most_bytes_ - bytes_)
    return Error{Errc::too_large, "refused: the upload is larger than this server takes",
                 "at most " + std::to_string(uploads_.most_bytes_) + " bytes", "raise the server's limit"};
  HC_TRY_VOID(uploads_.sink_.reserve(bytes.size()));
  hasher_.add(bytes);
  bytes_ += bytes.size();
  while (!bytes.empty()) {
    const ssize_t n = ::write(file_.get(), bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno_error("cannot write", path_, "free some space on the server");
    bytes = bytes.subspan(static_cast<size_t>(n));
  }
  return {};
}

Result<UploadOutcome> Upload::finish(const std::string& reason) {
  HC_TRY(const std::string host, verified_host(path_));
  if (::fsync(file_.get()) != 0) return errno_error("cannot make durable", path_);
  const std::string digest = transport::hex(hasher_.finish());

  std::lock_guard lock(uploads_.putting_);
  HC_TRY(const std::string there, uploads_.find(bytes_, digest));
  if (!there.empty()) return UploadOutcome{there, false};
  Incident incident;
  incident.created_ns = unix_now_ns();
  incident.id = new_incident_id(incident.created_ns);
  incident.reason = reason;
  incident.trigger = "upload";
  HostSnapshot snapshot;
  snapshot.host = host;
  snapshot.state = SnapshotState::committed;
  snapshot.committed_ns = incident.created_ns;
  snapshot.bytes = bytes_;
  const std::string path = uploads_.sink_.path_of(host, incident.id);
  const std::string folder = fs::path(path).parent_path();
  HC_TRY_VOID(make_folder(folder));
  if (::renameat2(AT_FDCWD, path_.c_str(), AT_FDCWD, path.c_str(), RENAME_NOREPLACE) != 0)
    return errno_error("cannot rename", path_ + " to " + path);
  const auto noted = [&]() -> Result<bool> {
    HC_TRY_VOID(transport::sync_folder(folder));
    HC_TRY_VOID(transport::sync_folder(fs::path(folder).parent_path()));
    return uploads_.catalog_.committed(incident, snapshot, digest);
  }();
  if (!noted.ok()) {
    ::unlink(path.c_str());
    return noted.error();
  }
  kept_ = true;
  uploads_.log_("incident " + incident.id + ": uploaded, host " + host + ", " + std::to_string(bytes_) +
                " bytes: " + reason);
  if (uploads_.put_) uploads_.put_(host, incident.id);
  return UploadOutcome{incident.id, true};
}

}  // namespace hindcast::server
