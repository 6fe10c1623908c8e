// Packet layer: MB/s of our reader beside libipt's packet decoder on the same bytes, of the PSB search, of the time map
// and of the stretch scan. Every run checks its packet count: a wrong answer has no speed.
//
// Streams: "generated" is what a CPU with TSC, MTC and CYC on writes for branchy code (fixed seed, 16 MiB); "mruby" is
// the corpus trace kafl-mruby (713 KB, a third of it PADs), there when HINDCAST_CORPUS is set; "storm" is 16 MiB of PSBs.
#include <benchmark/benchmark.h>
#include <intel-pt.h>

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "decode/packet_reader.h"
#include "decode/psb_search.h"
#include "decode/pt_time.h"
#include "decode/stretches.h"
#include "tests/support/corpus.h"
#include "tests/support/pt_bytes.h"

namespace hindcast::decode {
namespace {

struct Stream {
  std::vector<uint8_t> bytes;
  uint64_t packets = 0, psbs = 0;
};

/// Blocks of branches as a CPU sends them, each with its CYC, an MTC about every 25 of them and a PSB+ every 16 KiB.
Stream generate() {
  constexpr size_t kBytes = 16 << 20, kPsbEvery = 16 << 10;
  std::mt19937_64 random(7);
  test::PtBytes t;
  Stream s;
  uint64_t tsc = 1 << 30, ctc = 0, next_psb = 0;
  const auto count = [&](uint64_t n) { s.packets += n; };
  while (t.size() < kBytes) {
    if (t.size() >= next_psb) {
      t.psb().tsc(tsc).tma(static_cast<uint16_t>(ctc), 3).cbr(30).mode_exec().fup(0x401000).psbend();
      count(7);
      ++s.psbs;
      next_psb = t.size() + kPsbEvery;
    }
    const uint64_t dice = random() % 100;
    t.cyc(1 + random() % 200);
    count(1);
    if (dice < 70) {
      t.tnt(std::string{"TNTTNTTTNNTT"}.substr(dice % 6, 6));
    } else if (dice < 95) {
      t.tip(0x400000 + random() % 65536, 1 + static_cast<int>(random() % 2));
    } else if (dice < 97) {
      t.fup(0x401234, 1).tip_pgd().tip_pge(0x401234, 1);
      count(2);
    } else {
      tsc += 1232;
      ctc += 8;
      t.mtc(static_cast<uint8_t>(ctc >> 3));
    }
    count(1);
  }
  s.bytes = t.bytes();
  return s;
}

/// Nothing but PSBs.
Stream generate_storm() {
  constexpr size_t kPsbs = 1 << 20;
  Stream s;
  s.psbs = s.packets = kPsbs;
  for (size_t i = 0; i < kPsbs * 8; ++i) s.bytes.insert(s.bytes.end(), {0x02, 0x82});
  return s;
}

const Stream* stream(const std::string& name) {
  static const Stream generated = generate();
  if (name == "generated") return &generated;
  static const Stream storm = generate_storm();
  if (name == "storm") return &storm;
  if (!test::corpus_folder()) return nullptr;
  static const Stream mruby = [] {
    const test::CorpusTrace t = test::corpus_trace("kafl-mruby");
    Stream s;
    s.bytes = test::file_bytes(t.trace);
    for (const auto& [kind, n] : t.packets) s.packets += n;
    s.psbs = t.packets.at("psb");
    return s;
  }();
  return &mruby;
}

/// The stream, or nullptr after telling why the run is skipped.
const Stream* stream_for(benchmark::State& state, const char* name) {
  const Stream* s = stream(name);
  if (!s) state.SkipWithError("HINDCAST_CORPUS is not set");
  return s;
}

void finish(benchmark::State& state, const Stream& s, bool right, const char* what) {
  if (!right) state.SkipWithError((std::string("wrong ") + what + ", so the speed means nothing").c_str());
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * s.bytes.size()));
}

void our_reader(benchmark::State& state, const char* name) {
  const Stream* s = stream_for(state, name);
  if (!s) return;
  uint64_t n = 0, sum = 0;
  for (auto _ : state) {
    n = 0;
    PacketReader reader(s->bytes);
    for (Packet p; reader.next(p) == Step::ok; ++n) sum += p.payload + p.detail;
    benchmark::DoNotOptimize(sum);
  }
  state.counters["ns_per_packet"] = benchmark::Counter(static_cast<double>(state.iterations() * n),
                                                       benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
  finish(state, *s, n == s->packets, "packet count");
}

using LibiptReader = std::unique_ptr<pt_packet_decoder, void (*)(pt_packet_decoder*)>;
LibiptReader libipt_reader_of(const Stream& s) {
  pt_config config;
  pt_config_init(&config);
  config.begin = const_cast<uint8_t*>(s.bytes.data());
  config.end = config.begin + s.bytes.size();
  return {pt_pkt_alloc_decoder(&config), pt_pkt_free_decoder};
}

void libipt_reader(benchmark::State& state, const char* name) {
  const Stream* s = stream_for(state, name);
  if (!s) return;
  uint64_t n = 0, sum = 0;
  for (auto _ : state) {
    n = 0;
    const LibiptReader d = libipt_reader_of(*s);
    pt_pkt_sync_set(d.get(), 0);
    for (pt_packet p; pt_pkt_next(d.get(), &p, sizeof p) > 0; ++n) sum += p.size;
    benchmark::DoNotOptimize(sum);
  }
  finish(state, *s, n == s->packets, "packet count");
}

void psb_search(benchmark::State& state, const char* name) {
  const Stream* s = stream_for(state, name);
  if (!s) return;
  uint64_t n = 0;
  for (auto _ : state) {
    n = 0;
    PsbSearch search(s->bytes);
    for (auto at = search.next(0); at; at = search.next(*at + 1)) ++n;
    benchmark::DoNotOptimize(n);
  }
  finish(state, *s, n == s->psbs, "PSB count");
}

void libipt_psb_search(benchmark::State& state, const char* name) {
  const Stream* s = stream_for(state, name);
  if (!s) return;
  uint64_t n = 0;
  for (auto _ : state) {
    n = 0;
    const LibiptReader d = libipt_reader_of(*s);
    while (pt_pkt_sync_forward(d.get()) >= 0) ++n;
    benchmark::DoNotOptimize(n);
  }
  finish(state, *s, n == s->psbs, "PSB count");
}

void packet_scan(benchmark::State& state, const char* name) {
  const Stream* s = stream_for(state, name);
  if (!s) return;
  PtTimeConfig config;
  config.tsc_ctc_num = 308;
  config.tsc_ctc_den = 2;
  config.mtc_period = 3;
  uint64_t readings = 0, stretches = 0, timing = 0, pges = 0;
  for (auto _ : state) {
    const PtScan found = scan_packets(s->bytes, config);
    readings = found.times.readings();
    stretches = found.map.stretches.size();
  }
  PacketReader reader(s->bytes);
  for (Packet p; reader.next(p) == Step::ok;) {
    timing += p.kind == Kind::tsc || p.kind == Kind::mtc;
    pges += p.kind == Kind::tip_pge;
  }
  // One each TIP.PGE, and one more where the stream begins or an overflow resolves while on.
  const bool right = readings == timing && (stretches == pges || stretches == pges + 1);
  finish(state, *s, right, "number of readings or stretches");
}

BENCHMARK_CAPTURE(our_reader, generated, "generated");
BENCHMARK_CAPTURE(libipt_reader, generated, "generated");
BENCHMARK_CAPTURE(psb_search, generated, "generated");
BENCHMARK_CAPTURE(libipt_psb_search, generated, "generated");
BENCHMARK_CAPTURE(psb_search, storm, "storm");
BENCHMARK_CAPTURE(packet_scan, generated, "generated");
BENCHMARK_CAPTURE(our_reader, mruby, "mruby");
BENCHMARK_CAPTURE(libipt_reader, mruby, "mruby");
BENCHMARK_CAPTURE(psb_search, mruby, "mruby");
BENCHMARK_CAPTURE(libipt_psb_search, mruby, "mruby");

}  // namespace
}  // namespace hindcast::decode

BENCHMARK_MAIN();
