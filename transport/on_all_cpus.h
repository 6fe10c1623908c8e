// Independent pieces of work, done by as many threads as there are CPUs.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <thread>
#include <vector>

namespace hindcast::transport {

/// Calls make_work() once on each thread, and what it gives for numbers below n, each once. Fewer than `alone` are not worth
/// a thread.
template <class MakeWork>
void on_all_cpus(size_t n, size_t alone, const MakeWork& make_work) {
  std::atomic<size_t> next{0};
  const auto run = [&] {
    auto work = make_work();
    for (size_t i = next++; i < n; i = next++) work(i);
  };
  std::vector<std::thread> others;
  const size_t threads = n < alone ? 1 : std::min<size_t>(n, std::max(1u, std::thread::hardware_concurrency()));
  for (size_t i = 1; i < threads; ++i) others.emplace_back(run);
  run();
  for (std::thread& t : others) t.join();
}

}  // namespace hindcast::transport
