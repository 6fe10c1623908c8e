#include "capture/sim/thread_merge.h"

#include <gtest/gtest.h>

#include <map>
#include <numeric>

#include "tests/unit/capture/sim_decode.h"
#include "tests/unit/capture/sim_program.h"

namespace hindcast::sim {
namespace {

constexpr uint64_t kHz = 2596154000;
constexpr uint64_t kUs = kHz / 1000000;
constexpr uint64_t kStart = uint64_t{1} << 44;

/// A thread's ring that never wraps.
struct TestRing {
  explicit TestRing(size_t capacity) : words(capacity) {}
  std::vector<uint32_t> words;
  std::atomic<uint64_t> written{0}, taken{0}, position{0};
  uint64_t n = 0;
  uint64_t published = 0;  // behind the last special word, as the plugin publishes
  void put(uint32_t w) { words.at(n++) = w; }
  void put64(uint64_t v) {
    put(static_cast<uint32_t>(v));
    put(static_cast<uint32_t>(v >> 32));
  }
  void special(Word type, uint32_t low, uint64_t tsc) {
    put(sim::special(type, low));
    put64(tsc);
    published = n;
  }
  WordRing ring() {
    WordRing r;
    r.words = words.data();
    r.capacity = words.size();
    r.written = &written;
    r.position = &position;
    r.taken = &taken;
    return r;
  }
};

/// One guest thread: its code lies at its own addresses, so that its instructions can be told from all others'.
struct GuestThread {
  GuestThread(int tid, uint64_t seed)
      : tid(tid),
        program(0x100000000 * static_cast<uint64_t>(tid), seed),
        walk(program, seed),
        random(seed, 9),
        ring(std::make_unique<TestRing>(1 << 22)),
        table(std::make_shared<BlockTable>()) {
    for (uint32_t i = 0; i < program.blocks().size(); ++i) table->add(i, program.blocks()[i]);
  }
  int tid;
  SyntheticProgram program;
  SyntheticWalk walk;
  SeededRandom random;
  std::unique_ptr<TestRing> ring;
  std::shared_ptr<BlockTable> table;
  std::vector<uint64_t> ran;
  bool started = false;
  uint64_t asleep_until = 0;  // in a system call
  bool in_syscall = false;
  unsigned since_mark = 0;
  double sleeps = 0.02;

  void mark(uint64_t t, uint32_t cpu) {
    ring->special(Word::mark, cpu, t);
    since_mark = 0;
  }
  /// Runs from t until about `until`, or to a system call that sleeps. Returns when it stopped.
  uint64_t run(uint64_t t, uint64_t until, uint32_t cpu, bool signals) {
    t += kUs + random.between(0, kUs);  // the kernel's way out
    if (!started) {
      started = true;
      mark(t, cpu);
    }
    if (in_syscall) {
      ring->special(Word::syscall_return, cpu, t);
      in_syscall = false;
    }
    while (t + 3 * kUs < until) {
      if (since_mark >= 40) mark(t, cpu);
      const uint32_t id = walk.current();
      const BlockInfo& b = program.blocks()[id];
      ring->put(id);
      ++since_mark;
      t += b.instructions * 10;
      if (b.instructions > 2 && random.chance(0.002)) {  // started again in its middle, or a signal there
        const auto n = static_cast<uint32_t>(random.between(0, b.instructions - 1));
        ring->put(special(Word::cut, n));
        program.append_ips(id, 0, n, ran);
        if (signals) {
          t += 3 * kUs;
          ring->special(Word::signal, 11, t);
          ring->put64(b.ip_of(n));
          ring->published = ring->n;
          walk.jump_to(program.entry(static_cast<unsigned>(random.between(0, program.functions() - 1))));
        }
        // without a signal the same block starts again from its begin: no successor of its middle, so only n == 0 fits
        else if (n != 0) {
          ring->n -= 1;
          ran.resize(ran.size() - n);
          program.append_ips(id, 0, b.instructions, ran);
          if (!finish(b, t, cpu)) return t;
        }
        continue;
      }
      program.append_ips(id, 0, b.instructions, ran);
      if (!finish(b, t, cpu)) return t;
    }
    return std::max(t, until);
  }
  bool finish(const BlockInfo& b, uint64_t& t, uint32_t cpu) {
    walk.step();
    if (b.kind != Terminator::far) return true;
    ring->special(Word::syscall_enter, 1, t);
    since_mark = 0;
    if (random.chance(sleeps)) {
      in_syscall = true;
      asleep_until = t + random.between(20, 3000) * kUs;
      t += 2 * kUs;
      return false;
    }
    t += random.between(1, 5) * kUs;
    ring->special(Word::syscall_return, cpu, t);
    return true;
  }
};

struct Options {
  const char* pt = "tsc,mtc,cyc";
  unsigned threads = 4;
  unsigned cpus = 1;
  bool signals = true;
  double lost = 0;       // share of the switch records that are dropped
  bool delayed = false;  // blocks are published with the next special word only, as the plugin does
  uint64_t ms = 25;
  uint64_t seed = 1;
  bool exit_words = true;
  double sleeps = 0.02;  // of the system calls
};

/// A machine whose scheduler hands out slices at random; feeds a ThreadMerge as a recorder would.
struct Machine {
  explicit Machine(const Options& o) : options(o), random(o.seed, 11) {
    MergeConfig c;
    c.encoder.pt = *parse_pt_options(o.pt);
    c.encoder.cpu = simulated_cpu(kHz);
    c.encoder.tsc_hz = kHz;
    c.encoder.ring_bytes = 1 << 24;
    c.encoder.start_tsc = kStart;
    c.encoder.seed = o.seed;
    c.encoder.mtc_drop_rate = 0.02;
    c.tick_hz = 1000;
    for (unsigned i = 0; i < o.cpus; ++i) c.cpus.push_back(CpuId(i));
    config = c;
    merge = std::make_unique<ThreadMerge>(c);
    for (unsigned i = 0; i < o.threads; ++i) {
      threads.push_back(std::make_unique<GuestThread>(static_cast<int>(100 + i), o.seed * 100 + i));
      threads[i]->sleeps = o.sleeps;
      handles.push_back(
          merge->add_thread(Pid(100), Tid(threads[i]->tid), threads[i]->ring->ring(), threads[i]->table, kStart + kUs));
    }
  }

  void switch_record(uint32_t cpu, int tid, uint64_t t, bool in) {
    if (random.chance(options.lost)) {
      merge->on_lost(CpuId(cpu), t);
      ++dropped;
      return;
    }
    merge->on_switch(CpuId(cpu), Tid(tid), t, in);
  }

  void run() {
    struct Cpu {
      uint64_t free_at;
      int running = 0;
    };
    std::vector<Cpu> cpus(options.cpus, Cpu{kStart + 10 * kUs});
    for (unsigned c = 0; c < options.cpus; ++c) switch_record(c, 0, cpus[c].free_at, true);
    const uint64_t end = kStart + options.ms * 1000 * kUs;
    std::map<int, uint64_t> busy_until;
    std::vector<std::pair<uint64_t, size_t>> publications;
    for (;;) {
      auto c = std::min_element(cpus.begin(), cpus.end(), [](auto& a, auto& b) { return a.free_at < b.free_at; });
      const uint64_t now = c->free_at;
      if (now >= end) break;
      const auto cpu = static_cast<uint32_t>(c - cpus.begin());
      std::vector<GuestThread*> ready;
      for (auto& t : threads)
        if (busy_until[t->tid] <= now && t->asleep_until <= now) ready.push_back(t.get());
      if (ready.empty()) {
        c->free_at = now + random.between(10, 200) * kUs;
        continue;
      }
      GuestThread& t = *ready[random.between(0, ready.size() - 1)];
      if (c->running == 0) switch_record(cpu, 0, now, false);
      switch_record(cpu, t.tid, now, true);
      const uint64_t stop = t.run(now, now + random.between(10, 1500) * kUs, cpu, options.signals);
      if (random.chance(0.3) && stop > now + 20 * kUs)
        merge->on_fault(Tid(t.tid), now + random.between(5 * kUs, stop - now));
      switch_record(cpu, t.tid, stop, false);
      busy_until[t.tid] = stop;
      t.ring->position = t.ring->n;
      t.ring->written = options.delayed ? t.ring->published : t.ring->n;
      c->running = 0;
      c->free_at = stop + kUs / 2;
      switch_record(cpu, 0, stop, true);
      const uint64_t horizon =
          std::min_element(cpus.begin(), cpus.end(), [](auto& a, auto& b) { return a.free_at < b.free_at; })->free_at;
      if (random.chance(0.5)) merge->work(horizon - 5 * kUs, horizon);
    }
    for (auto& t : threads) {
      if (options.exit_words) {
        uint64_t last = 0;
        for (auto& c : cpus) last = std::max(last, c.free_at);
        // ends by a system call's exit
        if (!t->in_syscall) {
          // leaves user code where it stands: a block that ends in SYSCALL is what an exit looks like
          t->ring->written = t->ring->n;
        } else {
          t->ring->special(Word::exit, 0, last + 100 * kUs);
        }
      }
      t->ring->written = t->ring->position = t->ring->n;
    }
    merge->finish(end + 10000 * kUs);
  }

  ReadMemory memory() {
    return [this](uint8_t* buffer, size_t size, uint64_t ip) -> int {
      for (auto& t : threads)
        if (t->program.contains(ip)) {
          const size_t n = std::min<size_t>(size, t->program.base() + t->program.code().size() - ip);
          std::memcpy(buffer, t->program.code().data() + (ip - t->program.base()), n);
          return static_cast<int>(n);
        }
      return -pte_nomap;
    };
  }

  struct Found {
    uint64_t tsc;
    const Stretch* s;
  };
  /// What libipt finds, per thread, in order of time.
  std::map<int, std::vector<Found>> decode() {
    std::map<int, std::vector<Found>> found;
    for (unsigned c = 0; c < options.cpus; ++c) {
      decoded.push_back(std::make_unique<Decoded>(
          ipt_decode(merge->encoder(CpuId(c)).ring().contents(), config.encoder.cpu, config.encoder.pt, memory())));
      EXPECT_TRUE(decoded.back()->errors.empty()) << decoded.back()->errors.front();
      overflows += decoded.back()->overflows;
      for (const Stretch& s : decoded.back()->stretches) {
        if (s.ips.empty()) continue;
        for (uint64_t ip : s.ips) EXPECT_EQ(ip >> 32, s.ips[0] >> 32) << "two threads in one stretch";
        found[static_cast<int>(s.ips[0] >> 32)].push_back({s.tsc, &s});
      }
    }
    for (auto& [tid, list] : found)
      std::stable_sort(list.begin(), list.end(), [](auto& a, auto& b) { return a.tsc < b.tsc; });
    return found;
  }

  Options options;
  SeededRandom random;
  MergeConfig config;
  std::unique_ptr<ThreadMerge> merge;
  std::vector<std::unique_ptr<GuestThread>> threads;
  std::vector<ThreadMerge::Thread*> handles;
  std::vector<std::unique_ptr<Decoded>> decoded;
  uint64_t overflows = 0, dropped = 0;
};

/// Every thread's stretches, in order of time, are what it ran. The last block of a thread that ends without a word about
/// it counts as not run: at most that may be missing. reach: how many stretches may have changed places.
void expect_same(Machine& m, size_t reach = 1) {
  auto found = m.decode();
  for (auto& t : m.threads) {
    auto& list = found[t->tid];
    size_t at = 0;
    while (!list.empty()) {
      size_t i = 0;
      for (; i < std::min(reach, list.size()); ++i) {
        const auto& ips = list[i].s->ips;
        if (at + ips.size() <= t->ran.size() &&
            std::equal(ips.begin(), ips.end(), t->ran.begin() + static_cast<long>(at)))
          break;
      }
      ASSERT_LT(i, std::min(reach, list.size()))
          << "thread " << t->tid << " at instruction " << at << " of " << t->ran.size();
      at += list[i].s->ips.size();
      list.erase(list.begin() + static_cast<long>(i));
    }
    ASSERT_LE(t->ran.size() - at, 16u) << "thread " << t->tid;
    ASSERT_GT(at, 1000u);
  }
}

TEST(SimMerge, FourThreadsOnOneCpuComeBackWhole) {
  for (const char* pt : {"tsc,mtc,cyc", "tsc,mtc", "tsc,mtc,noretcomp,psb_period=0", "tsc,mtc,cyc,psb_period=0"}) {
    for (uint64_t seed = 1; seed <= 3; ++seed) {
      Machine m({.pt = pt, .seed = seed});
      m.run();
      expect_same(m);
      EXPECT_EQ(m.overflows, 0u);
      EXPECT_EQ(m.merge->stats().bad_words, 0u);
      EXPECT_EQ(m.merge->stats().takeovers, 0u);
      EXPECT_EQ(m.merge->stats().unplaced_spans, 0u);
      EXPECT_GT(m.merge->stats().ticks, 2u);
      EXPECT_GT(m.merge->stats().faults, 0u);
      EXPECT_GT(m.merge->stats().preemptions, 8u);
      EXPECT_EQ(m.merge->waiting_words(), 0u);
    }
  }
}

TEST(SimMerge, ThreadsThatMigrateComeBackWhole) {
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    Machine m({.pt = "tsc,mtc,cyc", .threads = 7, .cpus = 3, .seed = seed});
    m.run();
    expect_same(m);
    EXPECT_EQ(m.overflows, 0u);
  }
}

TEST(SimMerge, BlocksThatAreNotPublishedYetAreReadWhereTheirThreadStopped) {
  uint64_t rests = 0;
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    Machine m({.pt = "tsc,mtc,cyc", .threads = 5, .cpus = 2, .delayed = true, .seed = seed, .sleeps = 0.0005});
    m.run();
    expect_same(m);
    EXPECT_EQ(m.overflows, 0u);
    EXPECT_EQ(m.merge->stats().late_spans, 0u);
    rests += m.merge->stats().rests;
  }
  EXPECT_GT(rests, 5u);
}

/// Every thread's stretches are, in order of time, somewhere in what it ran. Returns how many instructions they are.
size_t expect_true_pieces(Machine& m, size_t reach) {
  size_t found_instructions = 0;
  auto found = m.decode();
  for (auto& t : m.threads) {
    auto& list = found[t->tid];
    auto at = t->ran.begin();
    while (!list.empty()) {
      auto place = t->ran.end();
      size_t i = 0;
      for (; i < std::min(reach, list.size()) && place == t->ran.end(); ++i)
        place = std::search(at, t->ran.end(), list[i].s->ips.begin(), list[i].s->ips.end());
      if (place == t->ran.end()) {
        ADD_FAILURE() << "thread " << t->tid << " did not run " << list[0].s->ips.size() << " instructions at "
                      << list[0].tsc;
        return found_instructions;
      }
      --i;
      found_instructions += list[i].s->ips.size();
      at = place + static_cast<long>(list[i].s->ips.size());
      list.erase(list.begin() + static_cast<long>(i));
    }
  }
  return found_instructions;
}

TEST(SimMerge, WhereSwitchRecordsAreLostCodeIsLostButNeverMoved) {
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    Machine m({.pt = "tsc,mtc,cyc", .threads = 4, .cpus = 2, .lost = 0.1, .seed = seed});
    m.run();
    EXPECT_GT(m.dropped, 5u);
    const size_t found = expect_true_pieces(m, 4);
    size_t ran = 0;
    for (auto& t : m.threads) ran += t->ran.size();
    EXPECT_GT(found, ran / 2);
    EXPECT_TRUE(found + 16 * m.threads.size() >= ran || m.overflows > 0) << "something is missing without an overflow";
  }
}

TEST(SimMerge, SameInputsGiveTheSameBytes) {
  Machine a({.threads = 5, .cpus = 2}), b({.threads = 5, .cpus = 2});
  a.run();
  b.run();
  for (uint32_t c = 0; c < 2; ++c)
    EXPECT_EQ(a.merge->encoder(CpuId(c)).ring().contents(), b.merge->encoder(CpuId(c)).ring().contents());
}

// ---- single rules

struct Single {
  Single() {
    MergeConfig c;
    c.encoder.pt = *parse_pt_options("tsc,mtc=0");
    c.encoder.cpu = simulated_cpu(kHz);
    c.encoder.tsc_hz = kHz;
    c.encoder.ring_bytes = 1 << 20;
    c.encoder.start_tsc = kStart;
    c.encoder.changing_clock = false;
    c.cpus = {CpuId(0), CpuId(1)};
    c.tick_hz = 0;
    config = c;
    merge = std::make_unique<ThreadMerge>(c);
    BlockInfo b;
    b.ip = b.target = 0x401000;
    b.lengths = lengths;
    b.bytes = 6;
    b.instructions = 6;
    b.target = b.fall();
    table->add(0, b);
    b.ip = 0x401006;
    b.target = b.fall();
    b.bytes = 2;
    b.instructions = 1;
    b.lengths = lengths + 6;
    b.kind = Terminator::far;
    table->add(1, b);
    // block 0 in two halves
    for (const uint64_t ip : {0x401000, 0x401003}) {
      BlockInfo half;
      half.ip = ip;
      half.lengths = lengths;
      half.bytes = 3;
      half.instructions = 3;
      half.target = half.fall();
      table->add(ip == 0x401000 ? 2 : 3, half);
    }
    thread = merge->add_thread(Pid(7), Tid(7), ring.ring(), table, kStart + kUs);
  }
  Decoded decode(uint32_t cpu) {
    return ipt_decode(merge->encoder(CpuId(cpu)).ring().contents(), config.encoder.cpu, config.encoder.pt,
                      [](uint8_t* buffer, size_t, uint64_t ip) -> int {
                        static const uint8_t code[] = {0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x0f, 0x05};
                        if (ip < 0x401000 || ip >= 0x401008) return -pte_nomap;
                        std::memcpy(buffer, code + (ip - 0x401000), 0x401008 - ip);
                        return static_cast<int>(0x401008 - ip);
                      });
  }
  const uint8_t lengths[7] = {1, 1, 1, 1, 1, 1, 2};
  MergeConfig config;
  std::unique_ptr<ThreadMerge> merge;
  std::shared_ptr<BlockTable> table = std::make_shared<BlockTable>();
  TestRing ring{4096};
  ThreadMerge::Thread* thread;
};

size_t instructions(const Decoded& d) {
  size_t n = 0;
  for (const Stretch& stretch : d.stretches) n += stretch.ips.size();
  return n;
}

TEST(SimMerge, APreemptedThreadHoldsNobodyUpAndKeepsItsTime) {
  Single s;
  const uint64_t t0 = kStart + 100 * kUs, ms = 1000 * kUs;
  s.merge->on_switch(CpuId(0), Tid(7), t0, true);
  s.ring.special(Word::mark, 0, t0 + 2 * kUs);
  s.ring.written = s.ring.n;
  s.ring.put(2);
  s.ring.put(3);  // began, and was then preempted
  s.ring.position = s.ring.n;
  s.merge->on_switch(CpuId(0), Tid(7), t0 + 20 * kUs, false);
  for (uint64_t now = t0 + ms; now < t0 + 100 * ms; now += ms) s.merge->work(now - 2 * ms, now);
  EXPECT_EQ(s.merge->stats().rests, 1u);
  EXPECT_GT(s.merge->encoder(CpuId(0)).now(), t0 + 90 * ms) << "the CPU waits for a thread that is off it";
  // back on another CPU a long time later
  s.merge->on_switch(CpuId(1), Tid(7), t0 + 101 * ms, true);
  s.ring.put(1);
  s.ring.special(Word::syscall_enter, 60, t0 + 101 * ms + 5 * kUs);
  s.ring.special(Word::exit, 0, t0 + 101 * ms + 6 * kUs);
  s.ring.written = s.ring.position = s.ring.n;
  s.merge->finish(t0 + 102 * ms);
  EXPECT_EQ(s.merge->stats().late_spans, 0u);
  EXPECT_EQ(instructions(s.decode(0)), 3u) << "the block that had begun belongs to what comes after";
  EXPECT_EQ(instructions(s.decode(1)), 4u);
}

TEST(SimMerge, WhatIsKnownTooLateIsAnOverflowAtNoWrongTime) {
  Single s;
  // On its CPU and silent for longer than anybody waits; then it says what it ran, a moment after its last word.
  const uint64_t t0 = kStart + 100 * kUs, ms = 1000 * kUs;
  s.merge->on_switch(CpuId(0), Tid(7), t0, true);
  s.ring.special(Word::mark, 0, t0 + 2 * kUs);
  s.ring.put(2);
  s.ring.special(Word::mark, 0, t0 + 4 * kUs);
  s.ring.put(3);
  s.ring.written = s.ring.position = s.ring.n;
  s.merge->on_switch(CpuId(0), Tid(7), t0 + 8 * kUs, false);
  s.merge->on_switch(CpuId(0), Tid(7), t0 + 5999 * ms, true);
  s.merge->work(t0 + 10 * kUs, t0 + ms);
  s.merge->work(t0 + 6000 * ms, t0 + 6000 * ms);
  ASSERT_GT(s.merge->encoder(CpuId(0)).now(), t0 + 5000 * ms);
  s.ring.special(Word::mark, 0, t0 + 6 * kUs);
  s.ring.special(Word::mark, 0, t0 + 6001 * ms);
  s.ring.put(1);
  s.ring.special(Word::exit, 0, t0 + 6001 * ms + 5 * kUs);
  s.ring.written = s.ring.position = s.ring.n;
  s.merge->finish(t0 + 6002 * ms);
  EXPECT_EQ(s.merge->stats().late_spans, 1u);
  const Decoded d = s.decode(0);
  EXPECT_EQ(d.overflows, 1u);
  EXPECT_EQ(instructions(d), 3u + 1u) << "the first and the last block, but not the one between";
}

TEST(SimMerge, WordsThatNameATimeAfterTheEndAreDropped) {
  Single s;
  const uint64_t t0 = kStart + 100 * kUs;
  s.merge->on_switch(CpuId(0), Tid(7), t0, true);
  s.ring.special(Word::mark, 0, t0 + 2 * kUs);
  s.ring.put(0);
  s.ring.special(Word::mark, 0, uint64_t{1} << 62);
  s.ring.written = s.ring.n;
  s.merge->finish(t0 + 1000 * kUs);
  EXPECT_EQ(s.merge->waiting_words(), 0u);
  EXPECT_LT(s.merge->encoder(CpuId(0)).now(), t0 + 2000 * kUs);
}

TEST(SimMerge, APreemptionCutsABlockWhereItsTimeWas) {
  Single s;
  // runs on CPU 0 for 10 us, is away, and runs on CPU 1 for 20 us: a third of the six instructions, then the rest
  const uint64_t t0 = kStart + 100 * kUs;
  s.merge->on_switch(CpuId(0), Tid(7), t0, true);
  s.ring.special(Word::mark, 0, t0 + 2 * kUs);
  s.ring.put(0);
  s.merge->on_switch(CpuId(0), Tid(7), t0 + 15 * kUs, false);
  s.merge->on_switch(CpuId(1), Tid(7), t0 + 50 * kUs, true);
  s.ring.special(Word::mark, 1, t0 + 72 * kUs);
  s.ring.put(1);
  s.ring.special(Word::syscall_enter, 60, t0 + 73 * kUs);
  s.ring.special(Word::exit, 0, t0 + 74 * kUs);
  s.merge->on_switch(CpuId(1), Tid(7), t0 + 80 * kUs, false);
  s.ring.written = s.ring.n;
  s.merge->finish(t0 + 1000 * kUs);
  const Decoded a = s.decode(0), b = s.decode(1);
  EXPECT_EQ(a.all(), (std::vector<uint64_t>{0x401000, 0x401001}));
  EXPECT_EQ(a.async_disabled, 1u);
  EXPECT_EQ(b.all(), (std::vector<uint64_t>{0x401002, 0x401003, 0x401004, 0x401005, 0x401006}));
  EXPECT_EQ(b.disabled, 1u);
}

TEST(SimMerge, AThreadKilledWithinABlockLosesOnlyThatBlock) {
  Single s;
  const uint64_t t0 = kStart + 100 * kUs;
  s.merge->on_switch(CpuId(0), Tid(7), t0, true);
  s.ring.special(Word::mark, 0, t0 + 2 * kUs);
  s.ring.put(0);
  s.ring.put(1);
  s.ring.written = s.ring.n;
  s.merge->on_switch(CpuId(0), Tid(7), t0 + 14 * kUs, false);
  s.merge->end_thread(s.thread);
  s.merge->finish(t0 + 1000 * kUs);
  const Decoded a = s.decode(0);
  EXPECT_EQ(a.all().size(), 6u);
  EXPECT_EQ(a.async_disabled, 1u);
  EXPECT_TRUE(a.errors.empty());
}

TEST(SimMerge, AnUnknownStretchIsAnOverflow) {
  Single s;
  const uint64_t t0 = kStart + 100 * kUs;
  s.merge->on_switch(CpuId(0), Tid(7), t0, true);
  s.ring.special(Word::mark, 0, t0 + 2 * kUs);
  s.ring.put(0);
  s.ring.put(special(Word::lost, 0));
  s.ring.put64(0);
  s.ring.put(0);
  s.ring.put(1);
  s.ring.special(Word::syscall_enter, 60, t0 + 10 * kUs);
  s.ring.special(Word::exit, 0, t0 + 11 * kUs);
  s.ring.written = s.ring.n;
  s.merge->finish(t0 + 1000 * kUs);
  const Decoded a = s.decode(0);
  EXPECT_EQ(a.overflows, 1u);
  EXPECT_EQ(a.all().size(), 7u);
  EXPECT_TRUE(a.errors.empty());
}

TEST(SimMerge, WordsThatBreakTheRulesEndTheThreadOnly) {
  for (uint32_t bad : {12345u, special(static_cast<Word>(99), 0), special(Word::cut, 9)}) {
    Single s;
    const uint64_t t0 = kStart + 100 * kUs;
    s.merge->on_switch(CpuId(0), Tid(7), t0, true);
    s.ring.special(Word::mark, 0, t0 + 2 * kUs);
    s.ring.put(0);
    s.ring.special(Word::mark, 0, t0 + 3 * kUs);
    s.ring.put(0);
    s.ring.put(bad);
    s.ring.written = s.ring.n;
    s.merge->finish(t0 + 1000 * kUs);
    EXPECT_EQ(s.merge->stats().bad_words, 1u) << bad;
  }
  Single s;
  s.ring.written = 1 << 20;  // more than the ring holds
  s.merge->finish(kStart + 1000 * kUs);
  EXPECT_EQ(s.merge->stats().bad_words, 1u);
}

TEST(SimMerge, AnIdleCpuSleepsAndSaysTheTimeWhenItWakes) {
  Single s;
  const uint64_t t0 = kStart + 100 * kUs;
  s.merge->on_switch(CpuId(0), Tid(0), t0, true);
  s.merge->on_switch(CpuId(0), Tid(0), t0 + 500 * kUs, false);
  s.merge->finish(t0 + 1000 * kUs);
  auto bytes = s.merge->encoder(CpuId(0)).ring().contents();
  pt_config c = ipt_config(bytes, s.config.encoder.cpu, s.config.encoder.pt);
  pt_packet_decoder* d = pt_pkt_alloc_decoder(&c);
  ASSERT_GE(pt_pkt_sync_forward(d), 0);
  std::vector<uint64_t> times;
  pt_packet p;
  while (pt_pkt_next(d, &p, sizeof p) > 0)
    if (p.type == ppt_tsc) times.push_back(p.payload.tsc.tsc);
  pt_pkt_free_decoder(d);
  ASSERT_EQ(times.size(), 2u);
  EXPECT_EQ(times[0], kStart);
  EXPECT_NEAR(static_cast<double>(times[1]), static_cast<double>(t0 + 500 * kUs), 2.0 * kUs);
}

}  // namespace
}  // namespace hindcast::sim
