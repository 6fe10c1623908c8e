// Flows that are read from any place on: of recorded hardware traces, whole and damaged, and of all that a kernel's trace holds.
#include <gtest/gtest.h>

#include <random>

#include "decode/host_trace.h"
#include "tests/support/corpus.h"
#include "tests/support/flow_seek_check.h"
#include "tests/support/long_run.h"
#include "tests/support/memory_source.h"
#include "tests/support/random_program.h"
#include "tests/support/tiny_host.h"
#include "tests/support/tiny_os.h"

namespace hindcast::decode {
namespace {

constexpr size_t kMostEvents = 300000;

/// Every stream and every thread; how many events were compared.
size_t check(const HostTrace& host, uint64_t seed, size_t walks, std::initializer_list<Engine> engines, bool damaged) {
  size_t compared = 0;
  for (const Engine engine : engines) {
    FlowOptions options;
    options.engine = engine;
    const auto one = [&](const test::OpenFlow& open, const std::string& whose) {
      size_t events = 0;
      const std::string difference = test::seeking_differs(open, seed, walks, kMostEvents, events);
      // Of damaged trace libipt tells what it lost by where it came from.
      if (damaged && host.engine_counts().libipt != 0) return;
      EXPECT_EQ(difference, "") << whose << (engine == Engine::libipt ? ", libipt" : "") << ", seed " << seed;
      if (events <= kMostEvents) compared += events;
    };
    for (const CpuCoverage& c : host.cpus())
      one([&] { return host.stream_flow(c.stream, options).value(); }, "stream " + std::to_string(c.stream));
    for (const ThreadInfo& t : host.threads())
      one([&] { return host.thread_flow(t.tid, options).value(); }, "thread " + std::to_string(t.tid.value()));
  }
  return compared;
}

TEST(FlowSeek, OfRecordedTraces) {
  HC_REQUIRE_CORPUS();
  for (const std::string& name : test::corpus_names()) {
    const test::CorpusTrace t = test::corpus_trace(name);
    if (!t.has_flow) continue;
    SCOPED_TRACE(name);
    const auto snapshot = test::corpus_snapshot(t);
    const auto host = HostTrace::build(snapshot->info, snapshot->source);
    ASSERT_TRUE(host.ok()) << host.error().text();
    check(**host, 1, 20, {Engine::fast, Engine::libipt}, false);
    const auto numbered = (*host)->number_instructions(3, {});
    ASSERT_TRUE(numbered.ok()) << numbered.error().text();
    check(**host, 2, 20, {Engine::fast, Engine::libipt}, false);
  }
}

TEST(FlowSeek, OfDamagedTraces) {
  HC_REQUIRE_CORPUS();
  std::mt19937_64 random(3);
  size_t compared = 0;
  for (const std::string& name : test::corpus_names()) {
    const test::CorpusTrace t = test::corpus_trace(name);
    if (!t.has_flow) continue;
    const auto whole = test::corpus_snapshot(t);
    for (int round = 0; round < (test::long_run() ? 2000 : 30); ++round) {
      SCOPED_TRACE(name + ", round " + std::to_string(round));
      auto info = whole->info;
      auto source = whole->source;
      for (auto& [id, bytes] : source.streams) {
        // A part of it: then long traces take part, too.
        const size_t length = std::min<size_t>(bytes.size(), 1 + random() % 200000);
        const size_t from = random() % (bytes.size() - length + 1);
        bytes = std::vector<uint8_t>(bytes.begin() + static_cast<ptrdiff_t>(from),
                                     bytes.begin() + static_cast<ptrdiff_t>(from + length));
        for (size_t k = random() % 20; k != 0; --k)
          bytes[random() % length] ^= static_cast<uint8_t>(1u << random() % 8);
      }
      for (StreamInfo& s : info.streams)
        if (source.streams.count(s.id)) s.bytes = source.streams[s.id].size();
      const auto host = HostTrace::build(info, source);
      ASSERT_TRUE(host.ok()) << host.error().text();
      if (round % 2) {
        const auto numbered = (*host)->number_instructions(1 + random() % 4, {});
        ASSERT_TRUE(numbered.ok()) << numbered.error().text();
      }
      compared += check(**host, random(), 5, {Engine::fast}, true);
    }
  }
  EXPECT_GT(compared, 100000u);
}

TEST(FlowSeek, OfMadeUpKernels) {
  size_t compared = 0;
  for (uint64_t seed = 1; seed <= (test::long_run() ? 1000 : 60); ++seed) {
    test::Random random(seed);
    const test::RandomProgram program(random, 10 + test::below(random, 40), 0x401000, true);
    test::RandomCpu cpu(program, random,
                        {.ret_compression = seed % 2 == 0,
                         .kernel = true,
                         .announces = true,
                         .overflows = seed % 3 == 0,
                         .psbs_apart = true,
                         .timing = true,
                         .events_per_1000 = 100});
    cpu.begin();
    cpu.run(1000);
    cpu.end();
    test::TinyHost host;
    host.snapshot.info.cpu.tsc_ctc_num = host.snapshot.info.cpu.tsc_ctc_den = 1;
    host.snapshot.info.pt.mtc_period = 3;
    host.snapshot.info.pt.noretcomp = seed % 2 != 0;
    host.code(kNoPid, program.base, program.code);
    host.pt(CpuId(0), cpu.trace());
    const auto trace = host.build();
    compared += check(*trace, seed, 20, {Engine::fast}, false);
    const auto numbered = trace->number_instructions(2, {});
    ASSERT_TRUE(numbered.ok()) << numbered.error().text();
    compared += check(*trace, seed, 20, {Engine::fast}, false);
    EXPECT_EQ(trace->engine_counts().libipt, 0u) << seed;
    if (HasFailure()) return;
  }
  EXPECT_GT(compared, 50000u);
}

TEST(FlowSeek, OfThreadsInAMadeUpKernel) {
  size_t compared = 0;
  for (uint64_t seed = 1; seed <= (test::long_run() ? 500 : 12); ++seed) {
    test::TinyOs os(seed, {.ret_compression = seed % 2 == 0,
                           .separate_tables = seed % 3 == 0,
                           .maps = true,
                           .pokes = true,
                           .overflows = seed % 4 == 0,
                           .kernel_code_known = seed % 5 != 0,
                           .psb_every = 500});
    os.run(8000);
    test::TinyHost host = os.host();
    std::mt19937_64 random(seed);
    std::vector<uint8_t>& bytes = host.snapshot.source.streams[1];
    const bool damaged = seed % 2 != 0;
    for (size_t k = damaged ? random() % 10 : 0; k != 0; --k)
      bytes[random() % bytes.size()] ^= static_cast<uint8_t>(1u << random() % 8);
    const auto trace = host.build();
    compared += check(*trace, seed, 5, {Engine::fast}, damaged);
    const auto numbered = trace->number_instructions(2, {});
    ASSERT_TRUE(numbered.ok()) << numbered.error().text();
    compared += check(*trace, seed, 5, {Engine::fast}, damaged);
    if (HasFailure()) return;
  }
  EXPECT_GT(compared, 20000u);
}

}  // namespace
}  // namespace hindcast::decode
