// What ties hosts, catalog and requests together: makes incidents, orders freezes, follows each snapshot until it is committed.
//
// Whatever it acknowledges is in the catalog first. The receiver's events wait in a bounded queue for a thread of their own, so
// that its network thread never waits for the disk; a commit is written at once by the store's thread, before its host is told.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "hindcast/result.h"
#include "server/service/catalog.h"
#include "server/service/log.h"
#include "server/service/webhook.h"
#include "transport/file_sink.h"
#include "transport/receiver.h"

namespace hindcast::server {

struct IncidentCounters {
  uint64_t ordered = 0;         // freeze orders given to hosts, each once
  uint64_t reordered = 0;       // given again because an earlier server had not seen them answered
  uint64_t dropped_events = 0;  // the queue was full: a state shows late
  uint64_t failed_writes = 0;   // of states, to the catalog
};

class Incidents {
 public:
  using Clock = std::chrono::steady_clock;

  Incidents(Catalog& catalog, Log& log);
  ~Incidents();

  /// For Receiver::start and FileSink::create; this must outlive both.
  transport::ReceiverEvents events();
  transport::FileSink::Committed committed();

  /// The receiver is there: orders that no host answered yet are given again. Called once, before the calls below; none of them
  /// may be under way when the receiver goes.
  Result<void> attach(transport::Receiver& receiver, const transport::AllowList& allowed);
  /// The receiver is about to go.
  void detach();
  /// A new allow-list, for the receiver too. Open orders of hosts that it does not name fail.
  Result<void> replace_allowed(const transport::AllowList& allowed);

  /// Orders these hosts to freeze; none: every host that is known (see known_hosts). Errors: not_found for a host that the
  /// allow-list does not name; unavailable when no host of them is connected.
  Result<Incident> order(const std::string& reason, std::vector<std::string> hosts);
  /// All new alerts make one incident, for every known host. Durable when it returns. Errors: unavailable when there are new
  /// alerts and no host is known; nothing is kept then, so that the alert may be sent again.
  Result<AlertOutcome> alert(const AlertBatch& batch);

  /// Until every host has come to `state` or never will, the deadline passes, or stop() is called. Errors: not_found.
  Result<Incident> wait(const std::string& id, SnapshotState state, Clock::time_point deadline);
  /// Wakes every wait(), now and from now on.
  void stop();
  /// To be called after the catalog was changed by others.
  void changed();

  IncidentCounters counters() const;
  /// All hosts of the allow-list and those that are connected, by name; heard_ago is negative for one never heard of.
  Result<std::vector<transport::HostView>> hosts();

 private:
  struct Event {
    enum class Kind : uint8_t { connected, frozen, durable, failed, refused };
    Kind kind;
    std::string host, incident;
    uint64_t bytes = 0;
    Error error;
    uint64_t when_ns = 0;
    bool again = false;  // the catalog could not be written the first time
  };
  void push(Event event);
  void run();
  void handle(Event event);
  struct Commit {
    std::string host, incident;
    uint64_t bytes = 0, when_ns = 0;
  };
  void keep_house();
  Result<void> save(const Commit& commit);
  /// Those that the allow-list names and that are connected, or were heard of within the last hour; `connected`: how many are.
  Result<std::vector<std::string>> known_hosts(size_t& connected);
  Error nobody(const std::vector<std::string>& hosts);
  Incident make(const std::string& reason, const char* trigger, const std::vector<std::string>& hosts);
  void give_orders(const Incident& incident);
  Result<void> drop_orders_of_unknown_hosts();
  std::vector<std::string> allowed() const;

  Catalog& catalog_;
  Log& log_;
  std::atomic<transport::Receiver*> receiver_{nullptr};
  std::mutex receiver_stays_;  // held by our thread while it uses the receiver, and by detach()
  mutable std::mutex
      mutex_;  // guards what follows; never held while the receiver is called, which calls us with its own held
  std::vector<std::string> allowed_;  // hosts, sorted
  std::deque<Event> queue_;
  std::vector<Commit> unsaved_;  // the catalog could not be written
  IncidentCounters counters_;
  uint64_t changes_ = 0;
  bool stopped_ = false;  // waits end
  bool ending_ = false;   // the thread ends
  std::condition_variable more_, changed_;
  Clock::time_point next_heard_{};  // our thread only
  std::deque<Event> unwritten_;     // our thread only: to be handled again
  std::thread thread_;
};

}  // namespace hindcast::server
