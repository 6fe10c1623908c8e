// Shipping against bare ZeroMQ CURVE plus zstd in the same run.
//
//   bare/curve_zstd   what a hand-written sender would do: compress 1 MiB pieces at the bundle's level, send them over DEALER and
//            ROUTER with CURVE, decompress them on the other side, all in memory; the two sides in two threads
//   bare/curve_packed_before   the same without compressing: the frames were packed before, as the spool's are
//   ship/durable_to_committed   a durable snapshot in the spool -> committed on the server: verified, written to a file, fsynced, renamed,
//            acknowledged, noted in the spool
//   ship/memory_to_committed   from bytes in memory to committed: the spool's compression and fsync included
// Files are in /dev/shm, so that the transport is measured and not a disk. Input: kafl-mruby of the corpus (HINDCAST_CORPUS),
// repeated, or bytes as compressible as PT. Every answer is compared with the input.
#include <benchmark/benchmark.h>
#include <unistd.h>
#include <zstd.h>

#include <cstdlib>
#include <filesystem>
#include <random>
#include <thread>
#include <zmq.hpp>

#include "tests/support/corpus.h"
#include "tests/support/ship_kit.h"
#include "transport/bundle_reader.h"
#include "transport/chunk_codec.h"
#include "transport/file_sink.h"

namespace {

using namespace hindcast;             // NOLINT
using namespace hindcast::transport;  // NOLINT
using Bytes = std::vector<uint8_t>;
using std::chrono::milliseconds;
namespace fs = std::filesystem;

constexpr size_t kInputBytes = size_t{64} << 20;
constexpr size_t kPiece = size_t{1} << 20;

const Bytes& input() {
  static const Bytes data = [] {
    Bytes out, pattern;
    if (test::corpus_folder()) pattern = test::file_bytes(test::corpus_trace("kafl-mruby").trace);
    std::mt19937 random(1);
    while (pattern.size() < kPiece) pattern.push_back(static_cast<uint8_t>(random() % 3 ? random() % 16 : random()));
    out.reserve(kInputBytes);
    // A byte of each copy differs at every 256, so that zstd's window does not make the copies free.
    for (uint8_t copy = 0; out.size() < kInputBytes; ++copy)
      for (size_t i = 0; i < pattern.size() && out.size() < kInputBytes; ++i)
        out.push_back(i % 256 ? pattern[i] : static_cast<uint8_t>(pattern[i] + copy));
    return out;
  }();
  return data;
}

using Clock = std::chrono::steady_clock;

/// Seconds for one input; what `of_bare` compares with: more than 1 is faster than bare.
double bare_seconds = 0;

void report(benchmark::State& state, double seconds) {
  const double each = seconds / static_cast<double>(state.iterations());
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations()) * static_cast<int64_t>(input().size()));
  if (bare_seconds > 0) state.counters["of_bare"] = bare_seconds / each;
}

void bare(benchmark::State& state, bool packed_before) {
  const Bytes& data = input();
  const KeyPair server = make_key_pair(), client = make_key_pair();
  std::vector<Bytes> packed;
  for (size_t at = 0; at < data.size(); at += kPiece) {
    packed.emplace_back(ZSTD_compressBound(kPiece));
    packed.back().resize(ZSTD_compress(packed.back().data(), packed.back().size(), data.data() + at,
                                       std::min(kPiece, data.size() - at), kZstdLevel));
  }
  Bytes got(data.size());
  const auto begin = Clock::now();
  for (auto _ : state) {
    zmq::context_t context(2);
    zmq::socket_t router(context, zmq::socket_type::router);
    router.set(zmq::sockopt::curve_server, 1);
    router.set(zmq::sockopt::curve_secretkey, server.secret_key);
    router.bind("tcp://127.0.0.1:*");
    const std::string endpoint = router.get(zmq::sockopt::last_endpoint);
    std::thread sender([&] {
      zmq::socket_t dealer(context, zmq::socket_type::dealer);
      dealer.set(zmq::sockopt::curve_serverkey, server.public_key);
      dealer.set(zmq::sockopt::curve_publickey, client.public_key);
      dealer.set(zmq::sockopt::curve_secretkey, client.secret_key);
      dealer.connect(endpoint);
      ZSTD_CCtx* zstd = ZSTD_createCCtx();
      Bytes buffer(ZSTD_compressBound(kPiece));
      for (size_t at = 0, i = 0; at < data.size(); at += kPiece, ++i) {
        if (packed_before) {
          dealer.send(zmq::buffer(packed[i]), zmq::send_flags::none);
          continue;
        }
        const size_t n = ZSTD_compressCCtx(zstd, buffer.data(), buffer.size(), data.data() + at,
                                           std::min(kPiece, data.size() - at), kZstdLevel);
        dealer.send(zmq::message_t(buffer.data(), n), zmq::send_flags::none);
      }
      ZSTD_freeCCtx(zstd);
      zmq::message_t done;
      (void)dealer.recv(done);  // as a shipment is over when it is acknowledged
    });
    ZSTD_DCtx* zstd = ZSTD_createDCtx();
    zmq::message_t id, m;
    for (size_t at = 0; at < data.size();) {
      (void)router.recv(id);
      (void)router.recv(m);
      at += ZSTD_decompressDCtx(zstd, got.data() + at, got.size() - at, m.data(), m.size());
    }
    ZSTD_freeDCtx(zstd);
    router.send(id, zmq::send_flags::sndmore);
    router.send(zmq::message_t(), zmq::send_flags::none);
    sender.join();
  }
  const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  if (got != data) state.SkipWithError("wrong answer, so the speed means nothing");
  if (!packed_before) bare_seconds = seconds / static_cast<double>(state.iterations());
  report(state, seconds);
}

struct Folder {
  std::string path = "/dev/shm/hindcast_ship_bench_" + std::to_string(getpid());
  Folder() { fs::create_directory(path); }
  ~Folder() { fs::remove_all(path); }
};

test::MadeSnapshot snapshot(const std::string& incident) {
  test::MadeSnapshot s;
  s.info.host = "h";
  s.info.incident = incident;
  s.info.streams.resize(1);
  s.info.streams[0].id = 1;
  s.info.streams[0].bytes = input().size();
  s.streams.push_back(input());
  return s;
}

void ship(benchmark::State& state, bool keep_is_timed) {
  const Folder folder;
  const KeyPair server = make_key_pair(), host = make_key_pair();
  auto sink = FileSink::create(folder.path + "/store", {});
  auto spool = Spool::open({folder.path + "/spool", uint64_t{8} << 30});
  ReceiverConfig receiver_config;
  receiver_config.keys = server;
  receiver_config.allowed.add("h", host.public_key);
  auto receiver = Receiver::start(receiver_config, **sink, {});
  SenderConfig config;
  config.endpoint = (*receiver)->endpoint();
  config.keys = host;
  config.server_key = server.public_key;
  config.host = "h";
  auto sender = Sender::start(config, **spool, {});
  if (!sender.ok() || !test::wait_for([&] { return (*sender)->connected(); }))
    return state.SkipWithError("no session with the server");
  uint64_t n = 0;
  double seconds = 0;
  for (auto _ : state) {
    const std::string incident = "i" + std::to_string(++n);
    state.PauseTiming();
    const auto s = snapshot(incident);
    if (n > 1) {  // memory of /dev/shm: the one before is not needed any more
      fs::remove(folder.path + "/spool/i" + std::to_string(n - 1) + ".hcb");
      fs::remove(folder.path + "/store/h/i" + std::to_string(n - 1) + ".hcb");
    }
    auto begin = Clock::now();
    if (keep_is_timed) state.ResumeTiming();
    auto writer = (*spool)->begin(incident, "h", s.streams[0].size());
    bool ok = writer.ok() && writer->append_stream(1, StreamKind::pt, s.streams[0]).ok() && writer->finish(s.info).ok();
    if (!keep_is_timed) {
      state.ResumeTiming();
      begin = Clock::now();
    }
    (*sender)->durable(incident);
    ok = ok && test::wait_for([&] { return (*sender)->counters().committed == n; }, 60);
    state.PauseTiming();
    seconds += std::chrono::duration<double>(Clock::now() - begin).count();
    if (!ok || !test::difference(folder.path + "/store/h/" + incident + ".hcb", s).empty())
      return state.SkipWithError("wrong answer, so the speed means nothing");
    state.ResumeTiming();
  }
  report(state, seconds);
}

BENCHMARK_CAPTURE(bare, curve_zstd, false)->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK_CAPTURE(bare, curve_packed_before, true)->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK_CAPTURE(ship, durable_to_committed, false)->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK_CAPTURE(ship, memory_to_committed, true)->Unit(benchmark::kMillisecond)->UseRealTime();

}  // namespace

BENCHMARK_MAIN();
