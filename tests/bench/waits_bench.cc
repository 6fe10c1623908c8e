// What recording waits and messages costs the programs that are watched: two processes that pass a byte to and fro, with
// the BPF programs attached and without, in turn.
//
//   without, with   ns of CPU for a round trip: medians; four system calls, and two sleeps and wakes
//   ratio           of the two, pairwise: median
//   ns_per_event    what a record adds to that: median
//   run_ns          what one run of a program takes by the kernel's count (BPF_ENABLE_STATS), which counts some of its own
//                   cost; runs for all other threads of the machine, which end at once, are among them
#include <algorithm>
#include <csignal>
#include <optional>
#include <vector>

#include <benchmark/benchmark.h>
#include <linux/bpf.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "capture/wait_probe.h"

using namespace hindcast;
using namespace hindcast::capture;

namespace {

constexpr int kRounds = 20000;

enum class Way { pipe, futex };

void pin(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<size_t>(cpu), &set);
  ::sched_setaffinity(0, sizeof set, &set);
}

void pass(Way way, int in, int out, uint32_t* mine, uint32_t* theirs, bool first) {
  char byte = 0;
  const auto send = [&] {
    if (way == Way::pipe) {
      HC_CHECK(::write(out, &byte, 1) == 1);
    } else {
      __atomic_store_n(theirs, 1, __ATOMIC_RELEASE);
      ::syscall(SYS_futex, theirs, FUTEX_WAKE, 1, nullptr, nullptr, 0);
    }
  };
  const auto receive = [&] {
    if (way == Way::pipe) {
      HC_CHECK(::read(in, &byte, 1) == 1);
    } else {
      while (__atomic_load_n(mine, __ATOMIC_ACQUIRE) == 0)
        ::syscall(SYS_futex, mine, FUTEX_WAIT, 0, nullptr, nullptr, 0);
      __atomic_store_n(mine, 0, __ATOMIC_RELAXED);
    }
  };
  for (int i = 0; i < kRounds; ++i) {
    if (first) send();
    receive();
    if (!first) send();
  }
}

/// Two processes, both of a tree of its own that can be followed; they begin with SIGCONT.
struct Pair {
  Pair(Way way, bool one_cpu) {
    auto* words =
        static_cast<uint32_t*>(::mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    pid = ::fork();
    HC_CHECK(pid >= 0);
    if (pid == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      int there[2], back[2];
      HC_CHECK(::pipe(there) == 0 && ::pipe(back) == 0);
      ::raise(SIGSTOP);
      if (::fork() == 0) {
        pin(one_cpu ? 0 : 1);
        pass(way, there[0], back[1], words, words + 1024, false);
        ::_exit(0);
      }
      pin(0);
      pass(way, back[0], there[1], words + 1024, words, true);
      int status = 1;
      ::wait(&status);
      ::_exit(status != 0);
    }
    int status = 0;
    HC_CHECK(::waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status));
    ::munmap(words, 8192);
  }
  pid_t pid;
};

struct Run {
  double ns = 0;      // of CPU, of a round trip
  double events = 0;  // the same
  double run_ns = 0;
};

/// probe: null without.
Run run(Way way, bool one_cpu, bool with, bool stats) {
  const Pair pair(way, one_cpu);
  const Fd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pair.pid, 0)));
  std::optional<WaitProbe> probe;
  Fd statistics;
  if (with) {
    auto opened = WaitProbe::open({});
    HC_CHECK(opened.ok());
    probe.emplace(std::move(*opened));
    HC_CHECK(probe->follow(pidfd).ok());
    if (stats) {
      bpf_attr attr{};
      attr.enable_stats.type = BPF_STATS_RUN_TIME;
      statistics = Fd(static_cast<int>(::syscall(SYS_bpf, BPF_ENABLE_STATS, &attr, sizeof attr)));
      HC_CHECK(statistics.valid());
    }
  }
  uint64_t events = 0;
  const auto drain = [&] {
    if (probe) probe->drain([&](ByteSpan) { ++events; });
  };
  const auto cost = probe ? probe->cost() : BpfCost{};
  ::kill(pair.pid, SIGCONT);
  int status = 0;
  rusage used{};  // of both
  while (::wait4(pair.pid, &status, WNOHANG, &used) == 0) {
    drain();
    ::usleep(5000);  // as the window does
  }
  HC_CHECK(status == 0);
  drain();
  Run r;
  const auto ns = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) * 1e9 + static_cast<double>(t.tv_usec) * 1e3;
  };
  r.ns = (ns(used.ru_utime) + ns(used.ru_stime)) / kRounds;
  r.events = static_cast<double>(events) / kRounds;
  if (probe) {
    const auto after = probe->cost();
    if (after.runs != cost.runs)
      r.run_ns = static_cast<double>(after.ns - cost.ns) / static_cast<double>(after.runs - cost.runs);
    for (const uint64_t n : probe->dropped()) HC_CHECK(n == 0);
  }
  return r;
}

double median(std::vector<double> v) {
  std::nth_element(v.begin(), v.begin() + static_cast<long>(v.size() / 2), v.end());
  return v[v.size() / 2];
}

void waits(benchmark::State& state) {
  const Way way = state.range(0) ? Way::futex : Way::pipe;
  const bool one_cpu = state.range(1) != 0;
  if (const auto probe = WaitProbe::open({}); !probe) {
    state.SkipWithError(probe.error().what.c_str());
    return;
  }
  std::vector<double> without, with, ratio, per_event, run_ns;
  double events = 0;
  for (auto _ : state) {
    const Run a = run(way, one_cpu, false, false), b = run(way, one_cpu, true, false);
    const Run c = run(way, one_cpu, true, true);
    without.push_back(a.ns);
    with.push_back(b.ns);
    ratio.push_back(b.ns / a.ns);
    per_event.push_back((b.ns - a.ns) / b.events);
    run_ns.push_back(c.run_ns);
    events = b.events;
  }
  // a futex call may be found needless, but for the two that wake
  if (events < (way == Way::pipe ? 4 : 2)) state.SkipWithError("records are missing: the cost means nothing");
  state.counters["without"] = median(without);
  state.counters["with"] = median(with);
  state.counters["ratio"] = median(ratio);
  state.counters["events"] = events;
  state.counters["ns_per_event"] = median(per_event);
  state.counters["run_ns"] = median(run_ns);
}

BENCHMARK(waits)
    ->ArgNames({"futex", "one_cpu"})
    ->ArgsProduct({{0, 1}, {1, 0}})
    ->Iterations(7)
    ->Unit(benchmark::kMillisecond);

}  // namespace

BENCHMARK_MAIN();
