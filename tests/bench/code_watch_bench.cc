// What looking at executable memory costs the daemon: CPU time for a second of looks at a process with code in memory, quiet or
// changing, within the budget; and a look at all of it, as a freeze takes one.
//
//   cpu_ms_per_s   CPU time of a second of looks, in ms: 10 is one per cent of a CPU
//   mib_per_s      read in that second
#include <cstring>

#include <benchmark/benchmark.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "capture/code_watch.h"

using namespace hindcast;
using namespace hindcast::capture;

namespace {

double cpu_seconds() {
  timespec t{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

/// Executable memory of this process, of which each page was written.
class Code {
 public:
  explicit Code(uint64_t bytes) : bytes_(bytes) {
    data_ = static_cast<uint8_t*>(
        ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (data_ == MAP_FAILED) std::abort();
    std::memset(data_, 0x90, bytes);
  }
  ~Code() { ::munmap(data_, bytes_); }
  MapRecord record() const {
    MapRecord m;
    m.pid = Pid(::getpid());
    m.start = reinterpret_cast<uint64_t>(data_);
    m.length = bytes_;
    m.prot = PROT_READ | PROT_WRITE | PROT_EXEC;
    m.path = "//anon";
    return m;
  }
  void change(uint64_t page) { ++data_[page * 4096 % bytes_]; }

 private:
  uint64_t bytes_;
  uint8_t* data_;
};

/// range(0): MiB of code; range(1): pages that change in a second.
void a_second_of_looks(benchmark::State& state) {
  Code code(static_cast<uint64_t>(state.range(0)) << 20);
  const auto changes = static_cast<uint64_t>(state.range(1));
  CodeWatch watch;
  watch.on_map(code.record(), RecordTime(1), kNoTid);
  uint64_t time = 2, page = 0;
  auto wall = std::chrono::steady_clock::now();
  double cpu = 0;
  uint64_t seconds = 0;
  for (auto _ : state) {
    for (int i = 0; i < 100; ++i) {
      for (uint64_t n = 0; n < changes / 100; ++n) code.change(page += 7);
      const double before = cpu_seconds();
      watch.look(wall += std::chrono::milliseconds(10), [&] { return RecordTime(++time); });
      watch.settle(RecordTime(time));
      cpu += cpu_seconds() - before;
    }
    ++seconds;
  }
  state.counters["cpu_ms_per_s"] = cpu * 1000 / static_cast<double>(seconds);
  state.counters["mib_per_s"] = static_cast<double>(watch.bytes_read() >> 20) / static_cast<double>(seconds);
}

/// range(0): MiB of code.
void a_look_at_all(benchmark::State& state) {
  Code code(static_cast<uint64_t>(state.range(0)) << 20);
  CodeWatch watch;
  watch.on_map(code.record(), RecordTime(1), kNoTid);
  uint64_t time = 2;
  for (auto _ : state) {
    watch.look_at(Pid(::getpid()), [&] { return RecordTime(++time); });
    watch.settle(RecordTime(time));
  }
}

}  // namespace

BENCHMARK(a_second_of_looks)->Args({1, 0})->Args({1, 1000})->Args({16, 0})->Args({256, 0})->Args({256, 1000});
BENCHMARK(a_look_at_all)->Arg(16)->Arg(256)->Unit(benchmark::kMillisecond);

BENCHMARK_MAIN();
