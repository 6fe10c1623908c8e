// C++ threads that share a lock and a condition, throw and catch, and longjmp. Prints one number.
//   threads [THREADS] [ROUNDS] [one_cpu]      one_cpu pins all of them to one CPU
#include <atomic>
#include <condition_variable>
#include <csetjmp>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <sched.h>

namespace {

struct Shared {
  std::mutex lock;
  std::condition_variable turn_changed;
  uint32_t turn = 0;
  uint64_t sum = 0;
  std::atomic<uint64_t> caught{0};
};

class Odd : public std::runtime_error {
 public:
  explicit Odd(uint32_t v) : std::runtime_error("odd " + std::to_string(v)), value(v) {}
  uint32_t value;
};

[[gnu::noinline]] uint32_t half(uint32_t v) {
  struct Guard {
    uint32_t* n;
    ~Guard() { ++*n; }
  };
  static thread_local uint32_t unwound = 0;
  Guard g{&unwound};
  if (v & 1) throw Odd(v);
  return v / 2;
}

[[gnu::noinline]] uint32_t collatz(uint32_t v, std::atomic<uint64_t>& caught) {
  uint32_t steps = 0;
  while (v != 1) {
    ++steps;
    if (steps % 16 != 0) {
      v = v & 1 ? 3 * v + 1 : v / 2;
      continue;
    }
    try {
      v = half(v);
    } catch (const Odd& odd) {
      caught.fetch_add(1, std::memory_order_relaxed);
      v = 3 * odd.value + 1;
    }
  }
  return steps;
}

[[gnu::noinline]] int deep(std::jmp_buf& out, int depth) {
  if (depth == 0) std::longjmp(out, 7);
  return depth < 0 ? 0 : deep(out, depth - 1) + 1;
}

[[gnu::noinline]] int jump(int depth) {
  std::jmp_buf out;
  const int came = setjmp(out);
  if (came == 0) deep(out, depth);
  return came;
}

void work(Shared& shared, uint32_t me, uint32_t threads, uint32_t rounds) {
  for (uint32_t round = 0; round < rounds; ++round) {
    uint64_t mine = 0;
    for (uint32_t v = 1; v < 200; ++v) mine += collatz(v * (me + 1), shared.caught);
    mine += static_cast<uint64_t>(jump(static_cast<int>(round % 20) + 1));
    std::unique_lock hold(shared.lock);
    shared.turn_changed.wait(hold, [&] { return shared.turn % threads == me; });
    ++shared.turn;
    shared.sum = shared.sum * 33 + mine;
    shared.turn_changed.notify_all();
  }
}

}  // namespace

int main(int argc, char** argv) {
  const uint32_t threads = argc > 1 ? static_cast<uint32_t>(std::atoi(argv[1])) : 4;
  const uint32_t rounds = argc > 2 ? static_cast<uint32_t>(std::atoi(argv[2])) : 50;
  if (argc > 3 && std::strcmp(argv[3], "one_cpu") == 0) {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(0, &one);
    if (sched_setaffinity(0, sizeof one, &one) != 0) {
      std::perror("threads: cannot pin to CPU 0");
      return 1;
    }
  }
  Shared shared;
  std::vector<std::thread> all;
  for (uint32_t i = 0; i < threads; ++i) all.emplace_back(work, std::ref(shared), i, threads, rounds);
  for (auto& t : all) t.join();
  std::printf("%llu %llu\n", static_cast<unsigned long long>(shared.sum),
              static_cast<unsigned long long>(shared.caught.load()));
  return 0;
}
