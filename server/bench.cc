#include "server/bench.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <functional>
#include <span>
#include <vector>

namespace hindcast::server {
namespace {

using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

/// One pass over all streams.
using Pass = std::function<Result<BenchReport::Work>()>;

/// Repeats it until the budget is used up, at least three times (unless one alone takes longer than the budget).
Result<BenchReport::Way> measure(const Pass& pass, Seconds budget) {
  std::vector<double> seconds;
  BenchReport::Way way;
  const auto begin = Clock::now();
  do {
    const auto before = Clock::now();
    HC_TRY(way.work, pass());
    seconds.push_back(Seconds(Clock::now() - before).count());
  } while ((seconds.size() < 3 && seconds.front() < budget.count()) || Clock::now() - begin < budget);
  std::sort(seconds.begin(), seconds.end());
  way.passes = seconds.size();
  way.seconds = seconds[seconds.size() / 2];
  return way;
}

using Count = Result<decode::FlowTotals> (decode::HostTrace::*)(uint32_t stream) const;

Result<BenchReport::Work> count_all(const OpenSnapshot& snapshot, Count one, decode::FlowTotals& totals) {
  BenchReport::Work work;
  totals = {};
  for (const decode::CpuCoverage& c : snapshot.trace->cpus()) {
    HC_TRY(const decode::FlowTotals t, ((*snapshot.trace).*one)(c.stream));
    work.instructions += t.instructions;
    work.branches += t.branches;
    totals.stretches += t.stretches;
    totals.skipped += t.skipped;
    totals.given_up += t.given_up;
    totals.intervals += t.intervals;
  }
  return work;
}

Result<BenchReport::Work> decode_all(const OpenSnapshot& snapshot, Engine engine) {
  BenchReport::Work work;
  std::array<decode::FlowEvent, 1024> events;
  for (const decode::CpuCoverage& c : snapshot.trace->cpus()) {
    decode::FlowOptions options;
    options.engine = engine;
    HC_TRY(auto cursor, snapshot.trace->stream_flow(c.stream, options));
    while (const size_t n = cursor->next(events)) {
      for (const decode::FlowEvent& e : std::span(events).first(n)) {
        if (e.event.kind != EventKind::block) continue;
        work.instructions += e.event.count;
        work.branches += e.event.end != BlockEnd::none && e.event.end != BlockEnd::direct_jump &&
                         e.event.end != BlockEnd::direct_call;
      }
    }
  }
  return work;
}

}  // namespace

Result<BenchReport> bench_snapshot(OpenSnapshot& snapshot, Seconds budget, const Progress& progress) {
  BenchReport r;
  for (const decode::CpuCoverage& c : snapshot.trace->cpus()) r.bytes += c.bytes;
  const auto done = [&](uint64_t ways) {
    if (progress) progress(ways, 5);
  };
  decode::FlowTotals totals;
  const Pass count = [&] { return count_all(snapshot, &decode::HostTrace::count, totals); };
  done(0);
  HC_TRY(r.cold, measure(count, Seconds(0)));
  r.stretches = totals.stretches;
  r.skipped = totals.skipped;
  r.given_up = totals.given_up;
  done(1);
  HC_TRY(r.flow, measure(count, budget));
  done(2);
  HC_TRY(r.times, measure([&] { return count_all(snapshot, &decode::HostTrace::count_timed, totals); }, budget));
  r.intervals = totals.intervals;
  done(3);
  HC_TRY(r.events, measure([&] { return decode_all(snapshot, Engine::fast); }, budget));
  done(4);
  HC_TRY(r.libipt, measure([&] { return decode_all(snapshot, Engine::libipt); }, budget));
  return r;
}

}  // namespace hindcast::server
