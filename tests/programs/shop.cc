// A shop: clients order over TCP, one server thread for each of them, one stock with one lock. Now and then an article is
// sold out: its thread asks a supplier, who does not answer, again and again, while it holds the lock and all others wait.
//   shop [SECONDS] [CLIENTS]     ends after so long (default 60), or on SIGTERM; says "slow order" when one took too long
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <thread>
#include <vector>

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::milliseconds kTooLong{400};
constexpr uint32_t kArticles = 64;

std::atomic<bool> stop{false};

struct Order {
  uint64_t number;
  uint32_t article, pieces;
};

class Supplier {
 public:
  /// False: nobody answers.
  [[gnu::noinline]] bool deliver() {
    for (int attempt = 0; attempt < 5 && !stop; ++attempt) {
      if (connect_once()) return true;
      back_off(attempt);
    }
    return false;
  }

 private:
  [[gnu::noinline]] static bool connect_once() {
    const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(1);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const bool connected = ::connect(socket, reinterpret_cast<sockaddr*>(&to), sizeof to) == 0;
    ::close(socket);
    return connected;
  }
  [[gnu::noinline]] static void back_off(int attempt) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50 << attempt) / 2);
  }
};

class Stock {
 public:
  Stock() : pieces_(kArticles, 1'000'000'000) { pieces_[0] = 300; }

  [[gnu::noinline]] uint32_t reserve(const Order& order) {
    std::lock_guard lock(mutex_);
    uint32_t& left = pieces_[order.article % kArticles];
    if (left < order.pieces) restock(left);
    left -= order.pieces;
    return left;
  }

 private:
  [[gnu::noinline]] void restock(uint32_t& left) {
    supplier_.deliver();
    left += 300;  // from the cellar
  }

  std::mutex mutex_;
  std::vector<uint32_t> pieces_;
  Supplier supplier_;
};

[[gnu::noinline]] uint32_t price(const Order& order, uint32_t left) {
  uint32_t cents = 100 + order.article % 900;
  for (uint32_t i = 1; i < order.pieces; ++i) cents += cents / (i + 9);
  return left < 10 ? cents + cents / 10 : cents;
}

bool send_all(int socket, const void* bytes, size_t n) { return ::send(socket, bytes, n, MSG_NOSIGNAL) == ssize_t(n); }
bool receive_all(int socket, void* bytes, size_t n) { return ::recv(socket, bytes, n, MSG_WAITALL) == ssize_t(n); }

[[gnu::noinline]] bool answer(int socket, Stock& stock) {
  Order order;
  if (!receive_all(socket, &order, sizeof order)) return false;
  const uint32_t cents = price(order, stock.reserve(order));
  return send_all(socket, &cents, sizeof cents);
}

void serve(int socket, Stock& stock) {
  while (answer(socket, stock)) {
  }
  ::close(socket);
}

std::atomic<uint64_t> next_order{1};

[[gnu::noinline]] void buy(int socket, uint32_t& seed) {
  seed = seed * 1664525 + 1013904223;
  const Order order{next_order++, seed >> 16, 1 + (seed >> 8) % 7};
  const auto begin = Clock::now();
  uint32_t cents = 0;
  if (!send_all(socket, &order, sizeof order) || !receive_all(socket, &cents, sizeof cents)) return;
  const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - begin);
  if (took < kTooLong) return;
  std::printf("slow order %llu: %lld ms\n", static_cast<unsigned long long>(order.number),
              static_cast<long long>(took.count()));
  std::fflush(stdout);
}

void shop_there(uint16_t port, uint32_t seed) {
  const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = port;
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int one = 1;
  ::setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if (::connect(socket, reinterpret_cast<sockaddr*>(&to), sizeof to) != 0) std::abort();
  while (!stop) {
    buy(socket, seed);
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  ::close(socket);
}

}  // namespace

int main(int argc, char** argv) {
  const int seconds = argc > 1 ? std::atoi(argv[1]) : 60;
  const uint32_t clients = argc > 2 ? static_cast<uint32_t>(std::atoi(argv[2])) : 3;
  std::signal(SIGTERM, [](int) { stop = true; });
  const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in here{};
  here.sin_family = AF_INET;
  here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof here;
  if (::bind(listener, reinterpret_cast<sockaddr*>(&here), size) != 0 || ::listen(listener, 64) != 0 ||
      ::getsockname(listener, reinterpret_cast<sockaddr*>(&here), &size) != 0)
    return 1;
  Stock stock;
  std::vector<std::thread> threads;
  for (uint32_t i = 0; i < clients; ++i) {
    threads.emplace_back(shop_there, here.sin_port, i * 7919 + 1);
    const int socket = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (socket < 0) return 1;
    threads.emplace_back(serve, socket, std::ref(stock));
  }
  for (const auto end = Clock::now() + std::chrono::seconds(seconds); !stop && Clock::now() < end;)
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  stop = true;
  for (std::thread& t : threads) t.join();
  std::printf("%llu orders\n", static_cast<unsigned long long>(next_order - 1));
  return 0;
}
