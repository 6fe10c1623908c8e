// The host's end of the transport: ships what is durable in the spool, and brings freeze orders.
//
// One thread does everything: it connects (CURVE), says hello, offers snapshots, sends the map of each (manifest, sideband,
// clocks, PSB maps, images) before PT bytes, and those that the server asks for before the rest. It sends no more than the
// server's credit and the rate limit allow. When anything goes wrong with a session it ends it, waits (longer each time)
// and begins another, in which the server says what it has already: so nothing is lost and duplicates do not matter.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "hindcast/result.h"
#include "transport/host_report.h"
#include "transport/keys.h"
#include "transport/spool.h"

namespace hindcast::transport {

struct SenderConfig {
  std::string endpoint;    // "tcp://server:7411"
  KeyPair keys;            // the host's
  std::string server_key;  // the server's public key: nobody else is talked to
  std::string host;        // its name in the server's allow-list
  std::string program = "hindcastd";
  std::vector<std::string> capabilities;
  uint64_t bytes_per_second = 0;  // of payload; 0: no limit
  std::chrono::milliseconds heartbeat{1000};
  std::chrono::milliseconds silence{8000};  // a session in which the server says nothing for so long is ended
  std::chrono::milliseconds first_backoff{100}, longest_backoff{30000};
};

struct FreezeOrder {
  std::string incident, reason;
  std::chrono::nanoseconds age{};  // since the server first gave it: large when this host was away
};

/// Called on the sender's thread; must not block, and may call the Sender's other functions.
struct SenderEvents {
  /// Once for each incident that is not in the spool yet. To be answered by frozen() and durable(), or freeze_failed().
  std::function<void(const FreezeOrder&)> freeze;
  /// What status() of the server shows; spool fields are filled in by the sender.
  std::function<HostStatus()> status;
  std::function<void(const std::string& incident)> committed;
  std::function<void(const std::string& line)> say;
};

struct SenderCounters {
  uint64_t sessions = 0;         // welcomed by the server
  uint64_t failed_sessions = 0;  // that never got so far, or ended in an error
  uint64_t offers = 0;
  uint64_t chunks = 0;          // sent
  uint64_t skipped_chunks = 0;  // the server had them already
  uint64_t payload_bytes = 0;   // sent, as stored
  uint64_t committed = 0;
  uint64_t freeze_orders = 0;  // passed on
};

class Sender {
 public:
  /// The spool must outlive it. Errors: usage, all that is wrong at once. A server that cannot be reached is none.
  static Result<std::unique_ptr<Sender>> start(SenderConfig config, Spool& spool, SenderEvents events);
  ~Sender();

  /// Answers to a freeze order; also told to the server when nobody ordered it (a local trigger). Repeated by the
  /// sender to each new session as long as the server has not committed the snapshot.
  void frozen(const std::string& incident, std::vector<CpuCover> cpus);
  void durable(const std::string& incident);  // it is in the spool: tell the server, and ship it
  void freeze_failed(const std::string& incident, const Error& error);

  bool connected() const;    // in a session now
  Error last_error() const;  // why the last session ended; empty texts: none did
  SenderCounters counters() const;

  struct Impl;

 private:
  explicit Sender(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace hindcast::transport
