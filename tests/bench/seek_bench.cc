// Going to any instruction or time of a long stream, and the pass that gives instructions their numbers.
//
// Input: 256 MiB of PT in one stream, see python_recording.h.
//
//   seek/instruction, seek/time   thousands of random places: microseconds at p50 and p95 until the first event is there
//   seek_libipt/instruction       the peer: libipt from the same PSB up to the same instruction
//   seek_cold/time                the first seek of all, when no code is known
//   previous/end                  the last 100 events before the end
//   index/threads:N               instruction numbers for the whole stream
// Every seek's answer is checked.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <functional>
#include <random>
#include <string>

#include "server/open_snapshot.h"
#include "tests/bench/python_recording.h"
#include "transport/bundle_reader.h"

namespace {

using namespace hindcast;          // NOLINT
using namespace hindcast::decode;  // NOLINT

std::unique_ptr<transport::BundleReader> reader;
std::unique_ptr<server::OpenSnapshot> opened;
uint32_t stream = 0;

std::unique_ptr<server::OpenSnapshot> open() {
  auto s = server::open_snapshot(*reader, 0, {});
  return s.ok() ? std::move(s).value() : nullptr;
}
std::unique_ptr<SeekableFlow> flow(Engine engine = Engine::fast) {
  FlowOptions options;
  options.engine = engine;
  return opened->trace->stream_flow(stream, options).value();
}

double microseconds(const std::function<void()>& what) {
  const auto begin = std::chrono::steady_clock::now();
  what();
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count();
}

/// One question for each number; wrong answers end the benchmark.
void ask(benchmark::State& state, size_t questions,
         const std::function<double(std::mt19937_64&, bool& right)>& question) {
  std::vector<double> times;
  std::mt19937_64 random(1);
  for (auto _ : state) {
    for (size_t i = 0; i < questions; ++i) {
      bool right = false;
      times.push_back(question(random, right));
      if (!right) return state.SkipWithError("a wrong answer");
    }
  }
  std::sort(times.begin(), times.end());
  state.counters["p50_us"] = times[times.size() / 2];
  state.counters["p95_us"] = times[times.size() * 95 / 100];
  state.counters["seeks"] = static_cast<double>(times.size());
}

void seek_instruction(benchmark::State& state) {
  const auto f = flow();
  const uint64_t all = f->instructions().value();
  ask(state, 2000, [&](std::mt19937_64& random, bool& right) {
    const uint64_t n = random() % all;
    FlowEvent e;
    const double us = microseconds([&] { right = f->seek_instruction(n) && f->next({&e, 1}) == 1; });
    right &= e.number <= n && n - e.number < e.event.count;
    return us;
  });
}

void seek_time(benchmark::State& state) {
  const auto f = flow();
  const CpuCoverage& cpu = opened->trace->cpus()[0];
  TscInterval window = cpu.time;
  for (const CpuCoverage& c : opened->trace->cpus())
    if (c.stream == stream) window = c.time;
  ask(state, 2000, [&](std::mt19937_64& random, bool& right) {
    const uint64_t span = window.latest.value() - window.earliest.value();
    const Tsc t(window.earliest.value() + random() % span);
    FlowEvent e, before;
    const double us = microseconds([&] {
      f->seek(t);
      right = f->next({&e, 1}) == 1;
    });
    right &= e.event.time.latest >= t;
    if (right && f->previous({&before, 1}) == 1 && f->previous({&before, 1}) == 1) right = before.event.time.latest < t;
    return us;
  });
}

void seek_libipt(benchmark::State& state) {
  // Where the fast engine is, by number; from there the offset of the PSB before it.
  const auto numbered = flow();
  const auto f = flow(Engine::libipt);
  const uint64_t all = numbered->instructions().value();
  ask(state, 100, [&](std::mt19937_64& random, bool& right) {
    const uint64_t n = random() % all;
    FlowEvent wanted, e;
    right = numbered->seek_instruction(n) && numbered->next({&wanted, 1}) == 1;
    const double us = microseconds([&] {
      f->seek(wanted.event.time.earliest);
      while (f->next({&e, 1}) == 1 && e.event.offset < wanted.event.offset) {
      }
    });
    right &= e.event.offset >= wanted.event.offset;
    return us;
  });
}

void seek_cold(benchmark::State& state) {
  ask(state, 3, [&](std::mt19937_64& random, bool& right) {
    opened = open();
    const auto f = flow();
    TscInterval window;
    for (const CpuCoverage& c : opened->trace->cpus())
      if (c.stream == stream) window = c.time;
    const Tsc t(window.earliest.value() + random() % (window.latest.value() - window.earliest.value()));
    FlowEvent e;
    const double us = microseconds([&] {
      f->seek(t);
      right = f->next({&e, 1}) == 1;
    });
    right &= e.event.time.latest >= t;
    return us;
  });
}

void previous_end(benchmark::State& state) {
  const auto f = flow();
  ask(state, 200, [&](std::mt19937_64&, bool& right) {
    std::array<FlowEvent, 100> events;
    return microseconds([&] {
      f->seek_end();
      right = f->previous(events) == events.size();
    });
  });
}

void index(benchmark::State& state) {
  double bytes = 0;
  for (auto _ : state) {
    state.PauseTiming();
    opened = open();
    state.ResumeTiming();
    if (!opened->trace->number_instructions(static_cast<size_t>(state.range(0)), {}).ok())
      return state.SkipWithError("no index");
    for (const CpuCoverage& c : opened->trace->cpus()) bytes += static_cast<double>(c.bytes);
  }
  state.counters["bytes/s"] = benchmark::Counter(bytes, benchmark::Counter::kIsRate);
  state.counters["instructions"] = static_cast<double>(flow()->instructions().value());
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  const test::TempFolder folder;
  const std::string path = test::python_recording(folder, "seek-python3", 1, 256);
  if (path.empty()) return 1;
  auto r = transport::BundleReader::open(path);
  if (!r.ok()) return 1;
  reader = std::make_unique<transport::BundleReader>(std::move(r).value());
  opened = open();
  if (!opened) return 1;
  uint64_t most = 0;
  for (const CpuCoverage& c : opened->trace->cpus())
    if (c.bytes > most) most = c.bytes, stream = c.stream;
  std::fprintf(stderr, "%llu bytes of PT in stream %u\n", static_cast<unsigned long long>(most), stream);

  using benchmark::kMillisecond;
  benchmark::RegisterBenchmark("seek_cold/time", seek_cold)->Iterations(1)->Unit(kMillisecond);
  for (int threads : {1, 2})
    benchmark::RegisterBenchmark("index", index)
        ->ArgName("threads")
        ->Arg(threads)
        ->Iterations(3)
        ->Unit(kMillisecond)
        ->UseRealTime();
  benchmark::RegisterBenchmark("seek/instruction", seek_instruction)->Iterations(1)->Unit(kMillisecond);
  benchmark::RegisterBenchmark("seek/time", seek_time)->Iterations(1)->Unit(kMillisecond);
  benchmark::RegisterBenchmark("seek_libipt/instruction", seek_libipt)->Iterations(1)->Unit(kMillisecond);
  benchmark::RegisterBenchmark("previous/end", previous_end)->Iterations(1)->Unit(kMillisecond);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
