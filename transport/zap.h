// Who may connect: ZeroMQ's authentication protocol (ZAP, RFC 27) answered from an allow-list that may change.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "hindcast/result.h"
#include "transport/keys.h"

namespace zmq {
class context_t;
}

namespace hindcast::transport {

/// An allow-list that several threads use. A key that is revoked is refused at once, on open connections too, because the
/// receiver asks for each message.
class LiveAllowList {
 public:
  explicit LiveAllowList(AllowList list) : list_(std::move(list)) {}
  void replace(AllowList list);
  bool add(const std::string& host, const std::string& key);
  bool revoke(const std::string& key);
  /// Empty: nobody's.
  std::string host_of(const std::string& key) const;

 private:
  mutable std::mutex mutex_;
  AllowList list_;
};

/// Answers on inproc://zeromq.zap.01 of a context, in a thread of its own: CURVE with a key in the list gets in, with the
/// key (Z85) as its user id; everything else is refused. Must be started before the context's first server socket is
/// bound, since without a handler libzmq would let every key in; and end after the last one is closed.
class ZapHandler {
 public:
  static Result<std::unique_ptr<ZapHandler>> start(zmq::context_t& context, const LiveAllowList& list);
  ~ZapHandler();
  uint64_t refused() const { return refused_.load(std::memory_order_relaxed); }

 private:
  explicit ZapHandler(const LiveAllowList& list);
  void run();

  const LiveAllowList& list_;
  std::atomic<uint64_t> refused_{0};  // a count, nothing is published through it
  struct Socket;
  std::unique_ptr<Socket> socket_;
  std::thread thread_;
};

}  // namespace hindcast::transport
