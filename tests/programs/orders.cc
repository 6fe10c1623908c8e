// The program that scripts/demo records: three workers price orders from one queue. One order in many has a currency
// whose rate is stale; the worker that meets it rebuilds the whole table while it holds the lock, and the others wait.
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

namespace {

struct Order {
  uint32_t id;
  uint32_t currency;
  uint64_t amount;
};

class Rates {
 public:
  explicit Rates(uint32_t currencies) : rate_(currencies, 1) {}

  uint64_t price(const Order& order) {
    std::lock_guard<std::mutex> hold(lock_);
    if (order.currency == kStale) rebuild();
    return order.amount * rate_[order.currency % rate_.size()];
  }

 private:
  static constexpr uint32_t kStale = 97;

  // The rare path: far longer than anything else done under the lock.
  __attribute__((noinline)) void rebuild() {
    for (size_t round = 0; round < 200; ++round)
      for (auto& rate : rate_) rate = (rate * 6364136223846793005u + 1442695040888963407u) >> 3;
  }

  std::mutex lock_;
  std::vector<uint64_t> rate_;
};

class Queue {
 public:
  void push(Order order) {
    std::lock_guard<std::mutex> hold(lock_);
    orders_.push_back(order);
    ready_.notify_one();
  }
  void close() {
    std::lock_guard<std::mutex> hold(lock_);
    closed_ = true;
    ready_.notify_all();
  }
  bool pop(Order& order) {
    std::unique_lock<std::mutex> hold(lock_);
    ready_.wait(hold, [&] { return closed_ || !orders_.empty(); });
    if (orders_.empty()) return false;
    order = orders_.front();
    orders_.pop_front();
    return true;
  }

 private:
  std::mutex lock_;
  std::condition_variable ready_;
  std::deque<Order> orders_;
  bool closed_ = false;
};

uint64_t work(Queue& queue, Rates& rates) {
  uint64_t total = 0;
  for (Order order; queue.pop(order);) total += rates.price(order);
  return total;
}

}  // namespace

int main(int argc, char** argv) {
  const uint32_t count = argc > 1 ? static_cast<uint32_t>(std::strtoul(argv[1], nullptr, 10)) : 3000;
  Queue queue;
  Rates rates(256);
  std::vector<std::thread> workers;
  std::vector<uint64_t> totals(3);
  for (size_t i = 0; i < totals.size(); ++i) workers.emplace_back([&, i] { totals[i] = work(queue, rates); });
  for (uint32_t id = 0; id < count; ++id) queue.push({id, id % 1000 == 500 ? 97u : id % 90, id * 7u});
  queue.close();
  for (auto& worker : workers) worker.join();
  uint64_t total = 0;
  for (uint64_t t : totals) total += t;
  std::printf("%u orders, total %llu\n", count, static_cast<unsigned long long>(total));
}
