// A server and hosts over loopback, in a folder that goes away: the fixture of the shipping tests.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "tests/support/run_program.h"
#include "tests/support/ship_kit.h"
#include "transport/file_sink.h"

namespace hindcast::transport {

inline void must_do(const Result<void>& r) {
  if (!r.ok()) ADD_FAILURE() << r.error().text();
}
template <class T>
T must(Result<T> r) {
  if (!r.ok()) {
    ADD_FAILURE() << r.error().text();
    std::abort();
  }
  return std::move(r).value();
}

class Ship : public testing::Test {
 protected:
  void start_server(uint64_t store_limit = UINT64_MAX, std::optional<ReceiverConfig> with = {}) {
    FileSink::Limits limits;
    limits.total_bytes = store_limit;
    sink_ =
        must(FileSink::create(folder_ / "store", limits, [this](const auto& host, const auto& incident, const auto&) {
          std::lock_guard lock(mutex_);
          commits_.insert(host + "/" + incident);
        }));
    ReceiverConfig config = with ? *with : ReceiverConfig{};
    config.keys = server_keys_;
    config.allowed = allowed_;
    if (!endpoint_.empty()) config.endpoint = endpoint_;
    ReceiverEvents events;
    events.frozen = [this](const auto& host, const auto& incident, const auto& cpus) {
      std::lock_guard lock(mutex_);
      log_.push_back("frozen " + host + " " + incident + " " + std::to_string(cpus.size()));
    };
    events.durable = [this](const auto& host, const auto& incident, uint64_t) {
      std::lock_guard lock(mutex_);
      log_.push_back("durable " + host + " " + incident);
    };
    events.freeze_failed = [this](const auto& host, const auto& incident, const Error& e) {
      std::lock_guard lock(mutex_);
      log_.push_back("failed " + host + " " + incident + " " + e.what);
    };
    receiver_ = must(Receiver::start(config, *sink_, events));
    endpoint_ = receiver_->endpoint();
  }
  void stop_server() {
    receiver_.reset();
    sink_.reset();
  }

  std::unique_ptr<Spool> spool(const std::string& host, uint64_t limit = uint64_t{1} << 30) {
    return must(Spool::open({folder_ / ("spool-" + host), limit}));
  }
  SenderConfig config(const std::string& host) {
    if (!keys_.contains(host)) {
      keys_[host] = make_key_pair();
      allowed_.add(host, keys_[host].public_key);
      if (receiver_) receiver_->allow(host, keys_[host].public_key);
    }
    SenderConfig c;
    c.endpoint = endpoint_;
    c.keys = keys_[host];
    c.server_key = server_keys_.public_key;
    c.host = host;
    c.heartbeat = std::chrono::milliseconds(100);
    c.silence = std::chrono::milliseconds(5000);
    c.first_backoff = std::chrono::milliseconds(20);
    c.longest_backoff = std::chrono::milliseconds(200);
    return c;
  }
  std::string stored(const std::string& host, const std::string& incident) {
    return folder_ / ("store/" + host + "/" + incident + ".hcb");
  }
  std::string spooled(const std::string& host, const std::string& incident) {
    return folder_ / ("spool-" + host + "/" + incident + ".hcb");
  }
  std::vector<std::string> log() {
    std::lock_guard lock(mutex_);
    return log_;
  }
  size_t commits(const std::string& what) {
    std::lock_guard lock(mutex_);
    return commits_.count(what);
  }

  test::TempFolder folder_;
  KeyPair server_keys_ = make_key_pair();
  std::map<std::string, KeyPair> keys_;
  AllowList allowed_;
  std::string endpoint_;
  std::mutex mutex_;
  std::vector<std::string> log_;
  std::multiset<std::string> commits_;
  std::unique_ptr<FileSink> sink_;
  std::unique_ptr<Receiver> receiver_;
};

}  // namespace hindcast::transport
