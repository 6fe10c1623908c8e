#include "capture/sim/pt_encoder.h"

#include <gtest/gtest.h>

#include "tests/unit/capture/sim_decode.h"
#include "tests/unit/capture/sim_program.h"

namespace hindcast::sim {
namespace {

constexpr uint64_t kHz = 2596154000;
constexpr uint64_t kStart = uint64_t{1} << 40;

EncoderConfig config_of(const PtOptions& pt, uint64_t seed = 1) {
  EncoderConfig c;
  c.pt = pt;
  c.cpu = simulated_cpu(kHz);
  c.tsc_hz = kHz;
  c.ring_bytes = 1 << 24;
  c.start_tsc = kStart;
  c.seed = seed;
  return c;
}

ReadMemory memory_of(const std::vector<const SyntheticProgram*>& programs) {
  return [programs](uint8_t* buffer, size_t size, uint64_t ip) -> int {
    for (const SyntheticProgram* p : programs)
      if (p->contains(ip)) {
        const size_t n = std::min<size_t>(size, p->base() + p->code().size() - ip);
        std::memcpy(buffer, p->code().data() + (ip - p->base()), n);
        return static_cast<int>(n);
      }
    return -pte_nomap;
  };
}

/// Drives an encoder along a walk in runs of random length and keeps what really ran.
struct Driver {
  Driver(const SyntheticProgram& p, const EncoderConfig& c, uint64_t seed)
      : program(p), walk(p, seed), encoder(c), random(seed, 5), t(c.start_tsc + 1000) {}

  /// Up to `count` blocks; may leave one in its middle, and then may be interrupted there.
  void go(uint64_t count) {
    const auto& blocks = program.blocks();
    while (count > 0) {
      std::vector<uint32_t> ids;
      Run run;
      run.first_skip = skip;
      if (!encoder.tracing()) {
        t += random.between(10, 20000);
        encoder.enter(t, blocks[walk.current()].ip_of(skip));
      }
      uint64_t want = std::min<uint64_t>(count, random.between(1, 400));
      bool far = false;
      uint64_t instructions = 0;
      while (want > 0 && !far) {
        const uint32_t id = walk.current();
        const uint32_t from = ids.empty() ? skip : 0;
        ids.push_back(id);
        --want;
        --count;
        const uint32_t n = blocks[id].instructions;
        if (want == 0 && n - from > 1 && random.chance(0.5)) {
          run.last_stop = static_cast<uint32_t>(random.between(from + 1, n - 1));
          program.append_ips(id, from, run.last_stop, ran);
          instructions += run.last_stop - from;
          skip = run.last_stop;
          break;
        }
        program.append_ips(id, from, n, ran);
        instructions += n - from;
        skip = 0;
        // some far transfers lead to user code at once, as LRET does
        far = blocks[id].kind == Terminator::far && (want == 0 || random.chance(0.7));
        walk.step();
      }
      run.ids = ids.data();
      run.count = ids.size();
      run.blocks = blocks.data();
      run.next_ip = blocks[walk.current()].ip_of(skip);
      run.instructions = instructions;
      run.t0 = t;
      t += instructions * random.between(1, 12);
      run.t1 = t;
      encoder.run(run);
      EXPECT_EQ(encoder.tracing(), !far);
      if (!far && random.chance(0.2)) {
        t += random.between(0, 500);
        encoder.interrupt(t);
        if (random.chance(0.3)) {  // a signal handler
          walk.jump_to(program.entry(static_cast<unsigned>(random.between(0, program.functions() - 1))));
          skip = 0;
        }
        if (random.chance(0.1)) {
          encoder.sleep(t + 3000);
          t += random.between(5000, 5000000);
          encoder.wake(t);
        }
      }
    }
  }
  std::vector<uint8_t> bytes() {
    if (encoder.tracing()) encoder.interrupt(t + 100);
    return encoder.ring().contents();
  }

  const SyntheticProgram& program;
  SyntheticWalk walk;
  PtEncoder encoder;
  SeededRandom random;
  std::vector<uint64_t> ran;
  uint32_t skip = 0;
  uint64_t t;
};

PtOptions options(const char* text) {
  auto r = parse_pt_options(text);
  HC_CHECK(r.ok());
  return *r;
}

class SimEncoderOptions : public testing::TestWithParam<const char*> {};

TEST_P(SimEncoderOptions, LibiptFollowsTheSameInstructions) {
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    const SyntheticProgram program(0x400000 + (seed << 44), seed);
    for (int variant = 0; variant < 4; ++variant) {
      EncoderConfig c = config_of(options(GetParam()), seed);
      c.long_tnt = variant & 1;
      c.deferred_tips = variant & 2;
      c.mtc_drop_rate = 0.05;
      Driver d(program, c, seed);
      d.go(30000);
      const auto bytes = d.bytes();
      EXPECT_EQ(d.encoder.stats().mismatches, 0u);
      const Decoded got = ipt_decode(bytes, c.cpu, c.pt, memory_of({&program}));
      EXPECT_TRUE(got.errors.empty()) << got.errors.front() << " seed " << seed << " variant " << variant;
      EXPECT_EQ(got.overflows, 0u);
      const auto all = got.all();
      ASSERT_EQ(all.size(), d.ran.size()) << "seed " << seed << " variant " << variant;
      ASSERT_TRUE(all == d.ran) << "seed " << seed << " variant " << variant;
      const Decoded blocks = ipt_decode<pt_block_decoder>(bytes, c.cpu, c.pt, memory_of({&program}));
      EXPECT_TRUE(blocks.errors.empty());
      EXPECT_EQ(blocks.instructions, d.ran.size());
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, SimEncoderOptions,
                         testing::Values("tsc,mtc,mtc_period=3,cyc,psb_period=0", "tsc,mtc,mtc_period=3,psb_period=0",
                                         "tsc,mtc,mtc_period=0,cyc,psb_period=3", "tsc,mtc=0,psb_period=0",
                                         "tsc=0,mtc=0,psb_period=1", "tsc,mtc=0,cyc,psb_period=2",
                                         "tsc,mtc,mtc_period=9,cyc,cyc_thresh=5,psb_period=0",
                                         "tsc,mtc,mtc_period=3,cyc,noretcomp,psb_period=0",
                                         "tsc,mtc,mtc_period=3,noretcomp,psb_period=0"));

TEST(SimEncoder, SameInputsGiveTheSameBytes) {
  const SyntheticProgram program(0x400000, 9);
  EncoderConfig c = config_of(options("tsc,mtc,cyc"), 3);
  c.ovf_per_kib = 0.1;
  Driver a(program, c, 9), b(program, c, 9);
  a.go(20000);
  b.go(20000);
  EXPECT_EQ(a.bytes(), b.bytes());
  c.seed = 4;
  Driver other(program, c, 9);
  other.go(20000);
  EXPECT_NE(a.bytes(), other.bytes());
}

// What libipt finds must be the truth with pieces missing, each missing piece announced by an overflow.
TEST(SimEncoder, LostPacketsLeaveOnlyHolesThatAreAnnounced) {
  for (const char* text : {"tsc,mtc,cyc,psb_period=0", "tsc,mtc,psb_period=0", "tsc,mtc,cyc,noretcomp"}) {
    for (uint64_t seed = 1; seed <= 6; ++seed) {
      const SyntheticProgram program(0x400000, seed);
      EncoderConfig c = config_of(options(text), seed);
      c.ovf_per_kib = 0.5;
      Driver d(program, c, seed);
      d.go(60000);
      const Decoded got = ipt_decode(d.bytes(), c.cpu, c.pt, memory_of({&program}));
      EXPECT_TRUE(got.errors.empty()) << got.errors.front() << " " << text << " seed " << seed;
      EXPECT_GT(got.overflows, 5u);
      EXPECT_NEAR(static_cast<double>(got.overflows), static_cast<double>(d.encoder.stats().overflows), 2);
      // what lies between two overflows occurs in the truth in one piece, and the pieces in order
      std::vector<std::vector<uint64_t>> pieces(1);
      for (const Stretch& s : got.stretches) {
        if (s.begin == "overflow") pieces.emplace_back();
        pieces.back().insert(pieces.back().end(), s.ips.begin(), s.ips.end());
      }
      auto at = d.ran.begin();
      for (const auto& piece : pieces) {
        at = std::search(at, d.ran.end(), piece.begin(), piece.end());
        ASSERT_TRUE(piece.empty() || at != d.ran.end()) << text << " seed " << seed;
        at += static_cast<long>(piece.size());
      }
      EXPECT_GT(got.instructions, d.ran.size() / 4);
    }
  }
}

TEST(SimEncoder, AWrappedRingDecodesToTheEndOfWhatRan) {
  const SyntheticProgram program(0x400000, 4);
  EncoderConfig c = config_of(options("tsc,mtc,cyc,psb_period=0"), 4);
  c.ring_bytes = 1 << 16;
  Driver d(program, c, 4);
  d.go(200000);
  const auto bytes = d.bytes();
  ASSERT_TRUE(d.encoder.ring().wrapped());
  ASSERT_EQ(bytes.size(), size_t{1} << 16);
  const Decoded got = ipt_decode(bytes, c.cpu, c.pt, memory_of({&program}));
  EXPECT_TRUE(got.errors.empty());
  const auto all = got.all();
  ASSERT_GT(all.size(), 10000u);
  ASSERT_TRUE(std::equal(all.begin(), all.end(), d.ran.end() - static_cast<long>(all.size())));
}

// ---- golden bytes: one rule each, on a hand-made program

struct TinyProgram {
  BlockInfo block(uint64_t ip, std::vector<uint8_t> lengths, Terminator kind, uint64_t target = 0) {
    storage.push_back(std::make_unique<std::vector<uint8_t>>(std::move(lengths)));
    BlockInfo b;
    b.ip = ip;
    b.lengths = storage.back()->data();
    b.instructions = static_cast<uint16_t>(storage.back()->size());
    for (uint8_t n : *storage.back()) b.bytes = static_cast<uint16_t>(b.bytes + n);
    b.kind = kind;
    b.target = target ? target : b.fall();
    return b;
  }
  std::vector<std::unique_ptr<std::vector<uint8_t>>> storage;
};

/// The trace's bytes behind the first PSB+.
std::vector<uint8_t> tail_of(const PtEncoder& e) {
  auto bytes = e.ring().contents();
  const std::vector<uint8_t> psbend{0x02, 0x23};
  auto it = std::search(bytes.begin(), bytes.end(), psbend.begin(), psbend.end());
  HC_CHECK(it != bytes.end());
  return {it + 2, bytes.end()};
}

EncoderConfig quiet(const char* text) {
  EncoderConfig c = config_of(options(text));
  c.changing_clock = false;
  return c;
}

void run_ids(PtEncoder& e, const std::vector<BlockInfo>& blocks, const std::vector<uint32_t>& ids, uint64_t next_ip,
             uint64_t t0, uint64_t t1) {
  sim::Run r;
  r.ids = ids.data();
  r.count = ids.size();
  r.blocks = blocks.data();
  r.next_ip = next_ip;
  for (uint32_t id : ids) r.instructions += blocks[id].instructions;
  r.t0 = t0;
  r.t1 = t1;
  e.run(r);
}

using Bytes = std::vector<uint8_t>;

TEST(SimEncoder, SyscallGivesTipPgdWithoutIpAndWithoutFup) {
  TinyProgram p;
  const std::vector<BlockInfo> blocks{p.block(0x401000, {1, 2}, Terminator::far)};
  PtEncoder e(quiet("tsc=0,mtc=0"));
  e.enter(kStart + 10, 0x401000);
  run_ids(e, blocks, {0}, 0, kStart + 10, kStart + 20);
  EXPECT_FALSE(e.tracing());
  EXPECT_EQ(tail_of(e), (Bytes{0x99, 0x01, 0x71, 0x00, 0x10, 0x40, 0, 0, 0, 0x01}));
}

TEST(SimEncoder, AnInterruptGivesFupThenTipPgdWithoutIp) {
  TinyProgram p;
  const std::vector<BlockInfo> blocks{p.block(0x401000, {1, 2, 3}, Terminator::none)};
  PtEncoder e(quiet("tsc=0,mtc=0"));
  e.enter(kStart + 10, 0x401000);
  sim::Run r;
  const uint32_t id = 0;
  r.ids = &id;
  r.count = 1;
  r.blocks = blocks.data();
  r.last_stop = 2;
  r.next_ip = 0x401003;
  r.instructions = 2;
  r.t0 = kStart + 10;
  r.t1 = kStart + 20;
  e.run(r);
  e.interrupt(kStart + 30);
  e.enter(kStart + 40, 0x401003);
  EXPECT_EQ(tail_of(e), (Bytes{0x99, 0x01, 0x71, 0x00, 0x10, 0x40, 0, 0, 0, 0x3d, 0x03, 0x10, 0x01, 0x31, 0x03, 0x10}));
}

TEST(SimEncoder, SixResultsFillATnt) {
  TinyProgram p;
  const std::vector<BlockInfo> blocks{p.block(0x401000, {2}, Terminator::cond, 0x401000)};
  PtEncoder e(quiet("tsc=0,mtc=0"));
  e.enter(kStart + 10, 0x401000);
  run_ids(e, blocks, {0, 0, 0, 0, 0, 0, 0, 0}, 0x401002, kStart + 10, kStart + 20);
  e.interrupt(kStart + 30);
  const Bytes got = tail_of(e);
  // TTTTTT, then T N, then the interrupt
  EXPECT_EQ(Bytes(got.begin() + 9, got.end()), (Bytes{0xfe, 0x0c, 0x3d, 0x02, 0x10, 0x01}));
}

TEST(SimEncoder, AReturnIsCompressedOnlyToItsCall) {
  TinyProgram p;
  // 0: call 0x402000 at 0x401000; 1: at 0x402000 ret; 2: at 0x401005 (call's return) ret
  const std::vector<BlockInfo> blocks{p.block(0x401000, {5}, Terminator::call, 0x402000),
                                      p.block(0x402000, {1}, Terminator::ret), p.block(0x401005, {1}, Terminator::ret)};
  for (bool compressed : {true, false}) {
    PtEncoder e(quiet(compressed ? "tsc=0,mtc=0" : "tsc=0,mtc=0,noretcomp"));
    e.enter(kStart + 10, 0x401000);
    run_ids(e, blocks, {0, 1, 2}, 0x403000, kStart + 10, kStart + 20);
    const Bytes got = tail_of(e);
    const Bytes flow(got.begin() + 9, got.end());
    if (compressed)
      EXPECT_EQ(flow, (Bytes{0x06, 0x2d + 0x00, 0x00, 0x30}));  // TNT(T), TIP(0x403000)
    else
      EXPECT_EQ(flow, (Bytes{0x2d, 0x05, 0x10, 0x2d, 0x00, 0x30}));
  }
}

TEST(SimEncoder, TheSixtyFifthCallForcesOutTheOldest) {
  TinyProgram p;
  std::vector<BlockInfo> blocks{p.block(0x401000, {5}, Terminator::call, 0x401000),
                                p.block(0x401005, {1}, Terminator::ret)};
  PtEncoder e(quiet("tsc=0,mtc=0"));
  e.enter(kStart + 10, 0x401000);
  std::vector<uint32_t> ids(65, 0);
  blocks.push_back(p.block(0x401000, {5}, Terminator::call_zero));  // not pushed
  ids.push_back(2);
  for (int i = 0; i < 65; ++i) ids.push_back(1);
  // The walk: 65 calls that are pushed (64 kept), then 65 returns: 64 compressed, one TIP.
  run_ids(e, blocks, ids, 0x401005, kStart + 10, kStart + 2000);
  e.interrupt(kStart + 3000);
  unsigned bits = 0, tips = 0;
  auto bytes = e.ring().contents();
  pt_config c = ipt_config(bytes, PtCpu{}, PtOptions{});
  pt_packet_decoder* d = pt_pkt_alloc_decoder(&c);
  pt_pkt_sync_forward(d);
  pt_packet packet;
  while (pt_pkt_next(d, &packet, sizeof packet) > 0) {
    if (packet.type == ppt_tnt_8) bits += packet.payload.tnt.bit_size;
    if (packet.type == ppt_tip) ++tips;
  }
  pt_pkt_free_decoder(d);
  EXPECT_EQ(bits, 64u);
  EXPECT_EQ(tips, 1u);
}

TEST(SimEncoder, ACycBeforeATntStatesItsFirstBranchAndPrecedesLaterTime) {
  TinyProgram p;
  const std::vector<BlockInfo> blocks{p.block(0x401000, {2}, Terminator::cond, 0x401000)};
  EncoderConfig c = quiet("tsc,mtc=0,cyc");
  PtEncoder e(c);
  e.enter(kStart + 100, 0x401000);
  // branches at +110, +120 ... +160: the clock model runs at one cycle a tick
  run_ids(e, blocks, {0, 0, 0, 0, 0, 0}, 0x401000, kStart + 100, kStart + 160);
  e.interrupt(kStart + 200);
  // CYC(100) MODE PGE, CYC(10) TNT, FUP CYC(90) PGD
  EXPECT_EQ(tail_of(e), (Bytes{0x27, 0x06, 0x99, 0x01, 0x71, 0x00, 0x10, 0x40, 0, 0, 0, 0x53, 0xfe, 0x3d, 0x00, 0x10,
                               0xd7, 0x04, 0x01}));
}

TEST(SimEncoder, TntIsSentBeforeAnMtc) {
  TinyProgram p;
  const std::vector<BlockInfo> blocks{p.block(0x401000, {2}, Terminator::cond, 0x401000)};
  EncoderConfig c = quiet("tsc,mtc,mtc_period=3");
  ClockModel clock(c.cpu, c.tsc_hz, kStart, 1, 0, false);
  const uint64_t mtc_ctc = ((clock.ctc(kStart) >> 3) + 1) << 3, mtc_at = clock.tsc_of_ctc(mtc_ctc);
  PtEncoder e(c);
  e.enter(mtc_at - 100, 0x401000);
  run_ids(e, blocks, {0, 0}, 0x401000, mtc_at - 50, mtc_at + 40);  // branches at -5 and +40
  e.interrupt(mtc_at + 50);
  const Bytes got = tail_of(e);
  EXPECT_EQ(Bytes(got.begin() + 9, got.end()),
            (Bytes{0x06, 0x59, static_cast<uint8_t>(mtc_ctc >> 3), 0x06, 0x3d, 0x00, 0x10, 0x01}));
}

TEST(SimEncoder, DeferredTipsFollowTheirTnt) {
  TinyProgram p;
  const std::vector<BlockInfo> blocks{p.block(0x401000, {2}, Terminator::cond, 0x401010),
                                      p.block(0x401002, {2}, Terminator::indirect_jump),
                                      p.block(0x401010, {2}, Terminator::indirect_jump)};
  for (bool deferred : {false, true}) {
    EncoderConfig c = quiet("tsc=0,mtc=0");
    c.deferred_tips = deferred;
    PtEncoder e(c);
    e.enter(kStart + 10, 0x401000);
    run_ids(e, blocks, {0, 1, 0, 2}, 0x401000, kStart + 10, kStart + 20);
    e.interrupt(kStart + 30);
    const Bytes got = tail_of(e);
    const Bytes flow(got.begin() + 9, got.end());
    if (deferred)
      EXPECT_EQ(flow, (Bytes{0x0a, 0x2d, 0x00, 0x10, 0x2d, 0x00, 0x10, 0x3d, 0x00, 0x10, 0x01}));
    else
      EXPECT_EQ(flow, (Bytes{0x04, 0x2d, 0x00, 0x10, 0x06, 0x2d, 0x00, 0x10, 0x3d, 0x00, 0x10, 0x01}));
  }
}

TEST(SimEncoder, ABlockThatDoesNotFollowIsALossNotALie) {
  TinyProgram p;
  const std::vector<BlockInfo> blocks{p.block(0x401000, {2}, Terminator::cond, 0x401010),
                                      p.block(0x409000, {2}, Terminator::none)};
  PtEncoder e(quiet("tsc=0,mtc=0"));
  e.enter(kStart + 10, 0x401000);
  run_ids(e, blocks, {0, 1}, 0x409002, kStart + 10, kStart + 20);
  EXPECT_EQ(e.stats().mismatches, 1u);
  const Bytes got = tail_of(e);
  EXPECT_EQ(Bytes(got.begin() + 9, got.end()), (Bytes{0x02, 0xf3, 0x7d, 0x00, 0x90, 0x40, 0, 0, 0}));
}

}  // namespace
}  // namespace hindcast::sim
