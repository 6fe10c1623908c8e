// One REP socket; a PAIR tells the thread to end.
#include "transport/zap.h"

#include <zmq.hpp>

#include <vector>

namespace hindcast::transport {

void LiveAllowList::replace(AllowList list) {
  std::lock_guard lock(mutex_);
  list_ = std::move(list);
}
bool LiveAllowList::add(const std::string& host, const std::string& key) {
  std::lock_guard lock(mutex_);
  return list_.add(host, key);
}
bool LiveAllowList::revoke(const std::string& key) {
  std::lock_guard lock(mutex_);
  return list_.revoke(key);
}
std::string LiveAllowList::host_of(const std::string& key) const {
  std::lock_guard lock(mutex_);
  const std::string* host = list_.host_of(key);
  return host ? *host : std::string{};
}

struct ZapHandler::Socket {
  zmq::socket_t rep, stop, stopper;
};

ZapHandler::ZapHandler(const LiveAllowList& list) : list_(list) {}

Result<std::unique_ptr<ZapHandler>> ZapHandler::start(zmq::context_t& context, const LiveAllowList& list) {
  std::unique_ptr<ZapHandler> zap(new ZapHandler(list));
  zap->socket_ = std::make_unique<Socket>();
  try {
    const std::string stop = "inproc://hindcast.zap.stop";
    zap->socket_->rep = zmq::socket_t(context, zmq::socket_type::rep);
    zap->socket_->rep.set(zmq::sockopt::linger, 0);
    zap->socket_->rep.bind("inproc://zeromq.zap.01");
    zap->socket_->stop = zmq::socket_t(context, zmq::socket_type::pair);
    zap->socket_->stop.bind(stop);
    zap->socket_->stopper = zmq::socket_t(context, zmq::socket_type::pair);
    zap->socket_->stopper.connect(stop);
  } catch (const zmq::error_t& e) {
    return Error{Errc::io, std::string("cannot start the check of client keys: ") + e.what(), {}, {}};
  }
  zap->thread_ = std::thread([z = zap.get()] { z->run(); });
  return zap;
}

ZapHandler::~ZapHandler() {
  if (!thread_.joinable()) return;
  socket_->stopper.send(zmq::message_t(), zmq::send_flags::none);
  thread_.join();
}

void ZapHandler::run() {
  zmq::socket_t& rep = socket_->rep;
  zmq::pollitem_t items[] = {{rep.handle(), 0, ZMQ_POLLIN, 0}, {socket_->stop.handle(), 0, ZMQ_POLLIN, 0}};
  for (;;) {
    try {
      zmq::poll(items, 2, std::chrono::milliseconds(-1));
      if (items[1].revents) return;
      std::vector<zmq::message_t> frames;
      do {
        frames.emplace_back();
        (void)rep.recv(frames.back());
      } while (frames.back().more());
      // version, request id, domain, address, identity, mechanism, credentials...
      constexpr size_t kCurveFrames = 7, kKeyBytes = 32;
      std::string key, host;
      if (frames.size() == kCurveFrames && frames[0].to_string_view() == "1.0" &&
          frames[5].to_string_view() == "CURVE" && frames[6].size() == kKeyBytes) {
        char text[41];
        ::zmq_z85_encode(text, frames[6].data<uint8_t>(), kKeyBytes);
        key = text;
        host = list_.host_of(key);
      }
      const bool allowed = !host.empty();
      if (!allowed) refused_.fetch_add(1, std::memory_order_relaxed);
      const auto part = [&](std::string_view s, zmq::send_flags flags) { rep.send(zmq::buffer(s), flags); };
      part("1.0", zmq::send_flags::sndmore);
      part(frames.size() > 1 ? frames[1].to_string_view() : std::string_view{}, zmq::send_flags::sndmore);
      part(allowed ? "200" : "400", zmq::send_flags::sndmore);
      part(allowed ? "OK" : "key not in the allow-list", zmq::send_flags::sndmore);
      part(allowed ? std::string_view(key) : std::string_view{}, zmq::send_flags::sndmore);
      part("", zmq::send_flags::none);
    } catch (const zmq::error_t& e) {
      if (e.num() == ETERM) return;
      if (e.num() != EINTR) refused_.fetch_add(1, std::memory_order_relaxed);
    }
  }
}

}  // namespace hindcast::transport
