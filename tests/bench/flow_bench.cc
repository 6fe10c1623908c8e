// Throughput of the flow engine beside bare libipt on the same bytes and the same code, in the same run.
//
// Inputs:
//   made_up     a call, a branch at random and a compressed return, over and over: two bits of trace for six instructions
//   kafl-mruby  of the corpus (HINDCAST_CORPUS): an interpreter on real hardware
// "warm" decoders have seen the code before; "cold" ones meet each block for the first time. Every run must give the known
// number of instructions.
#include <benchmark/benchmark.h>
#include <intel-pt.h>

#include <cstdio>
#include <random>

#include "decode/libipt_engine.h"
#include "tests/support/tiny_host.h"
#include "tests/support/tiny_program.h"

namespace {

using namespace hindcast;          // NOLINT
using namespace hindcast::decode;  // NOLINT

struct Input {
  std::unique_ptr<test::MemorySnapshot> snapshot;
  uint64_t instructions = 0;
  uint32_t stream = 0;
  ByteSpan pt() const { return snapshot->source.streams.at(stream); }
};

Input made_up() {
  test::TinyHost h;
  h.code(kNoPid, test::kTinyBase, test::tiny_program());
  test::PtBytes t;
  std::mt19937 random(1);
  Input in;
  std::string bits;
  uint64_t psb_at = 0;
  while (t.size() < (size_t{1} << 19)) {
    if (t.size() >= psb_at) {  // the loop stands at its call, and no bit is pending
      psb_at = t.size() + 2048;
      t.psb().mode_exec().fup(0x401000).psbend();
    }
    for (int i = 0; i < 3; ++i) {
      const bool taken = random() & 1;
      bits += taken ? "TT" : "NT";
      in.instructions += taken ? 5 : 7;
    }
    t.tnt(bits);
    bits.clear();
  }
  // Behind the last return nothing is known to have run.
  in.instructions -= 2;
  in.stream = h.pt(kNoCpu, t);
  in.snapshot = std::make_unique<test::MemorySnapshot>(std::move(h.snapshot));
  return in;
}

Input corpus(const std::string& name) {
  const test::CorpusTrace t = test::corpus_trace(name);
  Input in;
  in.snapshot = test::corpus_snapshot(t);
  in.instructions = t.insns;
  for (const StreamInfo& s : in.snapshot->info.streams)
    if (s.kind == StreamKind::pt) in.stream = s.id;
  return in;
}

struct Counts {
  uint64_t instructions = 0, branches = 0, blocks = 0;
};

void report(benchmark::State& state, const Input& in, const Counts& c) {
  if (c.instructions != in.instructions) {
    const std::string text = "wrong answer, so the speed means nothing: " + std::to_string(c.instructions) +
                             " instructions, not " + std::to_string(in.instructions);
    state.SkipWithError(text.c_str());
    return;
  }
  const auto rate = [&state](uint64_t n) {
    return benchmark::Counter(static_cast<double>(n) * static_cast<double>(state.iterations()),
                              benchmark::Counter::kIsRate);
  };
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations()) * static_cast<int64_t>(in.pt().size()));
  state.counters["instructions/s"] = rate(c.instructions);
  if (c.branches) state.counters["branches/s"] = rate(c.branches);
}

Counts count(FlowCursor& cursor) {
  Counts c;
  std::vector<FlowEvent> batch(1024);
  while (const size_t n = cursor.next(batch)) {
    for (size_t i = 0; i < n; ++i) {
      const Event& e = batch[i].event;
      if (e.kind != EventKind::block) continue;
      ++c.blocks;
      c.instructions += e.count;
      c.branches += e.end == BlockEnd::cond_branch || e.end == BlockEnd::indirect_jump ||
                    e.end == BlockEnd::indirect_call || e.end == BlockEnd::near_ret;
    }
  }
  return c;
}

void flow(benchmark::State& state, const Input& in, bool warm) {
  auto host = HostTrace::build(in.snapshot->info, in.snapshot->source);
  Counts c;
  for (auto _ : state) {
    if (!warm) {
      state.PauseTiming();
      host = HostTrace::build(in.snapshot->info, in.snapshot->source);
      state.ResumeTiming();
    }
    auto cursor = (*host)->stream_flow(in.stream);
    c = count(**cursor);
  }
  report(state, in, c);
}

void open_snapshot(benchmark::State& state, const Input& in) {
  size_t stretches = 0;
  for (auto _ : state) {
    auto host = HostTrace::build(in.snapshot->info, in.snapshot->source);
    stretches = (*host)->cpus()[0].stretches;
  }
  if (stretches == 0) state.SkipWithError("wrong answer, so the speed means nothing");
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations()) * static_cast<int64_t>(in.pt().size()));
}

/// libipt as its manual shows it: one decoder, one image made of files, blocks that run over direct branches.
void bare_libipt(benchmark::State& state, const Input& in) {
  auto host = HostTrace::build(in.snapshot->info, in.snapshot->source);
  FlowEvent at;
  at.stream = in.stream;
  const auto code = (*host)->image_of(at);
  IptCode cache;
  const auto image = cache.image_of(code, 64);
  const ByteSpan pt = in.pt();
  Counts c;
  for (auto _ : state) {
    c = {};
    pt_config config;
    pt_config_init(&config);
    config.cpu.vendor = pcv_intel;
    config.errata.bdm70 = 1;
    config.begin = const_cast<uint8_t*>(pt.data());
    config.end = config.begin + pt.size();
    pt_block_decoder* d = pt_blk_alloc_decoder(&config);
    pt_blk_set_image(d, image.get());
    for (int status = pt_blk_sync_forward(d); status >= 0; status = pt_blk_sync_forward(d)) {
      while (status >= 0 && !(status & pts_eos)) {
        while (status >= 0 && (status & pts_event_pending)) {
          pt_event event;
          status = pt_blk_event(d, &event, sizeof event);
        }
        if (status < 0 || (status & pts_eos)) break;
        pt_block block;
        block.ninsn = 0;
        status = pt_blk_next(d, &block, sizeof block);
        c.instructions += block.ninsn;
        ++c.blocks;
      }
    }
    pt_blk_free_decoder(d);
  }
  report(state, in, c);
}

void add(const std::string& name, const Input& in) {
  benchmark::RegisterBenchmark(("flow/warm/" + name).c_str(), [&in](auto& s) {
    flow(s, in, true);
  })->Unit(benchmark::kMillisecond);
  benchmark::RegisterBenchmark(("flow/cold/" + name).c_str(), [&in](auto& s) {
    flow(s, in, false);
  })->Unit(benchmark::kMillisecond);
  benchmark::RegisterBenchmark(("bare_libipt/warm/" + name).c_str(), [&in](auto& s) {
    bare_libipt(s, in);
  })->Unit(benchmark::kMillisecond);
  benchmark::RegisterBenchmark(("open/" + name).c_str(), [&in](auto& s) {
    open_snapshot(s, in);
  })->Unit(benchmark::kMillisecond);
}

}  // namespace

int main(int argc, char** argv) {
  const Input synthetic = made_up();
  add("made_up", synthetic);
  Input mruby;
  if (test::corpus_folder()) {
    mruby = corpus("kafl-mruby");
    add("kafl-mruby", mruby);
  } else {
    std::fprintf(stderr, "%s\n", test::kCorpusSkipText);
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
