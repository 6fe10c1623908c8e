// Traces that somebody made to be slow: four times as many bytes must take about four times as long, with either engine.
//
// Each is made at a size and at four times that. What is timed is all that a stranger's trace goes through: HostTrace::build
// and one stream's whole flow. Every run checks how many blocks, instructions and gaps come out, and the speed is that of the
// larger one. Counters:
//   growth   CPU time a byte at the larger size, by that at the smaller one: 1 is linear, 4 is the square; 3 is an error
// Known errors: nop_sled/fast (a block is disassembled to its end from each address that it is entered at), and
// overlapping_code/libipt (libipt looks for a section in a list).
#include <benchmark/benchmark.h>

#include <algorithm>
#include <ctime>
#include <limits>
#include <string>

#include "tests/support/tiny_host.h"

namespace {

using namespace hindcast;          // NOLINT
using namespace hindcast::decode;  // NOLINT
using test::PtBytes;

constexpr uint64_t kBase = 0x400000;

struct Totals {
  uint64_t blocks = 0, instructions = 0, gaps = 0;
  bool operator==(const Totals&) const = default;
};

struct Hostile {
  test::TinyHost host;
  uint64_t bytes = 0;
  Totals want, libipt_wants;  // they differ where nobody knows what ran last

  void expect(Totals both) { want = libipt_wants = both; }
  void add(const PtBytes& pt) {
    bytes = pt.size();
    host.pt(CpuId(0), pt);
  }
};

std::vector<uint8_t> repeat(std::initializer_list<uint8_t> code, uint64_t times) {
  std::vector<uint8_t> all;
  for (uint64_t i = 0; i < times; ++i) all.insert(all.end(), code);
  return all;
}

PtBytes psb_on(uint64_t ip) { return PtBytes().psb().mode_exec().fup(ip).psbend(); }
PtBytes psb_off() { return PtBytes().psb().mode_exec().psbend(); }

/// Each of n places once, none beside the one before.
uint64_t scattered(uint64_t i, uint64_t n) { return i * 0x9e3779b1 % n; }

/// A TIP to an address never seen, and that again: nothing that was learned is of use.
void tips_everywhere(Hostile& h, uint64_t size) {
  const uint64_t n = size / 5;
  h.host.code(kNoPid, kBase, repeat({0xff, 0xe0}, n));  // jmp *%rax
  PtBytes pt = psb_on(kBase);
  uint64_t to = kBase;
  for (uint64_t i = 1; i <= n; ++i) pt.tip(to = kBase + 2 * scattered(i, n), 2);
  h.add(pt.fup(to).tip_pgd());
  h.expect({n, n, 0});
}

/// Stretch after stretch, each in a loop that uses no trace, and one PSB for all of them.
void self_loop(Hostile& h, uint64_t size) {
  const uint64_t n = size / 4;
  h.host.code(kNoPid, kBase, {0xeb, 0xfe});  // jmp to itself
  PtBytes pt = psb_off();
  for (uint64_t i = 0; i < n; ++i) pt.tip_pge(kBase, i == 0 ? 3 : 1).tip_pgd();
  h.add(pt);
  h.want = {n, n, n};
  h.libipt_wants = {2 * n, 2 * n, n};  // it passes the jump twice before that is noticed
}

/// PSBs that say nothing, behind a return that was never called.
void psb_storm(Hostile& h, uint64_t size) {
  const uint64_t n = size / 16;
  h.host.code(kNoPid, kBase, {0xc3});
  PtBytes pt = psb_on(kBase).tnt("N");
  for (uint64_t i = 0; i < n; ++i) pt.psb();
  h.add(pt);
  h.want = {0, 0, n + 2};
  h.libipt_wants = {1, 1, n + 1};
}

/// Mappings that lie across each other, four deep, and jumps between them.
void overlapping_code(Hostile& h, uint64_t size) {
  constexpr uint64_t kStep = 2048;
  const uint64_t n = size / 5, mappings = size / 512;
  h.host.code(kNoPid, kBase, repeat({0xff, 0xe0}, 2 * kStep));
  PlacementInfo p = h.host.snapshot.info.placements[0];
  for (uint64_t i = 1; i < mappings; ++i) {
    p.address = kBase + i * kStep;
    h.host.snapshot.info.placements.push_back(p);
  }
  PtBytes pt = psb_on(kBase);
  uint64_t to = kBase;
  for (uint64_t i = 1; i <= n; ++i) pt.tip(to = kBase + kStep * scattered(i, mappings) + 2 * (i % 100), 2);
  h.add(pt.fup(to).tip_pgd());
  h.expect({n, n, 0});
}

/// A long straight line of code, entered at each of its addresses.
void nop_sled(Hostile& h, uint64_t size) {
  const uint64_t n = size / 5;
  std::vector<uint8_t> code(n, 0x90);
  code.insert(code.end(), {0xff, 0xe0});
  h.host.code(kNoPid, kBase, std::move(code));
  PtBytes pt = psb_on(kBase + n);
  uint64_t to = kBase;
  Totals want{n, 1, 0};
  for (uint64_t i = 1; i <= n; ++i) {
    const uint64_t at = scattered(i, n);
    pt.tip(to = kBase + at, 2);
    if (i < n) want.instructions += n - at + 1;
  }
  h.add(pt.fup(to).tip_pgd());
  h.expect(want);
}

/// One branch, taken again and again: the most blocks that a byte can ask for.
void tight_loop(Hostile& h, uint64_t size) {
  const uint64_t n = size / 8;
  h.host.code(kNoPid, kBase, {0x75, 0xfe});  // jne to itself
  PtBytes pt = psb_on(kBase);
  for (uint64_t i = 0; i < n; ++i) pt.tnt64("TTTTTTTTTTTTTTTTTTTTTTTTTTTTTTTTTTTTTTTTTTTTTTT");
  h.add(pt.fup(kBase).tip_pgd());
  h.expect({47 * n, 47 * n, 0});
}

/// Every other stretch is one that the fast engine leaves to libipt.
void every_other_for_libipt(Hostile& h, uint64_t size) {
  h.host.code(kNoPid, kBase, {0xff, 0xe0, 0xff, 0xe0});
  PtBytes plain = psb_off().tip_pge(kBase).tip(kBase + 2).fup(kBase + 2).tip_pgd();
  PtBytes interrupted = psb_off().tip_pge(kBase).fup(kBase).tip(kBase).tip(kBase + 2).fup(kBase + 2).tip_pgd();
  const uint64_t n = size / (plain.size() + interrupted.size());
  PtBytes pt;
  for (uint64_t i = 0; i < n; ++i) pt.append(plain).append(interrupted);
  h.add(pt);
  h.expect({2 * n, 2 * n, 0});
}

double cpu_seconds() {
  timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

/// Decodes all of it. CPU seconds; an empty text when the answer is right.
double decode(Hostile& h, Engine engine, std::string& wrong) {
  const double before = cpu_seconds();
  const auto host = h.host.build();
  FlowOptions options;
  options.engine = engine;
  const auto flow = host->stream_flow(1, options);
  Totals got;
  std::vector<FlowEvent> batch(256);
  while (const size_t n = (*flow)->next(batch)) {
    for (size_t i = 0; i < n; ++i) {
      const Event& e = batch[i].event;
      if (e.kind == EventKind::gap) ++got.gaps;
      if (e.kind != EventKind::block) continue;
      ++got.blocks;
      got.instructions += e.count;
    }
  }
  const Totals& want = engine == Engine::fast ? h.want : h.libipt_wants;
  if (got != want)
    wrong = "wrong answer, so the speed means nothing: " + std::to_string(got.blocks) + " blocks, " +
            std::to_string(got.instructions) + " instructions, " + std::to_string(got.gaps) + " gaps, not " +
            std::to_string(want.blocks) + ", " + std::to_string(want.instructions) + ", " + std::to_string(want.gaps);
  return cpu_seconds() - before;
}

void hostile(benchmark::State& state, void (*make)(Hostile&, uint64_t), uint64_t size, Engine engine) {
  Hostile small, large;
  make(small, size);
  make(large, 4 * size);
  std::string wrong;
  double at_small = std::numeric_limits<double>::max(), at_large = at_small;
  for (int i = 0; i < 3 && wrong.empty(); ++i) at_small = std::min(at_small, decode(small, engine, wrong));
  for (auto _ : state)
    if (wrong.empty()) at_large = std::min(at_large, decode(large, engine, wrong));
  const double growth = at_large / static_cast<double>(large.bytes) / (at_small / static_cast<double>(small.bytes));
  if (wrong.empty() && growth > 3)
    wrong =
        "time grows faster than the size: growth " + std::to_string(growth) + ", " + std::to_string(at_large) + " s";
  if (!wrong.empty()) state.SkipWithError(wrong.c_str());
  state.counters["growth"] = growth;
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * large.bytes));
}

void add(const std::string& name, void (*make)(Hostile&, uint64_t), uint64_t size = 256 << 10) {
  for (const Engine engine : {Engine::fast, Engine::libipt}) {
    const std::string full = name + (engine == Engine::fast ? "/fast" : "/libipt");
    benchmark::RegisterBenchmark(full.c_str(), hostile, make, size, engine)->Unit(benchmark::kMillisecond);
  }
}

}  // namespace

int main(int argc, char** argv) {
  add("tips_everywhere", tips_everywhere);
  add("self_loop", self_loop);
  add("psb_storm", psb_storm);
  add("overlapping_code", overlapping_code);
  add("nop_sled", nop_sled, 16 << 10);
  add("tight_loop", tight_loop);
  add("every_other_for_libipt", every_other_for_libipt);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
