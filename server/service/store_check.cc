#include "server/service/store_check.h"

#include <sys/stat.h>

#include <filesystem>
#include <map>

#include "hindcast/fd.h"
#include "transport/bundle_reader.h"
#include "transport/durable_file.h"
#include "transport/names.h"

namespace hindcast::server {
namespace {

namespace fs = std::filesystem;

struct File {
  std::string path;
  uint64_t bytes = 0, changed_ns = 0;
};

Result<std::map<SnapshotKey, File>> bundles_below(const std::string& folder) {
  std::map<SnapshotKey, File> all;
  std::error_code error;
  for (fs::directory_iterator host(folder, error), end; !error && host != end; host.increment(error)) {
    const std::string host_name = host->path().filename();
    std::error_code unreadable;
    if (!transport::is_name(host_name) || !host->is_directory(unreadable)) continue;
    for (fs::directory_iterator file(host->path(), error); !error && file != end; file.increment(error)) {
      const std::string incident = file->path().stem();
      struct stat st {};
      if (file->path().extension() != ".hcb" || !transport::is_name(incident) ||
          ::lstat(file->path().c_str(), &st) != 0 || !S_ISREG(st.st_mode))
        continue;
      all[{incident, host_name}] = {
          file->path(), static_cast<uint64_t>(st.st_size),
          static_cast<uint64_t>(st.st_mtim.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(st.st_mtim.tv_nsec)};
    }
    if (error) break;
  }
  if (error) return Error{Errc::io, "cannot list the store " + folder + ": " + error.message(), {}, {}};
  return all;
}

Result<bool> add(Catalog& catalog, const SnapshotKey& key, const File& file, const SnapshotInfo& info) {
  // A crash may have come between the rename and the folder's fsync.
  HC_TRY_VOID(transport::sync_folder(fs::path(file.path).parent_path()));
  const bool uploaded = info.incident != key.incident || info.host != key.host;
  Incident incident;
  incident.id = key.incident;
  // A bundle says what it likes of its time.
  incident.created_ns = uploaded || info.created_unix_ns == 0 || info.created_unix_ns > file.changed_ns
                            ? file.changed_ns
                            : info.created_unix_ns;
  incident.reason = "found in the store";
  incident.trigger = uploaded ? "upload" : "snapshot";
  HostSnapshot snapshot;
  snapshot.host = key.host;
  snapshot.state = SnapshotState::committed;
  snapshot.committed_ns = file.changed_ns;
  snapshot.bytes = file.bytes;
  return catalog.committed(incident, snapshot);
}

}  // namespace

Result<StoreCheck> check_store(Catalog& catalog, const std::string& folder) {
  StoreCheck check;
  HC_TRY(const auto files, bundles_below(folder));
  HC_TRY(const auto rows, catalog.stored());
  std::map<SnapshotKey, uint64_t> known;  // -> bytes
  for (const StoredSnapshot& row : rows) known[row.key] = row.bytes;
  check.bundles = files.size();
  for (const auto& [key, file] : files) {
    const auto row = known.find(key);
    if (row != known.end()) {
      if (row->second != file.bytes)
        check.words.push_back(file.path + " has " + std::to_string(file.bytes) + " bytes; it had " +
                              std::to_string(row->second) + " when it was committed");
      continue;
    }
    const auto reader = transport::BundleReader::open(file.path);
    if (!reader.ok() || reader->snapshot_count() == 0) {
      check.words.push_back("left alone: " + file.path + ": " +
                            (reader.ok() ? "it holds no snapshot" : reader.error().what));
      continue;
    }
    HC_TRY(const bool added, add(catalog, key, file, reader->snapshot(0)));
    check.added += added;
  }
  for (const auto& [key, bytes] : known) {
    if (files.contains(key)) continue;
    HC_TRY(const bool moved, catalog.advance(key, SnapshotState::removed, unix_now_ns(), 0,
                                             "its bundle was not in the store when the server started"));
    check.gone += moved;
  }
  return check;
}

}  // namespace hindcast::server
