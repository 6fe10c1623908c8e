// From the order to freeze to the first call tree, with the real hindcastd, hindcast-server and hindcast, for 64 MiB of PT in two
// full rings (more CPUs: 32 MiB each).
//
//   trigger/frozen, /durable, /committed   as the server notes them, since it gave the order
//   trigger/first_call_tree                since the order, until `hindcast calls --limit 40` has answered through the server
//   perf/first_branches                    the peer: `perf script --itrace=b` on the same snapshot, exported, until it has said
//                                          40 branches; from a file that is there already, without any of the above
// Counters: resident and peak memory of both services in MiB, PT bytes. Each answer is checked. Needs QEMU and the plugin.
#include <benchmark/benchmark.h>

#include <chrono>
#include <fstream>
#include <memory>

#include "tests/support/daemon_process.h"
#include "tests/support/server_process.h"
#include "tests/support/sim_run.h"

namespace {

using namespace hindcast::test;  // NOLINT
using Json = nlohmann::json;
using Clock = std::chrono::steady_clock;

constexpr uint64_t kRing = uint64_t{32} << 20;
constexpr uint64_t kSlack = uint64_t{1} << 20;  // a full ring may begin at a whole packet

std::string bin(const std::string& name) { return std::string(HC_BIN_DIR) + "/" + name; }

/// MiB; field: VmRSS or VmHWM.
double memory_of(int pid, const std::string& field) {
  std::ifstream in("/proc/" + std::to_string(pid) + "/status");
  std::string line;
  while (std::getline(in, line))
    if (line.starts_with(field + ":")) return std::strtod(line.c_str() + field.size() + 1, nullptr) / 1024;
  return 0;
}

/// Server and daemon over programs that keep CPUs busy, with full rings.
struct Site {
  ServerProcess server{bin("hindcast-server")};
  std::unique_ptr<DaemonProcess> daemon;
  std::string trouble;

  Site() {
    if (!server.start()) {
      trouble = server.log();
      return;
    }
    // One process for each of two CPUs; they end by themselves, some minutes later.
    const std::string busy = test_program("cpu_bound") + " 4000";
    daemon = std::make_unique<DaemonProcess>(bin("hindcastd"), server.host("h"),
                                             std::vector<std::string>{"/bin/sh", "-c", busy + " & exec " + busy},
                                             "ring = \"" + std::to_string(kRing >> 20) + " MiB\"\n");
    if (!daemon->start()) trouble = daemon->log();
    if (!wait_for([this] { return server.connected(); }, 30)) trouble = server.log();
    for (int tries = 0; trouble.empty() && pt_bytes(order("durable")) < 2 * kRing - kSlack; ++tries) {
      std::this_thread::sleep_for(std::chrono::seconds(1));
      if (tries == 60) trouble = "the rings are not full after a minute";
    }
  }
  Json order(const std::string& wait) {
    const auto answer =
        server.http().post("/v1/snapshots", Json{{"reason", "bench"}, {"wait", wait}, {"timeout_ms", 60000}}.dump());
    if (answer.status != 200) trouble = answer.body;
    return answer.status == 200 ? answer.json : Json{{"incident", "none"}, {"hosts", Json::array()}};
  }
  Json await(const std::string& incident, const std::string& state) {
    return server.http().get("/v1/incidents/" + incident + "?wait=" + state + "&timeout_ms=60000").json;
  }
  std::string bundle(const std::string& incident) { return server.bundles() + "/h/" + incident + ".hcb"; }
  uint64_t pt_bytes(const Json& incident) {
    await(incident.at("incident"), "committed");
    uint64_t n = 0;
    for (const Json& o : run_program({bin("hindcast"), "ls", "--json", bundle(incident.at("incident"))}).objects())
      if (o.at("type") == "stream" && o.at("kind") == "pt") n += o.at("bytes").get<uint64_t>();
    return n;
  }
  std::string busiest_thread(const std::string& incident) {
    uint64_t most = 0;
    std::string tid;
    for (const Json& o : run_program({bin("hindcast"), "ls", "--json", bundle(incident)}).objects())
      if (o.at("type") == "thread" && o.at("pt_bytes").get<uint64_t>() > most) {
        most = o.at("pt_bytes");
        tid = std::to_string(o.at("tid").get<int>());
      }
    return tid;
  }
};
Site& site() {
  static Site s;
  return s;
}

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

/// since: which of the server's times ends the measured one.
void until(benchmark::State& state, const char* name, const char* field) {
  Site& s = site();
  if (!s.trouble.empty()) return state.SkipWithError(s.trouble.c_str());
  for (auto _ : state) {
    const std::string id = s.order("frozen").at("incident");
    const Json host = s.await(id, "committed").at("hosts").at(0);
    if (host.at("state") != "committed") return state.SkipWithError(host.dump().c_str());
    state.SetIterationTime(
        static_cast<double>(host.at(field).get<uint64_t>() - host.at("ordered_unix_ns").get<uint64_t>()) / 1e9);
  }
  state.SetLabel(name);
  state.counters["daemon_rss"] = memory_of(s.daemon->pid(), "VmRSS");
  state.counters["daemon_peak"] = memory_of(s.daemon->pid(), "VmHWM");
  state.counters["server_rss"] = memory_of(s.server.pid(), "VmRSS");
  state.counters["server_peak"] = memory_of(s.server.pid(), "VmHWM");
}

void first_call_tree(benchmark::State& state) {
  Site& s = site();
  if (!s.trouble.empty()) return state.SkipWithError(s.trouble.c_str());
  const std::string tid = s.busiest_thread(s.order("committed").at("incident"));
  uint64_t bytes = 0;
  for (auto _ : state) {
    const auto begin = Clock::now();
    const Json incident = s.order("committed");
    const Ran calls = run_program(
        {bin("hindcast"), "calls", "--server", s.server.url(), incident.at("incident"), "-t", tid, "--limit", "40"});
    state.SetIterationTime(seconds_since(begin));
    if (calls.code != 0 || calls.lines().size() < 40) return state.SkipWithError(calls.err.c_str());
    bytes = s.pt_bytes(incident);
  }
  state.counters["pt_bytes"] = static_cast<double>(bytes);
}

void perf_first_branches(benchmark::State& state) {
  Site& s = site();
  if (!s.trouble.empty()) return state.SkipWithError(s.trouble.c_str());
  if (run_program({"/bin/sh", "-c", "command -v perf"}).code != 0)
    return state.SkipWithError("needs perf (linux-perf)");
  TempFolder folder;
  const std::string id = s.order("committed").at("incident"), out = folder / "x.perf";
  const Ran exported = run_program({bin("hindcast"), "export", s.bundle(id), "-o", out});
  if (exported.code != 0) return state.SkipWithError(exported.err.c_str());
  for (auto _ : state) {
    const auto begin = Clock::now();
    const Ran perf = run_program({"/bin/sh", "-c", exported.lines().at(0) + " 2>/dev/null | head -40"});
    state.SetIterationTime(seconds_since(begin));
    if (perf.lines().size() < 40) return state.SkipWithError("perf said nothing");
  }
}

}  // namespace

BENCHMARK_CAPTURE(until, trigger, "frozen", "frozen_unix_ns")
    ->Name("trigger/frozen")
    ->UseManualTime()
    ->Iterations(5)
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(until, trigger, "durable", "durable_unix_ns")
    ->Name("trigger/durable")
    ->UseManualTime()
    ->Iterations(5)
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(until, trigger, "committed", "committed_unix_ns")
    ->Name("trigger/committed")
    ->UseManualTime()
    ->Iterations(5)
    ->Unit(benchmark::kMillisecond);
BENCHMARK(first_call_tree)
    ->Name("trigger/first_call_tree")
    ->UseManualTime()
    ->Iterations(3)
    ->Unit(benchmark::kMillisecond);
BENCHMARK(perf_first_branches)
    ->Name("perf/first_branches")
    ->UseManualTime()
    ->Iterations(1)
    ->Unit(benchmark::kMillisecond);
BENCHMARK_MAIN();
