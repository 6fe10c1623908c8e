// What the net tap costs each packet: datagrams between two network namespaces, with the tap on the receiver and without, in
// turn.
//
//   without, with   ns of CPU for sending and receiving one: medians
//   run_ns          what one run of a program takes by the kernel's count (BPF_ENABLE_STATS), some of its own cost included
// Every packet is told of or counted, or the numbers mean nothing.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <vector>

#include <benchmark/benchmark.h>
#include <linux/bpf.h>

#include "capture/net_tap.h"
#include "hindcast/wait_record.h"
#include "tests/support/net_pair.h"

using namespace hindcast;
using namespace hindcast::capture;

namespace {

constexpr size_t kPackets = 20000;

double cpu_ns() {
  rusage use{};
  ::getrusage(RUSAGE_SELF, &use);
  const auto ns = [](const timeval& t) {
    return 1e9 * static_cast<double>(t.tv_sec) + 1e3 * static_cast<double>(t.tv_usec);
  };
  return ns(use.ru_utime) + ns(use.ru_stime);
}

/// ns of CPU for each datagram; received where they are dropped for want of a reader, at the end of all that costs.
double send_all(const test::NetPair& pair) {
  double ns = 0;
  pair.there([&] {
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(9999);
    ::inet_pton(AF_INET, "10.77.0.1", &to.sin_addr);
    const Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const double before = cpu_ns();
    for (size_t i = 0; i < kPackets; ++i)
      HC_CHECK(::sendto(socket.get(), "x", 1, 0, reinterpret_cast<sockaddr*>(&to), sizeof to) == 1);
    ns = (cpu_ns() - before) / kPackets;
  });
  return ns;
}

double median(std::vector<double> v) {
  std::nth_element(v.begin(), v.begin() + static_cast<ptrdiff_t>(v.size() / 2), v.end());
  return v[v.size() / 2];
}

void net_tap(benchmark::State& state) {
  const test::NetPair pair;
  if (!pair.missing().empty()) return state.SkipWithError(pair.missing().c_str());
  NetTapConfig config;
  config.ring_bytes = size_t{8} << 20;
  config.most_packets_per_second = 0;
  std::vector<double> without, with;
  BpfCost cost;
  const auto told_of = [&](bool stats) {
    std::optional<NetTap> tap;
    pair.here([&] { tap.emplace(std::move(NetTap::open(network_interfaces()->front(), config)).value()); });
    Fd statistics;
    if (stats) {
      bpf_attr attr{};
      attr.enable_stats.type = BPF_STATS_RUN_TIME;
      statistics = Fd(static_cast<int>(::syscall(SYS_bpf, BPF_ENABLE_STATS, &attr, sizeof attr)));
      HC_CHECK(statistics.valid());
    }
    const double ns = send_all(pair);
    if (stats) cost = tap->cost();
    uint64_t packets = 0;
    tap->drain([&](ByteSpan) { ++packets; });
    for (const uint64_t n : tap->dropped()) packets += n;
    pair.here([&] { tap.reset(); });
    if (packets < kPackets) state.SkipWithError("packets are missing, so the cost means nothing");
    return ns;
  };
  for (auto _ : state) {
    for (int i = 0; i < 7; ++i) {
      without.push_back(send_all(pair));
      with.push_back(told_of(false));
    }
    told_of(true);
  }
  state.counters["without"] = median(without);
  state.counters["with"] = median(with);
  state.counters["run_ns"] = cost.runs ? static_cast<double>(cost.ns) / static_cast<double>(cost.runs) : 0;
}
BENCHMARK(net_tap)->Iterations(1)->Unit(benchmark::kMillisecond);

}  // namespace

BENCHMARK_MAIN();
