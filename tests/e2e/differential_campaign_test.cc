// Ten million streams through both engines, and no difference that is not explained (see the engines' README for what they
// may tell differently). A small part of them by default; HINDCAST_LONG=1 runs all.
//
//   random     bytes, and packets in random order, over a program that is made up
//   real       windows of recorded traces (the corpus, and programs under the simulator) with a few packets changed
//   damaged    the same of made-up programs that a made-up CPU runs and traces
//   made       traces of made-up programs as they are: both engines must also tell what ran
//
// An execution depends on the seed and its number alone, but for what the engines remember of the code: that is begun anew
// for each group of executions.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <map>
#include <mutex>
#include <thread>

#include "tests/e2e/recorded_windows.h"
#include "tests/support/code_at.h"
#include "tests/support/engine_duel.h"
#include "tests/support/libipt_quirks.h"
#include "tests/support/long_run.h"
#include "tests/support/packet_mutation.h"
#include "tests/support/ran_check.h"

namespace hindcast::test {
namespace {

using namespace decode;

constexpr uint64_t kGroup = 4096;        // executions that share what the engines remember
constexpr uint64_t kPerProgram = 128;    // executions with one made-up program
constexpr size_t kLongestWindow = 1024;  // bytes of a recorded trace

enum Family : size_t { random_bytes_, random_packets_, real, damaged, made, kFamilies };
constexpr const char* kNames[] = {"random bytes", "random packets", "real", "damaged", "made"};

// ---- what is decoded

/// A made-up program with its code.
struct Made {
  RandomProgram program;
  bool kernel = false;
  std::shared_ptr<const CodeImage> code;
  std::vector<uint64_t> ips;  // of its units
};

// ---- what came of it
struct Counts {
  uint64_t executions = 0, with_blocks = 0, blocks = 0, with_gaps = 0;
  uint64_t stretches = 0, beside_gaps = 0, fast = 0, libipt = 0;
  uint64_t wholly_compared = 0;  // executions with events that both told, and nothing beside a gap
  std::map<GapCause, uint64_t> gaps;
  std::map<EventKind, uint64_t> kinds;
  std::map<std::string, uint64_t> explained;

  void add(const Counts& c) {
    executions += c.executions;
    with_blocks += c.with_blocks;
    blocks += c.blocks;
    with_gaps += c.with_gaps;
    stretches += c.stretches;
    beside_gaps += c.beside_gaps;
    fast += c.fast;
    libipt += c.libipt;
    wholly_compared += c.wholly_compared;
    for (const auto& [cause, n] : c.gaps) gaps[cause] += n;
    for (const auto& [kind, n] : c.kinds) kinds[kind] += n;
    for (const auto& [why, n] : c.explained) explained[why] += n;
  }
};

// ---- executions
class Worker {
 public:
  Worker(uint64_t seed, const std::vector<std::shared_ptr<const Base>>& bases) : seed_(seed), bases_(bases) {}

  std::array<Counts, kFamilies> counts;

  void begin_group() {
    worlds_.clear();
    made_.clear();
  }

  /// Empty, or what is wrong.
  std::string run(uint64_t number) {
    Random random(seed_ * 0x9e3779b97f4a7c15u + number);
    const Family family = pick_family(random);
    Duel duel;
    std::vector<RandomCpu::Part> parts;
    DuelWorld* world = nullptr;
    configure(duel.config, random);
    switch (family) {
      case real: {
        const Base& base = *bases_[below(random, bases_.size())];
        duel.config.cpu = base.config.cpu;
        duel.config.options = base.config.options;
        const Base::Window& w = base.windows[below(random, base.windows.size())];
        const size_t most =
            std::min<size_t>(base.bytes.size() - w.psb, 32 + below(random, kLongestWindow >> below(random, 4)));
        Packets packets = packets_of(base.bytes.subspan(w.psb, most));
        if (!one_in(random, 16)) mutate(packets, random, base.ips);
        duel.bytes = joined(packets);
        duel.images = {w.code};
        world = &worlds_[&base];
        break;
      }
      default: {
        const Made& m = program_of(number);
        duel.images = {m.code};
        world = &worlds_[nullptr];
        if (family == random_bytes_) {
          duel.bytes = random_bytes(random, m.ips, 200);
        } else if (family == random_packets_) {
          duel.bytes = random_packets(random, m.ips, 60);
        } else {
          RandomCpu::Options o;
          o.ret_compression = !duel.config.options.noretcomp;
          o.long_tnt = one_in(random, 4);
          o.kernel = m.kernel;
          o.announces = duel.config.cpu.family == 0 || duel.config.cpu.model < 0x60;
          o.overflows = one_in(random, 4);
          o.timing = one_in(random, 2);
          o.events_per_1000 = static_cast<unsigned>(std::array{0, 20, 100, 300}[below(random, 4)]);
          o.mtc_period = duel.config.options.mtc_period;
          RandomCpu cpu(m.program, random, o);
          cpu.begin();
          cpu.run(5 + below(random, 80));
          if (one_in(random, 4))
            cpu.stop();
          else
            cpu.end();
          duel.bytes = cpu.trace().bytes();
          parts.assign(cpu.parts().begin(), cpu.parts().end());
          if (family == damaged) {
            Packets packets = packets_of(duel.bytes);
            mutate(packets, random, m.ips);
            duel.bytes = joined(packets);
          }
        }
        break;
      }
    }
    if (family != made) {
      if (one_in(random, 16)) duel.cuts.push_back(below(random, duel.bytes.size()));
      if (one_in(random, 32)) duel.holes.push_back(below(random, duel.bytes.size() + 1));
      if (one_in(random, 16)) duel.images.push_back(nullptr);
      if (family != real && one_in(random, 8)) duel.images.push_back(program_of(number ^ kPerProgram).code);
    }
    return judge(duel, *world, family, parts);
  }

 private:
  Family pick_family(Random& random) const {
    const size_t n = below(random, 16);
    if (n < 2) return random_bytes_;
    if (n < 5) return random_packets_;
    if (n < 9) return bases_.empty() ? damaged : real;
    return n < 12 ? damaged : made;
  }

  static void configure(DecodeConfig& c, Random& random) {
    constexpr uint8_t kModels[] = {0x3d, 0x4e, 0x5e, 0x6a, 0x97};
    if (!one_in(random, 4)) {
      c.cpu.family = 6;
      c.cpu.model = kModels[below(random, std::size(kModels))];
    }
    c.cpu.tsc_ctc_num = c.cpu.tsc_ctc_den = static_cast<uint32_t>(below(random, 4) != 0);
    c.cpu.nominal_ratio = 20;
    c.options.mtc_period = static_cast<uint8_t>(below(random, 10));
    c.options.noretcomp = one_in(random, 2);
    c.resync = one_in(random, 2) ? Resync::psb : Resync::earliest;
  }

  const Made& program_of(uint64_t number) {
    const uint64_t which = number / kPerProgram;
    auto& slot = made_[which];
    if (!slot) {
      constexpr uint64_t kBases[] = {0x401000, 0x401000, 0x7f1234567000, 0xffffffff81000000};
      Random random(seed_ + which * 0xbf58476d1ce4e5b9u);
      const bool kernel = one_in(random, 2);
      slot = std::make_unique<Made>(
          Made{{random, 2 + below(random, 40), kBases[below(random, std::size(kBases))], kernel}, kernel, nullptr, {}});
      const RandomProgram& program = slot->program;
      slot->code = test::code_at(program.base, program.code, which + 1);
      for (const RandomProgram::Unit& u : program.units) slot->ips.push_back(u.ip);
    }
    return *slot;
  }

  std::string judge(const Duel& duel, DuelWorld& world, Family family, std::span<const RandomCpu::Part> parts) {
    Counts& c = counts[family];
    RanCheck truth(parts);
    bool gaps = false;
    const uint64_t blocks = c.blocks;
    const EngineCounts before = world.counts;
    const DuelResult result = fight(duel, world, [&](const Event& e) {
      ++c.kinds[e.kind];
      if (e.kind == EventKind::gap) {
        gaps = true;
        ++c.gaps[e.cause];
      }
      c.blocks += e.kind == EventKind::block;
      if (family == made) truth.told(e);
    });
    ++c.executions;
    c.with_blocks += c.blocks != blocks;
    c.with_gaps += gaps;
    c.stretches += result.compared.stretches;
    c.beside_gaps += result.compared.beside_gaps;
    c.wholly_compared += result.compared.events != 0 && result.compared.beside_gaps == 0;
    c.fast += world.counts.fast - before.fast;
    c.libipt += world.counts.libipt - before.libipt;
    std::string wrong = family == made ? truth.verdict() : "";
    if (!wrong.empty()) return "not what ran: " + wrong + "\n" + report(duel, result, world);
    if (!result.bad()) return {};
    const Duel small = smallest(duel);
    DuelWorld fresh;
    if (const char* why = family == made ? nullptr : explanation(small, fresh)) {
      ++c.explained[why];
      return {};
    }
    const DuelResult alone = fight(small, fresh);
    return alone.bad() ? report(small, alone, fresh) : "only behind others:\n" + report(duel, result, world);
  }

  const uint64_t seed_;
  const std::vector<std::shared_ptr<const Base>>& bases_;
  std::map<const Base*, DuelWorld> worlds_;
  std::map<uint64_t, std::unique_ptr<Made>> made_;
};

/// HINDCAST_SEED, HINDCAST_FIRST and HINDCAST_EXECUTIONS pick executions; one that differs alone only after others has to be
/// run from the beginning of its group.
TEST(Differential, BothEnginesTellTheSame) {
  const uint64_t seed = number_from("HINDCAST_SEED", 1);
  const uint64_t first = number_from("HINDCAST_FIRST", 0);
  const uint64_t end = first + number_from("HINDCAST_EXECUTIONS", long_run() ? 10000000 : 50000);
  const uint64_t most_wrong = number_from("HINDCAST_MOST_WRONG", 5);
  const auto bases = recorded();
  if (HasFatalFailure()) return;
  std::printf("seed %llu, %zu recorded streams\n", static_cast<unsigned long long>(seed), bases.size());
  std::fflush(stdout);

  std::mutex mutex;  // of the next three
  std::array<Counts, kFamilies> counts;
  std::map<uint64_t, std::string> wrong;
  uint64_t done = 0;
  std::atomic<uint64_t> next{first};
  const auto begun = std::chrono::steady_clock::now();
  const auto work = [&] {
    Worker worker(seed, bases);
    for (uint64_t from = next.load(); from < end;) {
      const uint64_t to = std::min(end, (from / kGroup + 1) * kGroup);
      if (!next.compare_exchange_weak(from, to)) continue;
      worker.begin_group();
      for (uint64_t i = from; i < to; ++i) {
        std::string what = worker.run(i);
        if (what.empty()) continue;
        const std::lock_guard lock(mutex);
        wrong.emplace(i, std::move(what));
      }
      const std::lock_guard lock(mutex);
      done += to - from;
      if (wrong.size() >= most_wrong) next = end;
      from = next.load();
    }
    const std::lock_guard lock(mutex);
    for (size_t f = 0; f < kFamilies; ++f) counts[f].add(worker.counts[f]);
  };
  std::vector<std::thread> workers;
  for (unsigned i = 1; i < std::max(1u, std::thread::hardware_concurrency()); ++i) workers.emplace_back(work);
  work();
  for (std::thread& t : workers) t.join();

  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
  size_t told = 0;
  for (const auto& [number, what] : wrong)
    if (++told <= most_wrong)
      ADD_FAILURE() << "HINDCAST_SEED=" << seed << " HINDCAST_FIRST=" << number << " HINDCAST_EXECUTIONS=1\n" << what;
  EXPECT_EQ(wrong.size(), 0u);
  std::printf("%llu executions in %.0f s, %.0f/s\n", static_cast<unsigned long long>(done), seconds,
              static_cast<double>(done) / seconds);
  for (size_t f = 0; f < kFamilies; ++f) {
    const Counts& c = counts[f];
    const auto u = [](uint64_t n) { return static_cast<unsigned long long>(n); };
    std::printf(
        "%-14s %llu executions: %llu with blocks, %llu with gaps, %llu wholly compared; %llu blocks; stretches: %llu "
        "compared, %llu beside gaps; %llu walked, %llu by libipt\n   ",
        kNames[f], u(c.executions), u(c.with_blocks), u(c.with_gaps), u(c.wholly_compared), u(c.blocks), u(c.stretches),
        u(c.beside_gaps), u(c.fast), u(c.libipt));
    for (const auto& [kind, n] : c.kinds) std::printf(" %s %llu", std::string(to_string(kind)).c_str(), u(n));
    std::printf("\n    gaps:");
    for (const auto& [cause, n] : c.gaps) std::printf(" %s %llu", std::string(to_string(cause)).c_str(), u(n));
    std::printf("\n");
    for (const auto& [why, n] : c.explained) std::printf("    %llu differ: libipt %s\n", u(n), why.c_str());
    // Inputs that all die in the first packet prove nothing.
    if (c.executions > 1000 && f != random_bytes_) {
      EXPECT_GT(c.with_blocks * 3, c.executions) << kNames[f];
    }
    if (c.executions > 1000 && f >= real) {
      EXPECT_GT(c.wholly_compared * 4, c.executions) << kNames[f];
    }
  }
}

}  // namespace
}  // namespace hindcast::test
