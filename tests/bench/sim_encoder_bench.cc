// Speed of the simulator's encoding side: blocks a second from a thread's words to packets in the CPU's ring.
//
// Workload: a random walk over a synthetic program (about a third conditional branches, calls with compressed returns,
// 5 % indirect branches, 4.5 instructions a block), a mark each 64 blocks as the plugin writes them, one CPU. Each
// configuration's trace is decoded once by libipt, and the instruction count must agree, before its speed counts.
#include <benchmark/benchmark.h>

#include "capture/sim/thread_merge.h"
#include "tests/unit/capture/sim_decode.h"
#include "tests/unit/capture/sim_program.h"

namespace hindcast::sim {
namespace {

constexpr uint64_t kHz = 2596154000;
constexpr uint64_t kStart = uint64_t{1} << 44;

struct Workload {
  explicit Workload(uint64_t blocks) : program(0x400000, 5, 60, 0.08), table(std::make_shared<BlockTable>()) {
    for (uint32_t i = 0; i < program.blocks().size(); ++i) table->add(i, program.blocks()[i]);
    SyntheticWalk walk(program, 5);
    uint64_t t = kStart + 10000;
    const auto put64 = [&](uint64_t v) {
      words.push_back(static_cast<uint32_t>(v));
      words.push_back(static_cast<uint32_t>(v >> 32));
    };
    const auto named = [&](Word w) {
      words.push_back(special(w, 0));
      put64(t);
    };
    named(Word::mark);
    for (uint64_t n = 0; n < blocks; ++n) {
      const BlockInfo& b = program.blocks()[walk.current()];
      if (n % 64 == 63) named(Word::mark);
      words.push_back(walk.current());
      instructions += b.instructions;
      t += b.instructions * 13;  // 200 M instructions/s
      if (b.kind == Terminator::far) {
        named(Word::syscall_enter);
        t += 2000;
        named(Word::syscall_return);
      }
      walk.step();
    }
    this->blocks = blocks;
    named(Word::mark);
    end = t + 100000;
    published = words.size();
    size_t capacity = 1;
    while (capacity < words.size()) capacity *= 2;
    words.resize(capacity);
  }
  SyntheticProgram program;
  std::shared_ptr<BlockTable> table;
  std::vector<uint32_t> words;
  uint64_t published = 0;  // words; the rest only makes the ring a power of two
  uint64_t instructions = 0, blocks = 0, end = 0;
};

MergeConfig config_of(const char* pt) {
  MergeConfig m;
  m.encoder.pt = *parse_pt_options(pt);
  m.encoder.cpu = simulated_cpu(kHz);
  m.encoder.tsc_hz = kHz;
  m.encoder.ring_bytes = uint64_t{1} << 28;
  m.encoder.start_tsc = kStart;
  m.cpus = {CpuId(0)};
  return m;
}

uint64_t encode(const Workload& w, const MergeConfig& config, std::unique_ptr<ThreadMerge>& merge) {
  merge = std::make_unique<ThreadMerge>(config);
  std::atomic<uint64_t> written{w.published}, taken{0};
  WordRing ring;
  ring.words = w.words.data();
  ring.capacity = w.words.size();
  ring.written = &written;
  ring.taken = &taken;
  merge->add_thread(Pid(1), Tid(1), ring, w.table, kStart + 1);
  merge->on_switch(CpuId(0), Tid(1), kStart + 1000, true);
  merge->finish(w.end);
  return merge->encoder(CpuId(0)).ring().written();
}

void encode_blocks(benchmark::State& state, const char* pt) {
  static const Workload workload(4000000);
  const MergeConfig config = config_of(pt);
  std::unique_ptr<ThreadMerge> merge;
  uint64_t bytes = encode(workload, config, merge);
  const ReadMemory read = [](uint8_t* buffer, size_t size, uint64_t ip) -> int {
    const auto& p = workload.program;
    if (!p.contains(ip)) return -pte_nomap;
    const size_t n = std::min<size_t>(size, p.base() + p.code().size() - ip);
    std::memcpy(buffer, p.code().data() + (ip - p.base()), n);
    return static_cast<int>(n);
  };
  const Decoded decoded = ipt_decode<pt_block_decoder>(merge->encoder(CpuId(0)).ring().contents(), config.encoder.cpu,
                                                       config.encoder.pt, read);
  // The last block's successor is not known, so it may count as not run.
  if (!decoded.errors.empty() || decoded.overflows != 0 || decoded.instructions > workload.instructions ||
      workload.instructions - decoded.instructions > 16) {
    state.SkipWithError("libipt found another instruction count, so the speed means nothing");
    return;
  }
  for (auto _ : state) bytes = encode(workload, config, merge);
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * bytes));
  using benchmark::Counter;
  const auto per_second = [&](uint64_t n) {
    return Counter(static_cast<double>(n * state.iterations()), Counter::kIsRate, Counter::kIs1000);
  };
  state.counters["blocks/s"] = per_second(workload.blocks);
  state.counters["instructions/s"] = per_second(workload.instructions);
  state.counters["bytes/block"] = static_cast<double>(bytes) / static_cast<double>(workload.blocks);
}

BENCHMARK_CAPTURE(encode_blocks, tsc_mtc_cyc, "tsc,mtc,cyc")->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(encode_blocks, tsc_mtc, "tsc,mtc")->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(encode_blocks, noretcomp_cyc, "tsc,mtc,cyc,noretcomp")->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace hindcast::sim

BENCHMARK_MAIN();
