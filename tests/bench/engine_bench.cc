// The fast engine beside libipt, on recorded programs, in the same run.
//
// Inputs: kafl-mruby of the corpus (HINDCAST_CORPUS), and python3, a compiler and gzip under the simulated source, each with no
// timing, with TSC and MTC, with CYC too, and that without RET compression.
//
// HINDCAST_BENCH_ONLY=python3/cyc takes inputs with that in their name; HINDCAST_BENCH_KEEP=FOLDER keeps what was recorded
// and takes it the next time.
//
//   lanes/X          stage 1 alone; scan/X is its peer: a table look-up for each byte
//   blocks/X         the ordered sequence of blocks as ids, all code known
//   blocks_cold/X    the same with nothing known: disassembly included; bytes_per_block: memory of the graphs
//   count/X          instructions alone
//   times/X          the ordered sequence of blocks as ids, with an interval of time for each: these are added up, as libipt's
//   events/X         the same as events, through the FlowDecoder
//   libipt/X         libipt's block decoder, all code known; libipt_cold/X, and libipt_time/X with a time per block
// Every run must give the number of instructions that libipt gave.
#include <benchmark/benchmark.h>
#include <intel-pt.h>
#include <unistd.h>

#include <cstdio>
#include <map>
#include <set>

#include "decode/fast/fast_engine.h"
#include "decode/fast/walk_stream.h"
#include "server/open_snapshot.h"
#include "tests/support/corpus.h"
#include "tests/support/run_program.h"
#include "tests/support/tiny_host.h"
#include "transport/bundle_reader.h"

namespace {

using namespace hindcast;          // NOLINT
using namespace hindcast::decode;  // NOLINT

/// One stream with the code of each of its stretches.
struct Input {
  // what keeps it alive
  std::unique_ptr<test::MemorySnapshot> memory;
  std::unique_ptr<transport::BundleReader> reader;
  std::unique_ptr<server::OpenSnapshot> opened;
  std::unique_ptr<HostTrace> built;
  SharedBytes bytes;

  PtTrace trace;
  std::vector<std::shared_ptr<const CodeImage>> images;  // per stretch; null: nobody's
  DecodeConfig config;
  uint64_t instructions = 0;

  void fill(const HostTrace& host, const SnapshotInfo& info, ByteSpan pt, uint32_t stream) {
    PtTimeConfig time = PtTimeConfig::from(info.cpu, info.pt);
    trace = PtTrace::scan(pt, time);
    config.cpu = info.cpu;
    config.options = info.pt;
    for (size_t s = 0; s < trace.map.stretches.size(); ++s) {
      FlowEvent at;
      at.stream = stream;
      at.stretch = static_cast<uint32_t>(s);
      images.push_back(host.image_of(at));
    }
  }
};

struct Selector final : ImageSelector {
  explicit Selector(const Input& in) : in_(in) {}
  std::shared_ptr<const CodeImage> image_at(uint64_t offset, Ip) override {
    const size_t s = in_.trace.stretch_at(offset);
    return s < in_.images.size() ? in_.images[s] : nullptr;
  }
  const Input& in_;
};

struct Totals {
  uint64_t instructions = 0, blocks = 0;
};

template <class Sink>
void walk_all(const Input& in, BlockGraphs& graphs, Sink& sink) {
  walk_stream(
      in.trace, !in.config.options.noretcomp, graphs, [&](size_t s) { return in.images[s]; }, sink);
}

/// Instructions of all, and superblocks.
struct Count {
  Totals t;
  std::array<BlockId, 1024> ids;
  std::span<BlockId> room() { return ids; }
  void wrote(const BlockGraph& g, size_t n) {
    for (const BlockId id : std::span(ids).first(n)) t.instructions += g.block(index_of(id)).through;
    t.blocks += n;
  }
  void last(const BlockGraph&, uint32_t instructions) {
    t.instructions += instructions;
    ++t.blocks;
  }
  void skipped() {}
  void stuck() {}
};

Totals count_all(const Input& in, BlockGraphs& graphs) {
  Count count;
  walk_all(in, graphs, count);
  return count.t;
}

/// All ids in one array.
struct Write {
  static constexpr size_t kPiece = 4096;
  std::vector<BlockId> out;
  size_t n = 0;
  std::span<BlockId> room() { return std::span(out).subspan(n).first(kPiece); }
  void wrote(const BlockGraph&, size_t more) { n += more; }
  void last(const BlockGraph&, uint32_t) { out[n++] = kNoBlock; }
  void skipped() {}
  void stuck() {}
};

/// libipt as its manual shows it, with the code of each stretch.
Totals libipt_all(const Input& in, IptCode& code, bool with_time) {
  pt_config config;
  pt_config_init(&config);
  config.cpu.vendor = pcv_intel;
  config.errata.bdm70 = 1;
  config.mtc_freq = in.config.options.mtc_period;
  config.nom_freq = in.config.cpu.nominal_ratio;
  config.cpuid_0x15_eax = in.config.cpu.tsc_ctc_den;
  config.cpuid_0x15_ebx = in.config.cpu.tsc_ctc_num;
  config.begin = const_cast<uint8_t*>(in.trace.bytes.data());
  config.end = config.begin + in.trace.bytes.size();
  pt_block_decoder* d = pt_blk_alloc_decoder(&config);
  Totals t;
  uint64_t times = 0;
  size_t s = 0;
  const CodeImage* now = nullptr;
  std::vector<std::shared_ptr<pt_image>> held;
  const auto enter = [&](size_t stretch) {
    if (stretch >= in.images.size() || !in.images[stretch] || in.images[stretch].get() == now) return;
    now = in.images[stretch].get();
    held.push_back(code.image_of(in.images[stretch], 64));
    pt_blk_set_image(d, held.back().get());
  };
  enter(0);
  for (int status = pt_blk_sync_forward(d); status >= 0; status = pt_blk_sync_forward(d)) {
    while (status >= 0 && !(status & pts_eos)) {
      while (status >= 0 && (status & pts_event_pending)) {
        pt_event event;
        status = pt_blk_event(d, &event, sizeof event);
        if (event.type == ptev_disabled || event.type == ptev_async_disabled) ++s;
        if (event.type == ptev_enabled && !event.status_update) enter(s);
      }
      if (status < 0 || (status & pts_eos)) break;
      pt_block block;
      block.ninsn = 0;
      status = pt_blk_next(d, &block, sizeof block);
      t.instructions += block.ninsn;
      ++t.blocks;
      if (with_time) {
        uint64_t tsc = 0;
        pt_blk_time(d, &tsc, nullptr, nullptr);
        times += tsc;
      }
    }
  }
  benchmark::DoNotOptimize(times);
  pt_blk_free_decoder(d);
  return t;
}

void report(benchmark::State& state, const Input& in, uint64_t instructions, uint64_t blocks) {
  // A block more or less at each end of what is known (see decode/fast/fast_engine.h).
  const uint64_t off = std::max(instructions, in.instructions) - std::min(instructions, in.instructions);
  if (off > in.instructions / 1000) {
    const std::string text = "wrong answer, so the speed means nothing: " + std::to_string(instructions) +
                             " instructions, not " + std::to_string(in.instructions);
    state.SkipWithError(text.c_str());
    return;
  }
  const auto rate = [&state](uint64_t n) {
    return benchmark::Counter(static_cast<double>(n) * static_cast<double>(state.iterations()),
                              benchmark::Counter::kIsRate);
  };
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations()) * static_cast<int64_t>(in.trace.bytes.size()));
  state.counters["instructions/s"] = rate(instructions);
  if (blocks) state.counters["blocks/s"] = rate(blocks);
}

/// Of the graphs of all code, beside tables of a fixed size.
double bytes_per_block(const Input& in, BlockGraphs& graphs) {
  std::set<std::shared_ptr<BlockGraph>> all;
  for (size_t s = 0; s < in.images.size(); ++s)
    if (in.images[s]) all.insert(graphs.of(in.images[s], in.trace.map.stretches[s].bits));
  double bytes = 0, blocks = 0;
  for (const auto& graph : all) {
    bytes += static_cast<double>(graph->memory());
    blocks += static_cast<double>(graph->size());
  }
  return bytes / blocks;
}

void add(const std::string& name, const Input& in) {
  const auto bench = [&](const std::string& what, auto body) {
    benchmark::RegisterBenchmark((what + "/" + name).c_str(), body)->Unit(benchmark::kMillisecond);
  };
  bench("scan", [&in](benchmark::State& state) {
    uint64_t sum = 0;
    for (auto _ : state) {
      for (const uint8_t b : in.trace.bytes) sum += kFirstBytes[b].size;
      benchmark::DoNotOptimize(sum);
    }
    state.SetBytesProcessed(static_cast<int64_t>(state.iterations()) * static_cast<int64_t>(in.trace.bytes.size()));
  });
  bench("lanes", [&in](benchmark::State& state) {
    uint64_t bits = 0;
    for (auto _ : state) {
      Lanes lanes;
      TraceBytes bytes(in.trace.bytes);
      bits = 0;
      for (const Stretch& st : in.trace.map.stretches) {
        PacketReader reader(in.trace.bytes);
        reader.seek(st.begin);
        Packet first;
        if (!st.plain || reader.next(first) != Step::ok) continue;
        LaneLexer lexer(bytes, reader.offset(), st.end, st.begin_ip);
        if (st.in_psb) lexer.pass_psb();
        lanes.bits = 0;
        lanes.tips = lanes.tnts = 0;
        lanes.base = lexer.offset();
        for (;;) {
          const auto stop = lexer.more(lanes, lanes.bits, lanes.tips);
          bits += lanes.bits;
          if (stop == LaneLexer::Stop::psb)
            lexer.cross_psb(lanes);
          else if (stop == LaneLexer::Stop::event)
            lexer.cross_event(lanes);
          else if (stop == LaneLexer::Stop::end)
            break;
        }
      }
      benchmark::DoNotOptimize(bits);
    }
    uint64_t bytes = 0;
    for (const Stretch& st : in.trace.map.stretches) bytes += st.plain ? st.end - st.begin : 0;
    state.SetBytesProcessed(static_cast<int64_t>(state.iterations()) * static_cast<int64_t>(bytes));
  });
  bench("blocks", [&in](benchmark::State& state) {
    BlockGraphs graphs;
    const Totals t = count_all(in, graphs);
    Write write{std::vector<BlockId>(t.blocks + Write::kPiece)};
    for (auto _ : state) {
      write.n = 0;
      walk_all(in, graphs, write);
      benchmark::DoNotOptimize(write.out.data());
    }
    report(state, in, write.n == t.blocks ? t.instructions : 0, write.n);
  });
  bench("blocks_cold", [&in](benchmark::State& state) {
    Totals t;
    for (auto _ : state) {
      BlockGraphs graphs;
      t = count_all(in, graphs);
    }
    report(state, in, t.instructions, t.blocks);
    BlockGraphs graphs;
    count_all(in, graphs);
    state.counters["bytes_per_block"] = bytes_per_block(in, graphs);
  });
  bench("count", [&in](benchmark::State& state) {
    BlockGraphs graphs;
    count_all(in, graphs);
    Totals t;
    for (auto _ : state) t = count_all(in, graphs);
    report(state, in, t.instructions, t.blocks);
  });
  bench("times", [&in](benchmark::State& state) {
    Selector selector(in);
    BlockGraphs graphs;
    EngineCounts counts;
    const auto code = std::make_shared<IptCode>();
    uint64_t instructions = 0;
    std::vector<BlockId> ids;
    const auto read = [&](const auto& told) {
      const auto d = make_fast_decoder(in.trace, in.config, selector, code, graphs, counts);
      for (Ran ran; (*d)->next(ran);) told(ran);
    };
    size_t most = 0;
    read([&](const Ran& ran) {
      for (const BlockId id : ran.ids) instructions += ran.graph->block(index_of(id)).through;
      for (const Event& e : ran.events) instructions += e.kind == EventKind::block ? e.count : 0;
      most += ran.ids.size() + ran.events.size();
    });
    ids.resize(most);
    size_t n = 0, intervals = 0;
    for (auto _ : state) {
      n = intervals = 0;
      uint64_t times = 0;
      read([&](const Ran& ran) {
        for (const TimeFrom& from : ran.times) times += from.time.earliest.value() + from.time.latest.value();
        intervals += ran.times.size();
        std::copy(ran.ids.begin(), ran.ids.end(), ids.begin() + static_cast<ptrdiff_t>(n));
        n += ran.ids.size();
        for (const Event& e : ran.events) {
          if (e.kind != EventKind::block) continue;
          times += e.time.earliest.value() + e.time.latest.value();
          ++intervals;
          ids[n++] = kNoBlock;
        }
      });
      benchmark::DoNotOptimize(ids.data());
      benchmark::DoNotOptimize(times);
    }
    if (counts.libipt != 0) state.SkipWithError("not all of it by the fast engine");
    report(state, in, instructions, n);
    state.counters["intervals"] = static_cast<double>(intervals);
  });
  bench("events", [&in](benchmark::State& state) {
    Selector selector(in);
    BlockGraphs graphs;
    EngineCounts counts;
    const auto code = std::make_shared<IptCode>();
    std::vector<Event> batch(256);
    uint64_t instructions = 0, blocks = 0;
    for (auto _ : state) {
      const auto d = make_fast_decoder(in.trace, in.config, selector, code, graphs, counts);
      instructions = blocks = 0;
      while (const size_t n = (*d)->next(batch))
        for (size_t i = 0; i < n; ++i)
          if (batch[i].kind == EventKind::block) {
            instructions += batch[i].count;
            ++blocks;
          }
    }
    if (counts.libipt != 0) state.SkipWithError("not all of it by the fast engine");
    report(state, in, instructions, blocks);
  });
  const auto libipt = [&in](benchmark::State& state, bool cold, bool with_time) {
    auto code = std::make_unique<IptCode>();
    libipt_all(in, *code, false);
    Totals t;
    for (auto _ : state) {
      if (cold) {
        state.PauseTiming();
        code = std::make_unique<IptCode>();
        for (const auto& image : in.images)
          if (image) code->image_of(image, 64);
        state.ResumeTiming();
      }
      t = libipt_all(in, *code, with_time);
    }
    report(state, in, t.instructions, t.blocks);
  };
  bench("libipt", [libipt](auto& s) { libipt(s, false, false); });
  bench("libipt_cold", [libipt](auto& s) { libipt(s, true, false); });
  bench("libipt_time", [libipt](auto& s) { libipt(s, false, true); });
}

void expect(Input& in) {
  IptCode code;
  in.instructions = libipt_all(in, code, false).instructions;
}

Input corpus(const std::string& name) {
  const test::CorpusTrace t = test::corpus_trace(name);
  Input in;
  in.memory = test::corpus_snapshot(t);
  in.built = std::move(HostTrace::build(in.memory->info, in.memory->source)).value();
  for (const StreamInfo& s : in.memory->info.streams)
    if (s.kind == StreamKind::pt) in.fill(*in.built, in.memory->info, in.memory->source.streams.at(s.id), s.id);
  expect(in);
  return in;
}

/// Records argv into path where nothing is there yet; takes the stream with most bytes while something ran.
bool recorded(const std::string& path, const std::string& pt, const std::vector<std::string>& argv, Input& in) {
  std::vector<std::string> command{std::string(HC_BIN_DIR) + "/hindcast",
                                   "record",
                                   "--source",
                                   "simulated",
                                   "--pt",
                                   pt,
                                   "--ring",
                                   "128MiB",
                                   "-o",
                                   path,
                                   "--"};
  command.insert(command.end(), argv.begin(), argv.end());
  if (::access(path.c_str(), R_OK) != 0) {
    const test::Ran ran = test::run_program(command);
    if (ran.code != 0) {
      std::fprintf(stderr, "%s\n", ran.err.c_str());
      return false;
    }
  }
  auto reader = transport::BundleReader::open(path);
  if (!reader.ok()) return false;
  in.reader = std::make_unique<transport::BundleReader>(std::move(reader).value());
  auto opened = server::open_snapshot(*in.reader, 0, {});
  if (!opened.ok()) return false;
  in.opened = std::move(opened).value();
  const SnapshotInfo& info = in.reader->snapshot(0);
  uint64_t most = 0;
  for (const StreamInfo& s : info.streams) {
    if (s.kind != StreamKind::pt) continue;
    auto bytes = in.opened->source.stream(s.id);
    if (!bytes.ok()) return false;
    const PtTrace trace = PtTrace::scan(bytes->bytes, {});
    uint64_t ran = 0;
    for (const Stretch& st : trace.map.stretches) ran += st.end - st.begin;
    if (ran <= most) continue;
    most = ran;
    in.bytes = std::move(bytes).value();
    in.images.clear();
    in.fill(*in.opened->trace, info, in.bytes.bytes, s.id);
  }
  expect(in);
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  std::map<std::string, Input> inputs;
  if (test::corpus_folder())
    inputs["kafl-mruby"] = corpus("kafl-mruby");
  else
    std::fprintf(stderr, "%s\n", test::kCorpusSkipText);
  const test::TempFolder folder;
  const std::string c_file = folder / "big.c";
  if (FILE* f = std::fopen(c_file.c_str(), "w")) {
    for (int i = 0; i < 700; ++i)
      std::fprintf(f,
                   "int f%d(int a,int b){int s=0;for(int i=a;i<b;++i){if(i%%%d)s+=i*%d;else s^=a<<(i&7);}return s;}\n",
                   i, i + 2, i);
    std::fclose(f);
  }
  const std::string python =
      "import json,re\nd=[{str(i):[j*1.5 for j in range(20)]} for i in range(1500)]\ns=json.dumps(d)\nx=json.loads(s)\n"
      "print(len(re.findall('1.5',s)),sum(len(k) for e in x for k in e))";
  const std::map<std::string, std::vector<std::string>> programs{
      {"python3", {"python3", "-c", python}},
      {"cc", {"cc", "-O1", "-S", "-o", "/dev/null", c_file}},
      {"gzip", {"/bin/sh", "-c", "for i in 1 2 3 4 5 6; do gzip -9 -c /usr/bin/python3 > /dev/null; done"}}};
  const std::map<std::string, std::string> options{
      {"plain", "tsc=0,mtc=0"}, {"mtc", "tsc,mtc"}, {"cyc", "tsc,mtc,cyc"}, {"cyc_noretcomp", "tsc,mtc,cyc,noretcomp"}};
  const char* only = std::getenv("HINDCAST_BENCH_ONLY");
  const char* kept = std::getenv("HINDCAST_BENCH_KEEP");
  for (const auto& [program, command] : programs) {
    for (const auto& [name, pt] : options) {
      const std::string key = program + "/" + name;
      if (only && key.find(only) == std::string::npos) continue;
      const std::string path = (kept ? std::string(kept) : folder.path()) + "/" + program + "-" + name + ".hcb";
      if (Input in; recorded(path, pt, command, in)) inputs[key] = std::move(in);
      if (!kept) std::remove(path.c_str());
    }
  }
  for (const auto& [name, in] : inputs) {
    std::fprintf(stderr, "%s: %zu bytes of PT, %llu instructions\n", name.c_str(), in.trace.bytes.size(),
                 static_cast<unsigned long long>(in.instructions));
    add(name, in);
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
