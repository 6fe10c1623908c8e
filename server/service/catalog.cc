#include "server/service/catalog.h"

#include <array>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "hindcast/fd.h"
#include "transport/durable_file.h"

namespace hindcast::server {
namespace {

using Json = nlohmann::json;

/// Step i takes a catalog of schema i to schema i + 1. Never changed once released; added to.
constexpr std::array<const char*, Catalog::kSchema> kMigrations{R"sql(
CREATE TABLE incidents (
  id TEXT PRIMARY KEY, created INTEGER NOT NULL, reason TEXT NOT NULL, trigger TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX incidents_by_time ON incidents (created, id);
CREATE TABLE alerts (
  fingerprint TEXT NOT NULL, starts_at TEXT NOT NULL, incident TEXT NOT NULL REFERENCES incidents (id),
  labels TEXT NOT NULL, annotations TEXT NOT NULL, PRIMARY KEY (fingerprint, starts_at)) WITHOUT ROWID;
CREATE INDEX alerts_by_incident ON alerts (incident);
CREATE TABLE snapshots (
  incident TEXT NOT NULL REFERENCES incidents (id), host TEXT NOT NULL, state TEXT NOT NULL,
  ordered INTEGER NOT NULL, frozen INTEGER NOT NULL, durable INTEGER NOT NULL, committed INTEGER NOT NULL,
  bytes INTEGER NOT NULL, error TEXT NOT NULL, digest TEXT NOT NULL, PRIMARY KEY (incident, host)) WITHOUT ROWID;
CREATE INDEX snapshots_by_state ON snapshots (state, committed);
CREATE TABLE hosts (host TEXT PRIMARY KEY, heard INTEGER NOT NULL) WITHOUT ROWID;
)sql"};

std::string json_of(const Labels& labels) { return Json(labels).dump(-1, ' ', false, Json::error_handler_t::replace); }

Labels labels_of(const std::string& text) {
  Labels labels;
  const Json j = Json::parse(text, nullptr, false);
  if (j.is_object())
    for (const auto& [name, value] : j.items())
      if (value.is_string()) labels[name] = value.get<std::string>();
  return labels;
}

/// Whether a snapshot may go from one state to the other. What is in the store is committed, whatever was said of it before.
bool leads_to(SnapshotState from, SnapshotState to) {
  using enum SnapshotState;
  switch (to) {
    case ordered:
      return false;
    case frozen:
      return from == ordered;
    case durable:
      return from == ordered || from == frozen || from == failed;
    case failed:
      return from == ordered || from == frozen || from == durable;
    case committed:
      return from != committed;
    case removed:
      return from == committed;
  }
  return false;
}

}  // namespace

Result<Catalog::Opened> Catalog::open(const std::string& path) {
  auto opened = open_sound(path);
  if (opened.ok()) return Opened{std::move(*opened), {}};
  if (opened.error().code != Errc::corrupt) return opened.error();
  const std::string aside = path + ".damaged-" + std::to_string(unix_now_ns());
  for (const char* part : {"-wal", "-shm", ""})
    if (std::rename((path + part).c_str(), (aside + part).c_str()) != 0 && errno != ENOENT)
      return errno_error("cannot move the damaged catalog aside:", path + part);
  HC_TRY(auto fresh, open_sound(path));
  return Opened{std::move(fresh), aside};
}

Result<std::unique_ptr<Catalog>> Catalog::open_sound(const std::string& path) {
  HC_TRY(Database db, Database::open(path));
  std::unique_ptr<Catalog> catalog(new Catalog(std::move(db)));
  {
    HC_TRY(Statement check, catalog->db_.prepare("PRAGMA quick_check(1)"));
    HC_TRY(const bool row, check.step());
    if (!row || check.text(0) != "ok")
      return Error{Errc::corrupt, "the catalog " + path + " is damaged", row ? check.text(0) : "", {}};
  }
  HC_TRY(const int64_t schema, catalog->db_.number("PRAGMA user_version"));
  if (schema > kSchema)
    return Error{Errc::version, "cannot use the catalog " + path + ": a newer hindcast-server made it",
                 "schema " + std::to_string(schema) + "; this program knows " + std::to_string(kSchema),
                 "run the newer release, or move the catalog away: a new one is made from the store's bundles"};
  HC_TRY(const int64_t tables, catalog->db_.number("SELECT count(*) FROM sqlite_master"));
  if (schema < 0 || (schema == 0 && tables > 0))
    return Error{Errc::bad_input, "cannot use " + path + ": it is a database of something else",
                 "schema " + std::to_string(schema) + ", " + std::to_string(tables) + " tables and indexes",
                 "give the store a folder of its own"};
  HC_TRY_VOID(catalog->migrate());
  const size_t slash = path.rfind('/');
  HC_TRY_VOID(transport::sync_folder(slash == path.npos ? "." : path.substr(0, slash + 1)));
  return catalog;
}

Result<void> Catalog::migrate() {
  HC_TRY(const int64_t from, db_.number("PRAGMA user_version"));
  for (int64_t i = from; i < kSchema; ++i)
    HC_TRY_VOID(in_transaction([&]() -> Result<void> {
      HC_TRY_VOID(db_.run(kMigrations[static_cast<size_t>(i)]));
      return db_.run("PRAGMA user_version=" + std::to_string(i + 1));
    }));
  return {};
}

Result<void> Catalog::in_transaction(const std::function<Result<void>()>& work) {
  HC_TRY_VOID(db_.run("BEGIN IMMEDIATE"));
  auto done = work();
  if (done.ok()) done = db_.run("COMMIT");
  if (!done.ok()) (void)db_.run("ROLLBACK").ok();  // fails where SQLite did so already
  return done;
}

Result<void> Catalog::insert(const std::string& incident, const HostSnapshot& h, const std::string& digest) {
  HC_TRY(Statement s, db_.prepare("INSERT INTO snapshots VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"));
  s.bind(1, incident).bind(2, h.host).bind(3, name_of(h.state)).bind(4, h.ordered_ns).bind(5, h.frozen_ns);
  s.bind(6, h.durable_ns).bind(7, h.committed_ns).bind(8, h.bytes).bind(9, h.error).bind(10, digest);
  return s.run();
}

Result<void> Catalog::insert(const Incident& incident) {
  HC_TRY(Statement s, db_.prepare("INSERT OR IGNORE INTO incidents VALUES (?, ?, ?, ?)"));
  HC_TRY_VOID(
      s.bind(1, incident.id).bind(2, incident.created_ns).bind(3, incident.reason).bind(4, incident.trigger).run());
  if (db_.changed_rows() == 0)
    return Error{Errc::usage, "incident " + incident.id + " is in the catalog already", {}, "try again"};
  HC_TRY(Statement a, db_.prepare("INSERT INTO alerts VALUES (?, ?, ?, ?, ?)"));
  for (const Alert& alert : incident.alerts) {
    a.bind(1, alert.fingerprint).bind(2, alert.starts_at).bind(3, incident.id);
    HC_TRY_VOID(a.bind(4, json_of(alert.labels)).bind(5, json_of(alert.annotations)).run());
  }
  for (const HostSnapshot& h : incident.hosts) HC_TRY_VOID(insert(incident.id, h, {}));
  return {};
}

Result<void> Catalog::add_incident(const Incident& incident) {
  std::lock_guard lock(mutex_);
  return in_transaction([&] { return insert(incident); });
}

Result<AlertOutcome> Catalog::sort_out(const std::vector<Alert>& alerts, std::vector<Alert>& fresh) {
  AlertOutcome outcome;
  HC_TRY(Statement known, db_.prepare("SELECT incident FROM alerts WHERE fingerprint = ? AND starts_at = ?"));
  for (const Alert& alert : alerts) {
    known.reset();
    HC_TRY(const bool is_known, known.bind(1, alert.fingerprint).bind(2, alert.starts_at).step());
    if (!is_known)
      fresh.push_back(alert);
    else if (outcome.incident.empty())
      outcome.incident = known.text(0);
  }
  outcome.new_alerts = fresh.size();
  return outcome;
}

Result<AlertOutcome> Catalog::look_up(const std::vector<Alert>& alerts) {
  std::lock_guard lock(mutex_);
  std::vector<Alert> fresh;
  return sort_out(alerts, fresh);
}

Result<AlertOutcome> Catalog::add_alerts(const Incident& proposed) {
  std::lock_guard lock(mutex_);
  AlertOutcome outcome;
  HC_TRY_VOID(in_transaction([&]() -> Result<void> {
    Incident fresh = proposed;
    fresh.alerts.clear();
    HC_TRY(outcome, sort_out(proposed.alerts, fresh.alerts));
    if (fresh.alerts.empty()) return {};
    outcome = {true, fresh.id, fresh.alerts.size()};
    return insert(fresh);
  }));
  return outcome;
}

Result<std::optional<SnapshotState>> Catalog::state(const SnapshotKey& key) {
  HC_TRY(Statement s, db_.prepare("SELECT state FROM snapshots WHERE incident = ? AND host = ?"));
  HC_TRY(const bool row, s.bind(1, key.incident).bind(2, key.host).step());
  SnapshotState found{};
  if (!row || !state_of(s.text(0), found)) return std::optional<SnapshotState>();
  return std::optional(found);
}

Result<bool> Catalog::advance(const SnapshotKey& key, SnapshotState to, uint64_t when_ns, uint64_t bytes,
                              const std::string& error) {
  std::lock_guard lock(mutex_);
  HC_TRY(const auto from, state(key));
  if (!from || !leads_to(*from, to)) return false;
  HC_TRY(Statement s,
         db_.prepare("UPDATE snapshots SET state = ?1, error = ?2, bytes = iif(?3 > 0, ?3, bytes), "
                     "frozen = iif(?1 = 'frozen', ?4, frozen), durable = iif(?1 = 'durable', ?4, durable), "
                     "committed = iif(?1 = 'committed', ?4, committed) WHERE incident = ?5 AND host = ?6"));
  s.bind(1, name_of(to)).bind(2, error).bind(3, bytes).bind(4, when_ns).bind(5, key.incident).bind(6, key.host);
  HC_TRY_VOID(s.run());
  return true;
}

Result<bool> Catalog::note(const SnapshotKey& key, const std::string& error) {
  std::lock_guard lock(mutex_);
  HC_TRY(Statement s, db_.prepare("UPDATE snapshots SET error = ?1 WHERE incident = ?2 AND host = ?3 AND error <> ?1 "
                                  "AND state IN ('ordered', 'frozen', 'durable')"));
  HC_TRY_VOID(s.bind(1, error).bind(2, key.incident).bind(3, key.host).run());
  return db_.changed_rows() > 0;
}

Result<bool> Catalog::committed(const Incident& incident, const HostSnapshot& snapshot, const std::string& digest) {
  std::lock_guard lock(mutex_);
  bool changed = false;
  HC_TRY_VOID(in_transaction([&]() -> Result<void> {
    HC_TRY(Statement i, db_.prepare("INSERT OR IGNORE INTO incidents VALUES (?, ?, ?, ?)"));
    HC_TRY_VOID(
        i.bind(1, incident.id).bind(2, incident.created_ns).bind(3, incident.reason).bind(4, incident.trigger).run());
    HC_TRY(const auto from, state({incident.id, snapshot.host}));
    if (from && !leads_to(*from, SnapshotState::committed)) return {};
    changed = true;
    if (!from) return insert(incident.id, snapshot, digest);
    HC_TRY(Statement s, db_.prepare("UPDATE snapshots SET state = 'committed', committed = ?, bytes = ?, error = '', "
                                    "digest = ? WHERE incident = ? AND host = ?"));
    s.bind(1, snapshot.committed_ns).bind(2, snapshot.bytes).bind(3, digest).bind(4, incident.id);
    return s.bind(5, snapshot.host).run();
  }));
  return changed;
}

Result<void> Catalog::set_digest(const SnapshotKey& key, const std::string& digest) {
  std::lock_guard lock(mutex_);
  HC_TRY(Statement s, db_.prepare("UPDATE snapshots SET digest = ? WHERE incident = ? AND host = ?"));
  return s.bind(1, digest).bind(2, key.incident).bind(3, key.host).run();
}

Result<void> Catalog::load(Incident& incident) {
  HC_TRY(Statement a, db_.prepare("SELECT fingerprint, starts_at, labels, annotations FROM alerts WHERE incident = ? "
                                  "ORDER BY fingerprint, starts_at"));
  a.bind(1, incident.id);
  for (;;) {
    HC_TRY(const bool row, a.step());
    if (!row) break;
    incident.alerts.push_back({a.text(0), a.text(1), labels_of(a.text(2)), labels_of(a.text(3))});
  }
  HC_TRY(Statement s, db_.prepare("SELECT host, state, ordered, frozen, durable, committed, bytes, error "
                                  "FROM snapshots WHERE incident = ? ORDER BY host"));
  s.bind(1, incident.id);
  for (;;) {
    HC_TRY(const bool row, s.step());
    if (!row) return {};
    HostSnapshot h;
    h.host = s.text(0);
    if (!state_of(s.text(1), h.state))
      return Error{Errc::corrupt, "the catalog has a snapshot in an unknown state", "'" + s.text(1) + "'", {}};
    const auto number = [&](int column) { return static_cast<uint64_t>(s.number(column)); };
    h.ordered_ns = number(2);
    h.frozen_ns = number(3);
    h.durable_ns = number(4);
    h.committed_ns = number(5);
    h.bytes = number(6);
    h.error = s.text(7);
    incident.hosts.push_back(std::move(h));
  }
}

Result<std::optional<Incident>> Catalog::incident(const std::string& id) {
  std::lock_guard lock(mutex_);
  HC_TRY(Statement s, db_.prepare("SELECT created, reason, trigger FROM incidents WHERE id = ?"));
  HC_TRY(const bool row, s.bind(1, id).step());
  if (!row) return std::optional<Incident>();
  Incident incident{id, static_cast<uint64_t>(s.number(0)), s.text(1), s.text(2), {}, {}};
  HC_TRY_VOID(load(incident));
  return std::optional(std::move(incident));
}

Result<std::vector<Incident>> Catalog::incidents(size_t limit, const std::string& before) {
  std::lock_guard lock(mutex_);
  int64_t newest = INT64_MAX;
  if (!before.empty()) {
    HC_TRY(Statement s, db_.prepare("SELECT created FROM incidents WHERE id = ?"));
    HC_TRY(const bool row, s.bind(1, before).step());
    if (!row) return Error{Errc::not_found, "no incident " + before, {}, "leave before= away to begin at the newest"};
    newest = s.number(0);
  }
  HC_TRY(Statement s, db_.prepare("SELECT id, created, reason, trigger FROM incidents "
                                  "WHERE created < ?1 OR (created = ?1 AND id < ?2) "
                                  "ORDER BY created DESC, id DESC LIMIT ?3"));
  s.bind(1, newest).bind(2, before).bind(3, static_cast<int64_t>(limit));
  std::vector<Incident> all;
  for (;;) {
    HC_TRY(const bool row, s.step());
    if (!row) break;
    all.push_back({s.text(0), static_cast<uint64_t>(s.number(1)), s.text(2), s.text(3), {}, {}});
  }
  for (Incident& incident : all) HC_TRY_VOID(load(incident));
  return all;
}

Result<std::vector<OpenOrder>> Catalog::open_orders() {
  std::lock_guard lock(mutex_);
  HC_TRY(Statement s, db_.prepare("SELECT s.incident, s.host, i.reason, s.ordered FROM snapshots s JOIN incidents i "
                                  "ON i.id = s.incident WHERE s.state IN ('ordered', 'frozen') "
                                  "ORDER BY s.ordered, s.incident, s.host"));
  std::vector<OpenOrder> all;
  for (;;) {
    HC_TRY(const bool row, s.step());
    if (!row) return all;
    all.push_back({{s.text(0), s.text(1)}, s.text(2), static_cast<uint64_t>(s.number(3))});
  }
}

Result<std::vector<StoredSnapshot>> Catalog::stored(uint64_t bytes) {
  std::lock_guard lock(mutex_);
  HC_TRY(Statement s, db_.prepare("SELECT incident, host, bytes, committed, digest FROM snapshots "
                                  "WHERE state = 'committed' AND (?1 = 0 OR bytes = ?1) "
                                  "ORDER BY committed, incident, host"));
  s.bind(1, bytes);
  std::vector<StoredSnapshot> all;
  for (;;) {
    HC_TRY(const bool row, s.step());
    if (!row) return all;
    all.push_back(
        {{s.text(0), s.text(1)}, static_cast<uint64_t>(s.number(2)), static_cast<uint64_t>(s.number(3)), s.text(4)});
  }
}

Result<void> Catalog::heard(const std::vector<std::string>& hosts, uint64_t when_ns) {
  std::lock_guard lock(mutex_);
  return in_transaction([&]() -> Result<void> {
    HC_TRY(Statement s, db_.prepare("INSERT INTO hosts VALUES (?1, ?2) ON CONFLICT (host) "
                                    "DO UPDATE SET heard = max(heard, ?2)"));
    for (const std::string& host : hosts) HC_TRY_VOID(s.bind(1, host).bind(2, when_ns).run());
    return {};
  });
}

Result<std::map<std::string, uint64_t>> Catalog::heard_hosts() {
  std::lock_guard lock(mutex_);
  HC_TRY(Statement s, db_.prepare("SELECT host, heard FROM hosts"));
  std::map<std::string, uint64_t> all;
  for (;;) {
    HC_TRY(const bool row, s.step());
    if (!row) return all;
    all[s.text(0)] = static_cast<uint64_t>(s.number(1));
  }
}

Result<CatalogTotals> Catalog::totals() {
  std::lock_guard lock(mutex_);
  HC_TRY(const int64_t incidents, db_.number("SELECT count(*) FROM incidents"));
  HC_TRY(const int64_t alerts, db_.number("SELECT count(*) FROM alerts"));
  HC_TRY(const int64_t snapshots, db_.number("SELECT count(*) FROM snapshots WHERE state = 'committed'"));
  return CatalogTotals{static_cast<uint64_t>(incidents), static_cast<uint64_t>(alerts),
                       static_cast<uint64_t>(snapshots)};
}

}  // namespace hindcast::server
