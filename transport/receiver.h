// The server's end of the transport: lets known hosts in, verifies what they send, hands it to a SnapshotSink, and
// carries freeze orders to them.
//
// Threads: the network thread (socket, verification, callbacks), the store thread (all calls of the sink), the key
// check (zap.h). A host is the name that the allow-list gives its key; what a message says of itself must agree.
// Nothing rests on ZeroMQ's high-water marks: a host may send what it was granted, and grants of all hosts together stay
// below total_bytes. A host that sends more, or what cannot be read, loses its session.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "hindcast/result.h"
#include "transport/host_report.h"
#include "transport/keys.h"
#include "transport/snapshot_sink.h"

namespace hindcast::transport {

struct ReceiverConfig {
  std::string endpoint = "tcp://127.0.0.1:*";  // what to bind; "*": a free port, see Receiver::endpoint()
  KeyPair keys;
  AllowList allowed;
  std::string program = "hindcast-server";     // for people
  uint64_t host_bytes = uint64_t{16} << 20;    // payload bytes that one host may have under way; at least 8 MiB
  uint64_t total_bytes = uint64_t{256} << 20;  // that of all hosts together; open directories: a quarter of it
  uint32_t open_snapshots = 4;                 // of one host
  std::chrono::milliseconds silence{15000};    // a session that says nothing for so long is forgotten
};

/// Sums since start. Each message counts once.
struct ReceiverCounters {
  uint64_t sessions = 0;           // hellos accepted
  uint64_t refused_keys = 0;       // connections turned away: key not in the list
  uint64_t refused_hellos = 0;     // wrong version or name
  uint64_t bad_messages = 0;       // not readable, out of turn, of a revoked key, beyond the credit
  uint64_t bad_payloads = 0;       // wrong sizes, checksums, not what the directory says
  uint64_t unknown_messages = 0;   // bodies of a newer version: ignored
  uint64_t chunks = 0;             // verified and written
  uint64_t duplicate_chunks = 0;   // verified before: ignored
  uint64_t raw_bytes = 0;          // of chunks
  uint64_t stored_bytes = 0;       // of chunks
  uint64_t committed = 0;          // snapshots
  uint64_t committed_before = 0;   // offers of what was committed already
  uint64_t refused_snapshots = 0;  // for good
  uint64_t failed_snapshots = 0;   // for now: disk full and the like
};

struct HostView {
  std::string host;
  bool connected = false;
  std::string program;
  std::vector<std::string> capabilities;
  HostStatus status;                     // the last one heard
  std::chrono::nanoseconds heard_ago{};  // since the last message
  uint32_t open_snapshots = 0;
  uint64_t bytes_under_way = 0;  // granted, not yet stored
};

/// Called on the network thread; must not block, and may call the Receiver's freeze, want and cancel.
struct ReceiverEvents {
  std::function<void(const std::string& host)> connected;
  std::function<void(const std::string& host, const std::string& incident, const std::vector<CpuCover>&)> frozen;
  std::function<void(const std::string& host, const std::string& incident, uint64_t bytes)> durable;
  std::function<void(const std::string& host, const std::string& incident, const Error&)> freeze_failed;
  std::function<void(const std::string& host, const std::string& incident)> committed;  // may be told again
  std::function<void(const std::string& host, const std::string& incident, const Error&)> refused;
  std::function<void(const std::string& line)> say;  // one line for the log; a flood is cut short
};

class Receiver {
 public:
  /// The sink must outlive it. Errors: usage (bad configuration, all at once), io (cannot bind).
  static Result<std::unique_ptr<Receiver>> start(ReceiverConfig config, SnapshotSink& sink, ReceiverEvents events);
  ~Receiver();  // ends all sessions; what is not committed will be resumed

  std::string endpoint() const;  // as bound, with the port

  /// Orders one host to freeze. Remembered until it answers durable or failed, or is cancelled; given again to each new
  /// session; a host heeds an incident once. `age`: since the order was first given, for one that outlived its server.
  /// Errors: usage for names that break names.h; too_large: 64 orders are open.
  Result<void> freeze(const std::string& host, const std::string& incident, const std::string& reason,
                      std::chrono::nanoseconds age = {});
  void cancel_freeze(const std::string& incident);

  /// Asks for these bytes of a snapshot that is under way before the rest (image: when stream is 0).
  void want(const std::string& host, const std::string& incident, uint32_t stream, uint32_t image, uint64_t offset,
            uint64_t bytes);

  /// The allow-list, live: a revoked key is refused from now on, on its open connection too.
  bool allow(const std::string& host, const std::string& public_key);
  bool revoke(const std::string& public_key);
  void replace_allowed(AllowList list);

  ReceiverCounters counters() const;
  std::vector<HostView> hosts() const;  // every host heard of since start, and those with open orders

  struct Impl;

 private:
  explicit Receiver(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace hindcast::transport
