// What the server knows of incidents, alerts, snapshots and hosts, in SQLite. The store's files are the truth: a catalog that is
// lost is rebuilt from them (store_check.h), all but the alerts and what never became a bundle.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "hindcast/result.h"
#include "server/service/incident.h"
#include "server/service/sqlite.h"

namespace hindcast::server {

struct SnapshotKey {
  std::string incident, host;
  auto operator<=>(const SnapshotKey&) const = default;
};

struct StoredSnapshot {
  SnapshotKey key;
  uint64_t bytes = 0;
  uint64_t committed_ns = 0;
  std::string digest;  // BLAKE2b-256 of the file, hex; empty: not computed yet
};

struct OpenOrder {
  SnapshotKey key;
  std::string reason;
  uint64_t ordered_ns = 0;
};

struct AlertOutcome {
  bool created = false;   // the proposed incident is in the catalog now
  std::string incident;   // it, or the one that the first alert belongs to already
  size_t new_alerts = 0;  // how many it has
};

struct CatalogTotals {
  uint64_t incidents = 0, alerts = 0, snapshots = 0;  // snapshots: committed
};

/// Thread-safe. Every change is durable when its call returns. Errors of every call: io (also: disk full), corrupt.
class Catalog {
 public:
  static constexpr int kSchema = 1;

  struct Opened {
    std::unique_ptr<Catalog> catalog;
    std::string moved_aside;  // a damaged catalog was found, and is kept under this name; this one is new
  };
  /// Errors: also version, for a catalog of a newer release; bad_input, for a database of something else.
  static Result<Opened> open(const std::string& path);

  /// With its alerts and hosts. Errors: also usage, when the id is taken.
  Result<void> add_incident(const Incident& incident);
  /// How many of these are new, and the incident of the first that is not.
  Result<AlertOutcome> look_up(const std::vector<Alert>& alerts);
  /// Adds the incident with those of its alerts that are not known; nothing when none is new.
  Result<AlertOutcome> add_alerts(const Incident& proposed);

  /// Moves a snapshot on: sets its state, that state's time, the error, and bytes unless 0. False: it is not in the catalog, or
  /// is further already.
  Result<bool> advance(const SnapshotKey& key, SnapshotState state, uint64_t when_ns, uint64_t bytes = 0,
                       const std::string& error = {});
  /// Why a snapshot that is not committed does not get on. False: as advance(), or it says so already.
  Result<bool> note(const SnapshotKey& key, const std::string& error);
  /// A bundle is in the store, whether or not the catalog has heard of it. `incident` says what it belongs to when it has not.
  /// False: it says so already.
  Result<bool> committed(const Incident& incident, const HostSnapshot& snapshot, const std::string& digest = {});
  Result<void> set_digest(const SnapshotKey& key, const std::string& digest);

  Result<std::optional<Incident>> incident(const std::string& id);
  /// Newest first; `before`: only older ones than this (not_found when there is none of that id); empty: from the newest.
  Result<std::vector<Incident>> incidents(size_t limit, const std::string& before = {});
  /// Neither durable nor given up: to be ordered again by a server that starts.
  Result<std::vector<OpenOrder>> open_orders();
  /// Committed, longest ago first. bytes: only those of this size; 0: all.
  Result<std::vector<StoredSnapshot>> stored(uint64_t bytes = 0);

  Result<void> heard(const std::vector<std::string>& hosts, uint64_t when_ns);
  Result<std::map<std::string, uint64_t>> heard_hosts();  // host -> when, ns since 1970

  Result<CatalogTotals> totals();

 private:
  explicit Catalog(Database db) : db_(std::move(db)) {}
  static Result<std::unique_ptr<Catalog>> open_sound(const std::string& path);
  Result<void> migrate();
  Result<void> in_transaction(const std::function<Result<void>()>& work);
  Result<void> insert(const Incident& incident);
  Result<void> insert(const std::string& incident, const HostSnapshot& host, const std::string& digest);
  Result<AlertOutcome> sort_out(const std::vector<Alert>& alerts, std::vector<Alert>& fresh);
  Result<std::optional<SnapshotState>> state(const SnapshotKey& key);
  Result<void> load(Incident& incident);

  std::mutex mutex_;
  Database db_;
};

}  // namespace hindcast::server
