#include "tests/support/fake_daemon.h"

#include <cstdio>
#include <cstdlib>

namespace hindcast::test {
namespace {

template <class T>
T must(Result<T> r) {
  if (!r.ok()) {
    std::fprintf(stderr, "fake daemon: %s\n", r.error().text().c_str());
    std::abort();
  }
  return std::move(r).value();
}

}  // namespace

FakeDaemon::FakeDaemon(Config config) : config_(std::move(config)) {
  spool_ = must(transport::Spool::open({config_.folder, uint64_t{1} << 30}));
  transport::SenderConfig c;
  c.endpoint = config_.endpoint;
  c.host = config_.host;
  c.keys = config_.keys;
  c.server_key = config_.server_key;
  c.bytes_per_second = config_.bytes_per_second;
  c.heartbeat = std::chrono::milliseconds(100);
  c.silence = std::chrono::milliseconds(5000);
  c.first_backoff = std::chrono::milliseconds(20);
  c.longest_backoff = std::chrono::milliseconds(200);
  transport::SenderEvents events;
  events.freeze = [this](const transport::FreezeOrder& order) {
    {
      std::lock_guard lock(mutex_);
      orders_.push_back(order);
      work_.push_back(order.incident);
    }
    more_.notify_one();
  };
  events.status = [] {
    transport::HostStatus status;
    status.state = "armed";
    return status;
  };
  sender_ = must(transport::Sender::start(c, *spool_, events));
  thread_ = std::thread([this] { run(); });
}

FakeDaemon::~FakeDaemon() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  more_.notify_one();
  thread_.join();
  sender_.reset();
}

MadeSnapshot FakeDaemon::snapshot(const std::string& incident) const {
  return make_snapshot(config_.host, incident, config_.seed, config_.pt_bytes);
}

std::vector<transport::FreezeOrder> FakeDaemon::orders() const {
  std::lock_guard lock(mutex_);
  return orders_;
}

void FakeDaemon::run() {
  for (;;) {
    std::string incident;
    {
      std::unique_lock lock(mutex_);
      more_.wait(lock, [this] { return stop_ || !work_.empty(); });
      if (stop_) return;
      incident = std::move(work_.front());
      work_.pop_front();
    }
    if (config_.mode == Mode::fail) sender_->freeze_failed(incident, {Errc::unavailable, "no window is armed", {}, {}});
    if (config_.mode != Mode::obey && config_.mode != Mode::only_freeze) continue;
    sender_->frozen(incident, {{CpuId(0), Tsc(5), Tsc(9)}});
    if (config_.mode != Mode::obey) continue;
    must(keep(*spool_, snapshot(incident)));
    sender_->durable(incident);
  }
}

}  // namespace hindcast::test
