// Bundle against bare zstd of the same level, in the same run: how much smaller, how fast to write, to read, to open.
//
// Inputs:
//   made_up     a made-up program at random branches with TSC, MTC and CYC: close to incompressible, the worst case
//   kafl-mruby  of the corpus (HINDCAST_CORPUS): an interpreter on real hardware, no timing packets
//   recorded    the largest PT stream of the bundle named by HINDCAST_BENCH_BUNDLE: a recording of a real program
// Files are in /dev/shm, so that the format is measured and not a disk. Every answer is compared with the input.
#include <benchmark/benchmark.h>
#include <unistd.h>
#include <zstd.h>

#include <cstdlib>
#include <filesystem>
#include <random>

#include "capture/sim/pt_encoder.h"
#include "tests/support/corpus.h"
#include "tests/unit/capture/sim_program.h"
#include "transport/bundle_reader.h"
#include "transport/bundle_writer.h"
#include "transport/chunk_codec.h"

namespace {

using namespace hindcast;             // NOLINT
using namespace hindcast::transport;  // NOLINT
using Bytes = std::vector<uint8_t>;

constexpr size_t kRandomReadBytes = 65536;

Bytes made_up_trace() {
  sim::SyntheticProgram program(0x400000, 5);
  sim::SyntheticWalk walk(program, 6);
  sim::EncoderConfig config;
  config.pt.cyc = true;
  config.cpu = {true, 6, 85, 4, 216, 2, 25000000, 26};
  config.ring_bytes = uint64_t{32} << 20;
  sim::PtEncoder encoder(config);
  uint64_t tsc = 1000000;
  std::vector<uint32_t> ids;
  while (!encoder.ring().wrapped()) {
    // A run goes on until a system call ends it, as user code does.
    if (!encoder.tracing()) encoder.enter(tsc += 2000, program.blocks()[walk.current()].ip);
    ids.clear();
    uint64_t instructions = 0;
    bool far = false;
    while (!far && ids.size() < 1000) {
      const uint32_t id = walk.current();
      ids.push_back(id);
      instructions += program.blocks()[id].instructions;
      far = program.blocks()[id].kind == sim::Terminator::far;
      walk.step();
    }
    sim::Run run;
    run.ids = ids.data();
    run.count = ids.size();
    run.blocks = program.blocks().data();
    run.next_ip = program.blocks()[walk.current()].ip;
    run.instructions = instructions;
    run.t0 = tsc;
    run.t1 = tsc += instructions + 1;
    encoder.run(run);
  }
  return encoder.ring().contents();
}

Bytes largest_pt_stream(const char* path) {
  auto reader = BundleReader::open(path);
  if (!reader.ok()) {
    std::fprintf(stderr, "%s\n", reader.error().text().c_str());
    return {};
  }
  const StreamInfo* best = nullptr;
  for (const StreamInfo& s : reader->snapshot(0).streams)
    if (s.kind == StreamKind::pt && (!best || s.bytes > best->bytes)) best = &s;
  if (!best) return {};
  return reader->read_stream(0, best->id).value();
}

std::string bench_path() { return "/dev/shm/hindcast_bench_" + std::to_string(getpid()) + ".hcb"; }

/// Writes data as one PT stream; false on any error.
bool write_bundle(const Bytes& data) {
  SnapshotInfo info;
  info.streams.resize(1);
  info.streams[0].id = 1;
  info.streams[0].bytes = data.size();
  auto writer = BundleWriter::create(bench_path());
  return writer.ok() && writer->append_stream(1, data).ok() && writer->end_snapshot(info).ok() && writer->finish().ok();
}

struct FileGone {
  ~FileGone() { std::filesystem::remove(bench_path()); }
};

void finish(benchmark::State& state, const Bytes& data, uint64_t stored) {
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations()) * static_cast<int64_t>(data.size()));
  state.counters["raw_MiB"] = static_cast<double>(data.size()) / (1 << 20);
  if (stored) state.counters["ratio"] = static_cast<double>(data.size()) / static_cast<double>(stored);
}

void bare_zstd_write(benchmark::State& state, const Bytes& data) {
  Bytes out(ZSTD_compressBound(data.size()));
  size_t n = 0;
  for (auto _ : state) n = ZSTD_compress(out.data(), out.size(), data.data(), data.size(), kZstdLevel);
  Bytes back(data.size());
  if (ZSTD_isError(n) || ZSTD_decompress(back.data(), back.size(), out.data(), n) != data.size() || back != data)
    state.SkipWithError("wrong answer, so the speed means nothing");
  finish(state, data, n);
}

void bundle_write(benchmark::State& state, const Bytes& data) {
  const FileGone at_end;
  bool ok = true;
  for (auto _ : state) ok = write_bundle(data) && ok;
  auto reader = BundleReader::open(bench_path());
  if (!ok || !reader.ok() || *reader->read_stream(0, 1) != data)
    return state.SkipWithError("wrong answer, so the speed means nothing");
  finish(state, data, reader->stored_bytes());
}

void bare_zstd_read(benchmark::State& state, const Bytes& data) {
  Bytes packed(ZSTD_compressBound(data.size()));
  packed.resize(ZSTD_compress(packed.data(), packed.size(), data.data(), data.size(), kZstdLevel));
  Bytes out(data.size());
  size_t n = 0;
  for (auto _ : state) n = ZSTD_decompress(out.data(), out.size(), packed.data(), packed.size());
  if (n != data.size() || out != data) state.SkipWithError("wrong answer, so the speed means nothing");
  finish(state, data, packed.size());
}

void bundle_read(benchmark::State& state, const Bytes& data) {
  const FileGone at_end;
  if (!write_bundle(data)) return state.SkipWithError("cannot write the bundle");
  Bytes out;
  uint64_t stored = 0;
  for (auto _ : state) {
    auto reader = BundleReader::open(bench_path());
    out = reader->read_stream(0, 1).value();
    stored = reader->stored_bytes();
  }
  if (out != data) state.SkipWithError("wrong answer, so the speed means nothing");
  finish(state, data, stored);
}

void bundle_open(benchmark::State& state, const Bytes& data) {
  const FileGone at_end;
  if (!write_bundle(data)) return state.SkipWithError("cannot write the bundle");
  for (auto _ : state) {
    auto reader = BundleReader::open(bench_path());
    if (!reader.ok() || !reader->damage().empty() || reader->snapshot(0).streams[0].bytes != data.size())
      return state.SkipWithError("wrong answer, so the speed means nothing");
  }
  state.counters["raw_MiB"] = static_cast<double>(data.size()) / (1 << 20);
}

/// 64 KiB at a random place: what showing one stretch of a trace costs.
void bundle_random_read(benchmark::State& state, const Bytes& data) {
  const FileGone at_end;
  if (!write_bundle(data)) return state.SkipWithError("cannot write the bundle");
  auto reader = BundleReader::open(bench_path());
  std::mt19937_64 random(1);
  size_t at = 0;
  Bytes out;
  for (auto _ : state) {
    at = random() % (data.size() - kRandomReadBytes);
    out = reader->read_stream(0, 1, at, kRandomReadBytes).value();
  }
  if (!std::equal(out.begin(), out.end(), data.begin() + static_cast<ptrdiff_t>(at)))
    state.SkipWithError("wrong answer, so the speed means nothing");
  state.counters["raw_MiB"] = static_cast<double>(data.size()) / (1 << 20);
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::pair<std::string, Bytes>> inputs;
  inputs.emplace_back("made_up", made_up_trace());
  if (test::corpus_folder())
    inputs.emplace_back("kafl-mruby", test::file_bytes(test::corpus_trace("kafl-mruby").trace));
  else
    std::fprintf(stderr, "no kafl-mruby: %s\n", test::kCorpusSkipText);
  if (const char* bundle = std::getenv("HINDCAST_BENCH_BUNDLE"))
    inputs.emplace_back("recorded", largest_pt_stream(bundle));
  else
    std::fprintf(stderr, "no recorded program: HINDCAST_BENCH_BUNDLE is not set\n");

  const std::pair<const char*, void (*)(benchmark::State&, const Bytes&)> cases[] = {
      {"bare_zstd_write", bare_zstd_write}, {"bundle_write", bundle_write}, {"bare_zstd_read", bare_zstd_read},
      {"bundle_read", bundle_read},         {"bundle_open", bundle_open},   {"bundle_random_read", bundle_random_read}};
  for (const auto& [name, run] : cases)
    for (const auto& [input, data] : inputs) {
      if (data.size() <= kRandomReadBytes) continue;  // said above
      benchmark::RegisterBenchmark((std::string(name) + "/" + input).c_str(), [run = run,
                                                                               &data = data](benchmark::State& state) {
        run(state, data);
      })->Unit(benchmark::kMicrosecond);
    }
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
