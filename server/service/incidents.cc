#include "server/service/incidents.h"

#include <sys/stat.h>

#include <algorithm>
#include <utility>

namespace hindcast::server {
namespace {

constexpr size_t kMaxQueue = 4096;
constexpr uint64_t kSecond = 1'000'000'000;
constexpr uint64_t kKnownFor = 3600 * kSecond;
constexpr size_t kMaxErrorBytes = 2000;
constexpr std::chrono::seconds kRound{5}, kHeardEvery{60};

/// Whether a snapshot is at `wanted`, or will never be.
bool settled(SnapshotState state, SnapshotState wanted) {
  return state >= wanted;  // failed and removed are beyond all others
}
static_assert(SnapshotState::failed > SnapshotState::committed && SnapshotState::removed > SnapshotState::committed);

/// "a, b, c"; of many only the first.
std::string list(const std::vector<std::string>& names) {
  constexpr size_t kMost = 20;
  std::string s;
  for (size_t i = 0; i < names.size() && i < kMost; ++i) s += (s.empty() ? "" : ", ") + names[i];
  return names.size() > kMost ? s + " and " + std::to_string(names.size() - kMost) + " more" : s;
}

std::string words_of(const Error& e) {
  return transport::one_line(e.what + (e.found.empty() ? "" : " (" + e.found + ")"), kMaxErrorBytes);
}

}  // namespace

Incidents::Incidents(Catalog& catalog, Log& log) : catalog_(catalog), log_(log), thread_([this] { run(); }) {}

Incidents::~Incidents() {
  {
    std::lock_guard lock(mutex_);
    ending_ = stopped_ = true;
  }
  more_.notify_all();
  changed_.notify_all();
  thread_.join();
}

transport::ReceiverEvents Incidents::events() {
  using Kind = Event::Kind;
  transport::ReceiverEvents e;
  e.connected = [this](const std::string& host) { push({Kind::connected, host, {}, 0, {}, 0}); };
  e.frozen = [this](const std::string& host, const std::string& incident, const std::vector<transport::CpuCover>&) {
    push({Kind::frozen, host, incident, 0, {}, 0});
  };
  e.durable = [this](const std::string& host, const std::string& incident, uint64_t bytes) {
    push({Kind::durable, host, incident, bytes, {}, 0});
  };
  e.freeze_failed = [this](const std::string& host, const std::string& incident, const Error& error) {
    push({Kind::failed, host, incident, 0, error, 0});
  };
  e.refused = [this](const std::string& host, const std::string& incident, const Error& error) {
    push({Kind::refused, host, incident, 0, error, 0});
  };
  e.say = [this](const std::string& line) { log_(line); };
  return e;
}

transport::FileSink::Committed Incidents::committed() {
  return [this](const std::string& host, const std::string& incident, const std::string& path) {
    struct stat st {};
    Commit commit{host, incident, ::stat(path.c_str(), &st) == 0 ? static_cast<uint64_t>(st.st_size) : 0,
                  unix_now_ns()};
    const auto saved = save(commit);
    if (saved.ok()) return;
    // The bundle is safe: a later try, or the next start, brings it into the catalog.
    log_("incident " + incident + ": host " + host +
         " is committed, which the catalog does not show yet: " + saved.error().what);
    std::lock_guard lock(mutex_);
    ++counters_.failed_writes;
    unsaved_.push_back(std::move(commit));
  };
}

void Incidents::push(Event event) {
  event.when_ns = unix_now_ns();
  {
    std::lock_guard lock(mutex_);
    if (queue_.size() >= kMaxQueue) {
      ++counters_.dropped_events;
      return;
    }
    queue_.push_back(std::move(event));
  }
  more_.notify_one();
}

void Incidents::run() {
  auto next_round = Clock::now() + kRound;
  for (;;) {
    Event event;
    {
      std::unique_lock lock(mutex_);
      more_.wait_until(lock, next_round, [this] { return ending_ || !queue_.empty(); });
      if (ending_ && queue_.empty()) return;
      if (!queue_.empty()) {
        event = std::move(queue_.front());
        queue_.pop_front();
      }
    }
    if (!event.host.empty()) handle(std::move(event));
    if (Clock::now() < next_round) continue;
    keep_house();
    next_round = Clock::now() + kRound;
  }
}

/// What is tried again, and when connected hosts were last heard of: to be known after a restart, too.
void Incidents::keep_house() {
  std::vector<Commit> unsaved;
  {
    std::lock_guard lock(mutex_);
    unsaved.swap(unsaved_);
  }
  for (const Commit& commit : unsaved) {
    if (save(commit).ok()) continue;
    std::lock_guard lock(mutex_);
    unsaved_.push_back(commit);
  }
  for (Event& event : std::exchange(unwritten_, {})) handle(std::move(event));
  std::lock_guard staying(receiver_stays_);
  transport::Receiver* receiver = receiver_;
  if (!receiver) return;
  const auto now = Clock::now();
  if (now < next_heard_) return;
  next_heard_ = now + kHeardEvery;
  std::vector<std::string> connected;
  for (const transport::HostView& v : receiver->hosts())
    if (v.connected) connected.push_back(v.host);
  if (auto noted = catalog_.heard(connected, unix_now_ns()); !noted.ok()) log_(noted.error().what);
}

void Incidents::handle(Event event) {
  using Kind = Event::Kind;
  const SnapshotKey key{event.incident, event.host};
  const std::string name = "incident " + event.incident + ": host " + event.host;
  const auto done = [&](const Result<bool>& changed_it, const std::string& words) {
    if (!changed_it.ok()) {
      if (!event.again) log_(words + ", which the catalog does not show yet: " + changed_it.error().what);
      event.again = true;
      std::lock_guard lock(mutex_);
      ++counters_.failed_writes;
      if (unwritten_.size() < kMaxQueue)
        unwritten_.push_back(std::move(event));
      else
        ++counters_.dropped_events;
      return;
    }
    if (!*changed_it) return;
    log_(words);
    changed();
  };
  switch (event.kind) {
    case Kind::connected: {
      log_("host " + event.host + " connected");
      if (auto noted = catalog_.heard({event.host}, event.when_ns); !noted.ok()) log_(noted.error().what);
      return changed();
    }
    case Kind::frozen:
      return done(catalog_.advance(key, SnapshotState::frozen, event.when_ns), name + " is frozen");
    case Kind::durable:
      return done(catalog_.advance(key, SnapshotState::durable, event.when_ns, event.bytes),
                  name + " has its snapshot in the spool, " + std::to_string(event.bytes) + " bytes");
    case Kind::failed:
      return done(catalog_.advance(key, SnapshotState::failed, event.when_ns, 0, words_of(event.error)),
                  name + " made no snapshot: " + words_of(event.error));
    case Kind::refused: {
      // The receiver has said why. What it refuses for good is of these two kinds; the rest is tried again.
      const bool for_good = event.error.code == Errc::usage || event.error.code == Errc::corrupt;
      return done(
          for_good ? catalog_.advance(key, SnapshotState::failed, event.when_ns, 0, words_of(event.error))
                   : catalog_.note(key, words_of(event.error)),
          name + (for_good ? ": its snapshot was refused: " : ": its snapshot must wait: ") + words_of(event.error));
    }
  }
}

Result<void> Incidents::save(const Commit& commit) {
  Incident unknown;  // one that this server did not order
  unknown.id = commit.incident;
  unknown.created_ns = commit.when_ns;
  unknown.reason = "shipped by host " + commit.host + " without an order of this server";
  unknown.trigger = "snapshot";
  HostSnapshot snapshot;
  snapshot.host = commit.host;
  snapshot.state = SnapshotState::committed;
  snapshot.committed_ns = commit.when_ns;
  snapshot.bytes = commit.bytes;
  HC_TRY(const bool is_news, catalog_.committed(unknown, snapshot));
  if (is_news)
    log_("incident " + commit.incident + ": host " + commit.host + " is committed, " + std::to_string(commit.bytes) +
         " bytes");
  changed();
  return {};
}

Result<void> Incidents::drop_orders_of_unknown_hosts() {
  HC_TRY(const auto orders, catalog_.open_orders());
  const std::vector<std::string> named = allowed();
  for (const OpenOrder& order : orders) {
    if (std::binary_search(named.begin(), named.end(), order.key.host)) continue;
    HC_TRY(const bool moved, catalog_.advance(order.key, SnapshotState::failed, unix_now_ns(), 0,
                                              "the server's allow-list no longer names this host"));
    if (moved) changed();
  }
  return {};
}

Result<void> Incidents::attach(transport::Receiver& receiver, const transport::AllowList& allowed) {
  {
    std::lock_guard lock(mutex_);
    allowed_ = allowed.hosts();
  }
  HC_TRY_VOID(drop_orders_of_unknown_hosts());
  HC_TRY(const auto orders, catalog_.open_orders());
  for (const OpenOrder& order : orders) {
    const uint64_t now = unix_now_ns();
    const auto age = std::chrono::nanoseconds(now - std::min(now, order.ordered_ns));
    const auto given = receiver.freeze(order.key.host, order.key.incident, order.reason, age);
    if (!given.ok()) {
      HC_TRY(const bool moved, catalog_.advance(order.key, SnapshotState::failed, now, 0, words_of(given.error())));
      (void)moved;
      continue;
    }
    log_("incident " + order.key.incident + ": host " + order.key.host + " is ordered again to freeze");
    std::lock_guard lock(mutex_);
    ++counters_.reordered;
  }
  receiver_ = &receiver;
  return {};
}

void Incidents::detach() {
  std::lock_guard lock(receiver_stays_);
  receiver_ = nullptr;
}

Result<void> Incidents::replace_allowed(const transport::AllowList& allowed) {
  transport::Receiver* receiver = receiver_;
  HC_CHECK(receiver != nullptr);
  {
    std::lock_guard lock(mutex_);
    allowed_ = allowed.hosts();
  }
  receiver->replace_allowed(allowed);
  return drop_orders_of_unknown_hosts();
}

std::vector<std::string> Incidents::allowed() const {
  std::lock_guard lock(mutex_);
  return allowed_;
}

Result<std::vector<std::string>> Incidents::known_hosts(size_t& connected) {
  transport::Receiver* receiver = receiver_;
  HC_CHECK(receiver != nullptr);
  HC_TRY(const auto heard, catalog_.heard_hosts());
  std::map<std::string, bool> hosts;  // -> connected
  const uint64_t now = unix_now_ns();
  for (const auto& [host, when] : heard)
    if (now - std::min(now, when) <= kKnownFor) hosts[host] = false;
  for (const transport::HostView& v : receiver->hosts())
    if (v.connected) hosts[v.host] = true;
  const std::vector<std::string> named = allowed();
  connected = 0;
  std::vector<std::string> all;
  for (const auto& [host, is_connected] : hosts) {
    if (!std::binary_search(named.begin(), named.end(), host)) continue;
    connected += is_connected;
    all.push_back(host);
  }
  return all;
}

Error Incidents::nobody(const std::vector<std::string>& hosts) {
  const auto heard = catalog_.heard_hosts();
  const uint64_t now = unix_now_ns();
  std::vector<std::string> each;
  for (const std::string& host : hosts) {
    const auto when = heard.ok() && heard->contains(host) ? heard->at(host) : 0;
    each.push_back(
        host + (when == 0 ? " (never heard of)"
                          : " (last heard of " + std::to_string((now - std::min(now, when)) / kSecond) + " s ago)"));
  }
  return {Errc::unavailable, "no host is connected that could freeze",
          each.empty() ? "the allow-list names no host" : "the allow-list names " + list(each),
          "start hindcastd on the hosts, and look at its log when it runs there"};
}

Incident Incidents::make(const std::string& reason, const char* trigger, const std::vector<std::string>& hosts) {
  Incident incident;
  incident.created_ns = unix_now_ns();
  incident.id = new_incident_id(incident.created_ns);
  incident.reason = reason;
  incident.trigger = trigger;
  for (const std::string& host : hosts) {
    HostSnapshot h;
    h.host = host;
    h.ordered_ns = incident.created_ns;
    incident.hosts.push_back(std::move(h));
  }
  return incident;
}

void Incidents::give_orders(const Incident& incident) {
  transport::Receiver* receiver = receiver_;
  std::vector<std::string> given;
  for (const HostSnapshot& h : incident.hosts) {
    const auto order = receiver->freeze(h.host, incident.id, incident.reason);
    if (order.ok()) {
      given.push_back(h.host);
      continue;
    }
    log_("incident " + incident.id + ": " + order.error().what);
    const auto noted =
        catalog_.advance({incident.id, h.host}, SnapshotState::failed, unix_now_ns(), 0, words_of(order.error()));
    if (!noted.ok()) log_(noted.error().what);
  }
  log_("incident " + incident.id + ": ordered " + (given.empty() ? "nobody" : list(given)) +
       " to freeze: " + incident.reason);
  std::lock_guard lock(mutex_);
  counters_.ordered += given.size();
}

Result<Incident> Incidents::order(const std::string& reason, std::vector<std::string> hosts) {
  size_t connected = 0;
  HC_TRY(auto known, known_hosts(connected));
  const std::vector<std::string> named = allowed();
  std::sort(hosts.begin(), hosts.end());
  hosts.erase(std::unique(hosts.begin(), hosts.end()), hosts.end());
  for (const std::string& host : hosts)
    if (!std::binary_search(named.begin(), named.end(), host))
      return Error{Errc::not_found, "no host " + transport::one_line(host, 200) + " is known to this server",
                   named.empty() ? "the allow-list names no host" : "the allow-list names " + list(named),
                   "name one of them, or add the host's key to the allow-list"};
  if (!hosts.empty()) {
    connected = 0;
    for (const transport::HostView& v : receiver_.load()->hosts())
      connected += v.connected && std::binary_search(hosts.begin(), hosts.end(), v.host);
    known = hosts;
  }
  if (connected == 0) return nobody(hosts.empty() ? named : hosts);
  const Incident incident = make(reason, "snapshot", known);
  HC_TRY_VOID(catalog_.add_incident(incident));
  give_orders(incident);
  return incident;
}

Result<AlertOutcome> Incidents::alert(const AlertBatch& batch) {
  if (batch.firing.empty()) return AlertOutcome{};
  size_t connected = 0;
  HC_TRY(const auto known, known_hosts(connected));
  if (known.empty()) {
    HC_TRY(AlertOutcome outcome, catalog_.look_up(batch.firing));
    if (outcome.new_alerts == 0) return outcome;
    return nobody(allowed());
  }
  Incident incident = make(batch.reason, "alert", known);
  incident.alerts = batch.firing;
  HC_TRY(AlertOutcome outcome, catalog_.add_alerts(incident));
  if (outcome.created) give_orders(incident);
  return outcome;
}

Result<Incident> Incidents::wait(const std::string& id, SnapshotState state, Clock::time_point deadline) {
  for (;;) {
    uint64_t seen = 0;
    {
      std::lock_guard lock(mutex_);
      seen = changes_;
    }
    HC_TRY(auto found, catalog_.incident(id));
    if (!found)
      return Error{Errc::not_found, "no incident " + transport::one_line(id, 200), {}, "list them: GET /v1/incidents"};
    const bool all = std::all_of(found->hosts.begin(), found->hosts.end(),
                                 [&](const HostSnapshot& h) { return settled(h.state, state); });
    if (all) return std::move(*found);
    std::unique_lock lock(mutex_);
    const bool more = changed_.wait_until(lock, deadline, [&] { return stopped_ || changes_ != seen; });
    if (!more || stopped_) return std::move(*found);
  }
}

void Incidents::changed() {
  {
    std::lock_guard lock(mutex_);
    ++changes_;
  }
  changed_.notify_all();
}

void Incidents::stop() {
  {
    std::lock_guard lock(mutex_);
    stopped_ = true;
  }
  changed_.notify_all();
}

Result<std::vector<transport::HostView>> Incidents::hosts() {
  HC_TRY(const auto heard, catalog_.heard_hosts());
  std::map<std::string, transport::HostView> views;
  for (const std::string& host : allowed()) views[host].heard_ago = std::chrono::nanoseconds(-1);
  const uint64_t now = unix_now_ns();
  for (const auto& [host, when] : heard)
    if (views.contains(host)) views[host].heard_ago = std::chrono::nanoseconds(now - std::min(now, when));
  for (const transport::HostView& v : receiver_.load()->hosts())
    if (v.connected || !v.program.empty()) views[v.host] = v;
  std::vector<transport::HostView> all;
  for (auto& [host, view] : views) {
    view.host = host;
    all.push_back(std::move(view));
  }
  return all;
}

IncidentCounters Incidents::counters() const {
  std::lock_guard lock(mutex_);
  return counters_;
}

}  // namespace hindcast::server
