// Addresses of both families, and datagrams to them.
#pragma once

#include <chrono>
#include <thread>
#include <vector>

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "hindcast/fd.h"
#include "hindcast/result.h"

namespace hindcast::test {

struct Address {
  sockaddr_storage storage{};
  socklen_t size = 0;
  Address(const char* ip, uint16_t port) {
    auto& four = reinterpret_cast<sockaddr_in&>(storage);
    auto& six = reinterpret_cast<sockaddr_in6&>(storage);
    if (::inet_pton(AF_INET, ip, &four.sin_addr) == 1) {
      four.sin_family = AF_INET;
      four.sin_port = htons(port);
      size = sizeof four;
    } else {
      HC_CHECK(::inet_pton(AF_INET6, ip, &six.sin6_addr) == 1);
      six.sin6_family = AF_INET6;
      six.sin6_port = htons(port);
      size = sizeof six;
    }
  }
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  int family() const { return storage.ss_family; }
};

/// From the network namespace of this thread. With pauses: a veth holds 256 packets, and drops what comes before its softirq has
/// a turn.
inline void send_datagrams(const Address& to, size_t count, size_t bytes) {
  const Fd socket(::socket(to.family(), SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const std::vector<char> data(bytes, 'y');
  for (size_t i = 0; i < count; ++i) {
    if (i % 100 == 99) std::this_thread::sleep_for(std::chrono::milliseconds(2));
    ASSERT_EQ(::sendto(socket.get(), data.data(), bytes, 0, to.get(), to.size), static_cast<ssize_t>(bytes));
  }
}

/// So many that a low limit loses some: each CPU may tell 4,096 at once, and who sends may be moved from one to another.
inline size_t more_than_a_tap_tells() { return 4096 * std::thread::hardware_concurrency() + 2000; }

}  // namespace hindcast::test
