// Instruction numbers, counted between PSBs on any number of threads, and the places to begin at that come of them.
#include "decode/flow_index.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/support/flow_seek_check.h"
#include "tests/support/tiny_host.h"

namespace hindcast::decode {
namespace {

using test::PtBytes;

constexpr uint64_t kCode = 0x401000;
constexpr uint64_t kLoop = 6;  // instructions of a round

/// Four NOPs, DEC, JNZ back; behind it RET.
std::vector<uint8_t> loop_code() { return {0x90, 0x90, 0x90, 0x90, 0xff, 0xc9, 0x75, 0xf8, 0xc3}; }

struct Loop {
  PtBytes pt;
  uint64_t instructions = 0;
  std::vector<uint64_t> numbers;  // at each PSB: that of the instruction that its FUP names
};

/// PSBs at any instruction of the loop, as they come; tracing is off between some of them.
Loop loop_trace(int psbs, uint64_t seed) {
  std::mt19937_64 random(seed);
  Loop l;
  uint64_t inside = 0;  // instructions of this round that a PSB showed to have run
  for (int i = 0; i < psbs; ++i) {
    l.pt.psb().tsc(1000 + static_cast<uint64_t>(i) * 100);
    inside = i == 0 ? 0 : inside + random() % (kLoop - inside);
    l.pt.mode_exec().fup(kCode + (inside < 5 ? inside : 6)).psbend();
    l.numbers.push_back(l.instructions + inside);
    for (uint64_t bits = random() % 200; bits != 0; --bits) {
      l.pt.tnt("T");
      l.instructions += kLoop;
      inside = 0;
    }
    if (i + 1 == psbs || random() % 5 == 0) {
      l.pt.tnt("N").tip_pgd(0, 0);
      l.instructions += kLoop + 1;
      inside = 0;
      l.pt.psb().tsc(1050 + static_cast<uint64_t>(i) * 100).psbend().mode_exec().tip_pge(kCode);
      l.numbers.push_back(l.instructions);
    }
  }
  l.pt.tnt("N").tip_pgd(0, 0);
  l.instructions += kLoop + 1;
  return l;
}

struct LoopHost {
  explicit LoopHost(const Loop& l) {
    host.code(Pid(7), kCode, loop_code());
    host.snapshot.info.root_pids = {Pid(7)};
    stream = host.pt(CpuId(0), l.pt, Tid(7));
    trace = host.build();
  }
  std::unique_ptr<SeekableFlow> flow() const { return trace->stream_flow(stream).value(); }

  test::TinyHost host;
  uint32_t stream = 0;
  std::unique_ptr<HostTrace> trace;
};

TEST(FlowIndex, CountsTheSameOnAnyNumberOfThreads) {
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    const Loop l = loop_trace(seed == 1 ? 3 : 700, seed);
    for (const size_t threads : {1u, 2u, 5u}) {
      const LoopHost h(l);
      uint64_t done = 0, total = 0;
      const auto numbered = h.trace->number_instructions(threads, [&](uint64_t d, uint64_t t) {
        EXPECT_GE(d, done);
        done = d;
        total = t;
      });
      ASSERT_TRUE(numbered.ok()) << numbered.error().text();
      EXPECT_EQ(done, total);
      EXPECT_EQ(h.flow()->instructions(), l.instructions) << "seed " << seed << ", " << threads << " threads";
      size_t events = 0;
      EXPECT_EQ(test::seeking_differs([&] { return h.flow(); }, seed, 30, 1 << 20, events), "");
      EXPECT_GT(events, l.instructions / kLoop / 2);
    }
  }
}

TEST(FlowIndex, KnowsTheInstructionAtEachPsb) {
  const Loop l = loop_trace(200, 9);
  const LoopHost h(l);
  ASSERT_TRUE(h.trace->number_instructions(2, {}).ok());
  const auto flow = h.flow();
  for (const uint64_t n : l.numbers) {
    if (n == l.instructions) continue;
    ASSERT_TRUE(flow->seek_instruction(n));
    FlowEvent e;
    ASSERT_EQ(flow->next({&e, 1}), 1u);
    EXPECT_LE(e.number, n);
    EXPECT_LT(n - e.number, e.event.count);
  }
}

TEST(FlowIndex, WithoutItNothingHasANumberButWhatIsReadFromTheBeginning) {
  const Loop l = loop_trace(20, 5);
  const LoopHost h(l);
  const auto flow = h.flow();
  EXPECT_EQ(flow->instructions(), std::nullopt);
  EXPECT_FALSE(flow->seek_instruction(0));
  FlowEvent e;
  ASSERT_EQ(flow->next({&e, 1}), 1u);
  EXPECT_EQ(e.number, 0u);
  flow->seek_end();
  ASSERT_EQ(flow->previous({&e, 1}), 1u);
  EXPECT_EQ(e.number, kNoNumber);
}

}  // namespace
}  // namespace hindcast::decode
