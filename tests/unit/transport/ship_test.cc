// Sender and receiver in one process over loopback: what arrives, what is skipped, what is refused.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <mutex>
#include <optional>
#include <set>

#include "tests/support/run_program.h"
#include "tests/support/ship_kit.h"
#include "transport/file_sink.h"

namespace hindcast::transport {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using test::bytes_of_file;
using test::keep;
using test::make_snapshot;
using test::wait_for;

template <class T>
T must(Result<T> r) {
  if (!r.ok()) {
    ADD_FAILURE() << r.error().text();
    std::abort();
  }
  return std::move(r).value();
}

/// A server and hosts in a folder that goes away.
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
    c.heartbeat = milliseconds(100);
    c.silence = milliseconds(5000);
    c.first_backoff = milliseconds(20);
    c.longest_backoff = milliseconds(200);
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

TEST_F(Ship, ADurableSnapshotArrivesByteForByte) {
  start_server();
  auto s = spool("a");
  auto sender = must(Sender::start(config("a"), *s, {}));
  const auto made = make_snapshot("a", "inc-1", 1, 5 << 20);
  must(keep(*s, made));
  sender->durable("inc-1");
  ASSERT_TRUE(wait_for([&] { return sender->counters().committed == 1; })) << sender->last_error().text();
  EXPECT_EQ(test::difference(stored("a", "inc-1"), made), "");
  EXPECT_EQ(bytes_of_file(stored("a", "inc-1")), bytes_of_file(spooled("a", "inc-1")));
  EXPECT_TRUE(s->waiting().empty());
  EXPECT_EQ(commits("a/inc-1"), 1u);
  EXPECT_EQ(receiver_->counters().committed, 1u);
  EXPECT_EQ(receiver_->counters().bad_messages + receiver_->counters().bad_payloads, 0u);
  ASSERT_TRUE(wait_for([&] { return receiver_->hosts().at(0).bytes_under_way == 0; }));
}

}  // namespace
}  // namespace hindcast::transport
