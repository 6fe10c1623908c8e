// A host's daemon as the server sees it, without anything to record: it heeds freeze orders with made-up snapshots.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/ship_kit.h"
#include "transport/keys.h"
#include "transport/sender.h"
#include "transport/spool.h"

namespace hindcast::test {

/// What is in its spool is found again by another one with the same folder, as after a restart.
class FakeDaemon {
 public:
  enum class Mode {
    obey,         // frozen, durable, shipped
    only_freeze,  // frozen, then nothing
    fail,         // no window
    silent,
  };
  struct Config {
    std::string host = "h", endpoint, folder, server_key;
    transport::KeyPair keys;
    Mode mode = Mode::obey;
    size_t pt_bytes = 200000;
    uint64_t bytes_per_second = 0;
    uint32_t seed = 1;
  };

  explicit FakeDaemon(Config config);
  ~FakeDaemon();

  /// What it makes for an incident.
  MadeSnapshot snapshot(const std::string& incident) const;
  /// Incidents that it was ordered to freeze for, in turn; what was in the spool already is not told.
  std::vector<transport::FreezeOrder> orders() const;
  transport::Sender& sender() { return *sender_; }
  transport::Spool& spool() { return *spool_; }

 private:
  void run();

  const Config config_;
  std::unique_ptr<transport::Spool> spool_;
  std::unique_ptr<transport::Sender> sender_;
  mutable std::mutex mutex_;  // guards the next three
  std::vector<transport::FreezeOrder> orders_;
  std::deque<std::string> work_;
  bool stop_ = false;
  std::condition_variable more_;
  std::thread thread_;
};

}  // namespace hindcast::test
