#include "tests/support/tcp_proxy.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <list>
#include <random>
#include <vector>

namespace hindcast::test {
namespace {

sockaddr_in loopback(uint16_t port) {
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_port = htons(port);
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return a;
}

int listen_on(uint16_t port, uint16_t* bound) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in a = loopback(port);
  socklen_t n = sizeof a;
  if (fd < 0 || ::bind(fd, reinterpret_cast<sockaddr*>(&a), sizeof a) != 0 || ::listen(fd, 64) != 0 ||
      ::getsockname(fd, reinterpret_cast<sockaddr*>(&a), &n) != 0) {
    std::perror("test support: no port to listen on");
    std::abort();
  }
  *bound = ntohs(a.sin_port);
  return fd;
}

bool write_all(int fd, const std::vector<uint8_t>& bytes) {
  for (size_t at = 0; at < bytes.size();) {
    const ssize_t n = ::send(fd, bytes.data() + at, bytes.size() - at, MSG_NOSIGNAL);
    if (n <= 0) return false;
    at += static_cast<size_t>(n);
  }
  return true;
}

struct Pair {
  int a, b;
};

}  // namespace

uint16_t free_port() {
  uint16_t port = 0;
  ::close(listen_on(0, &port));
  return port;
}

TcpProxy::TcpProxy(uint16_t to_port, uint32_t seed) : to_port_(to_port), seed_(seed) {
  listener_ = listen_on(0, &port_);
  if (::pipe2(stop_, O_CLOEXEC) != 0) std::abort();
  thread_ = std::thread([this] { run(); });
}

TcpProxy::~TcpProxy() {
  ::close(stop_[1]);
  thread_.join();
  ::close(stop_[0]);
  ::close(listener_);
}

void TcpProxy::set(const NetworkHarm& harm) {
  std::lock_guard lock(mutex_);
  harm_ = harm;
}

void TcpProxy::run() {
  std::mt19937 random(seed_);
  const auto chance = [&](double p) { return std::uniform_real_distribution<>(0, 1)(random) < p; };
  std::list<Pair> pairs;
  std::vector<uint8_t> piece;
  for (;;) {
    std::vector<pollfd> fds{{stop_[0], POLLIN, 0}, {listener_, POLLIN, 0}};
    for (const Pair& p : pairs) {
      fds.push_back({p.a, POLLIN, 0});
      fds.push_back({p.b, POLLIN, 0});
    }
    if (::poll(fds.data(), fds.size(), -1) < 0) continue;
    if (fds[0].revents) break;
    NetworkHarm harm;
    {
      std::lock_guard lock(mutex_);
      harm = harm_;
    }
    size_t i = 2;
    for (auto it = pairs.begin(); it != pairs.end(); i += 2) {
      bool alive = true;
      for (int side = 0; side < 2 && alive; ++side) {
        if (!fds[i + static_cast<size_t>(side)].revents) continue;
        const int from = side ? it->b : it->a, to = side ? it->a : it->b;
        piece.resize(16384);
        const ssize_t n = ::recv(from, piece.data(), piece.size(), 0);
        if (n <= 0 || chance(harm.cut)) {
          alive = false;
          break;
        }
        piece.resize(static_cast<size_t>(n));
        bool twice = false, harmed = true;
        if (chance(harm.flip))
          piece[random() % piece.size()] ^= static_cast<uint8_t>(1 << random() % 8);
        else if (chance(harm.drop))
          piece.clear();
        else if (chance(harm.duplicate))
          twice = true;
        else if (chance(harm.swap))
          std::rotate(piece.begin(), piece.begin() + static_cast<ptrdiff_t>(piece.size() / 2), piece.end());
        else
          harmed = false;
        if (harmed) ++harmed_;
        if (chance(harm.delay)) std::this_thread::sleep_for(std::chrono::milliseconds(random() % 30));
        alive = write_all(to, piece) && (!twice || write_all(to, piece));
      }
      if (alive) {
        ++it;
        continue;
      }
      ::close(it->a);
      ::close(it->b);
      it = pairs.erase(it);
    }
    if (fds[1].revents) {
      const int a = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      const int b = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
      const sockaddr_in to = loopback(to_port_);
      if (a >= 0 && ::connect(b, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0) {
        // A side that does not read must not stop the proxy for good.
        const timeval most{1, 0};
        ::setsockopt(a, SOL_SOCKET, SO_SNDTIMEO, &most, sizeof most);
        ::setsockopt(b, SOL_SOCKET, SO_SNDTIMEO, &most, sizeof most);
        pairs.push_back({a, b});
      } else {
        ::close(a);
        ::close(b);
      }
    }
  }
  for (const Pair& p : pairs) {
    ::close(p.a);
    ::close(p.b);
  }
}

}  // namespace hindcast::test
