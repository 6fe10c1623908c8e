// From a bundle of 1 GiB of PT on disk to the first symbolised answer, as a user gets it: a hindcast process each time.
//
// Input: two CPUs with 512 MiB each, see python_recording.h.
//
//   open/first_time          nothing is known of it: its packets are scanned
//   open/again               what that found was kept
//   open_end/again           the last 40 events instead of the first ones
//   perf/first_branches      the peer: `perf script --itrace=b` on the same trace, exported, until it has said 40 branches
// Counters: peak memory in MiB. Each answer has 40 events of CPU 0 with source lines, and is the same each time.
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <sstream>

#include "tests/bench/python_recording.h"

namespace {

using namespace hindcast::test;  // NOLINT
using Clock = std::chrono::steady_clock;

std::string bundle;
TempFolder* folder = nullptr;

struct Answer {
  double seconds = 0, peak_mib = 0;
  std::string text;  // empty: it failed
};

/// With what it took, which run_program() does not tell.
Answer ask(const std::vector<std::string>& argv) {
  const std::string out = *folder / "answer", cache = "HINDCAST_CACHE=" + (*folder / "cache");
  std::vector<char*> args;
  for (const std::string& a : argv) args.push_back(const_cast<char*>(a.c_str()));
  args.push_back(nullptr);
  char* const env[] = {const_cast<char*>("PATH=/usr/bin:/bin"), const_cast<char*>(cache.c_str()), nullptr};
  Answer answer;
  const auto begin = Clock::now();
  const pid_t child = ::fork();
  if (child == 0) {
    const int fd = ::open(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd >= 0 && ::dup2(fd, 1) == 1) ::execve(args[0], args.data(), env);
    ::_exit(127);
  }
  int status = 0;
  rusage used{};
  if (child < 0 || ::wait4(child, &status, 0, &used) != child || status != 0) return answer;
  answer.seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  answer.peak_mib = static_cast<double>(used.ru_maxrss) / 1024;
  std::stringstream text;
  text << std::ifstream(out).rdbuf();
  answer.text = text.str();
  return answer;
}

void open(benchmark::State& state, const char* from, bool first_time) {
  static std::string before[2];
  std::string& same = before[from == std::string("--tail")];
  double peak = 0;
  for (auto _ : state) {
    if (first_time) run_program({"/bin/rm", "-rf", *folder / "cache"});
    const Answer a = ask({std::string(HC_BIN_DIR) + "/hindcast", "show", from, "40", "--cpu", "0", bundle});
    state.SetIterationTime(a.seconds);
    peak = std::max(peak, a.peak_mib);
    if (std::count(a.text.begin(), a.text.end(), '\n') < 40 || a.text.find(".c:") == std::string::npos)
      return state.SkipWithError("no answer");
    if (same.empty()) same = a.text;
    if (a.text != same) return state.SkipWithError("another answer than before");
  }
  state.counters["peak_MiB"] = peak;
}

void perf_first_branches(benchmark::State& state) {
  if (run_program({"/bin/sh", "-c", "command -v perf"}).code != 0)
    return state.SkipWithError("needs perf (linux-perf)");
  const Ran exported = run_program({std::string(HC_BIN_DIR) + "/hindcast", "export", bundle, "-o", *folder / "x.perf"});
  if (exported.code != 0) return state.SkipWithError(exported.err.c_str());
  for (auto _ : state) {
    const Answer a = ask({"/bin/sh", "-c", exported.lines().at(0) + " 2>/dev/null | head -40"});
    state.SetIterationTime(a.seconds);
    if (std::count(a.text.begin(), a.text.end(), '\n') < 40) return state.SkipWithError("perf said nothing");
  }
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  TempFolder place;
  folder = &place;
  bundle = python_recording(place, "gib-python3", 2, 512);
  if (bundle.empty()) return 1;
  const auto add = [](const char* name, auto what, int times) {
    benchmark::RegisterBenchmark(name, what)->UseManualTime()->Iterations(times)->Unit(benchmark::kMillisecond);
  };
  add(
      "open/first_time", [](auto& s) { open(s, "--limit", true); }, 3);
  add(
      "open/again", [](auto& s) { open(s, "--limit", false); }, 7);
  add(
      "open_end/again", [](auto& s) { open(s, "--tail", false); }, 7);
  add("perf/first_branches", perf_first_branches, 1);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
