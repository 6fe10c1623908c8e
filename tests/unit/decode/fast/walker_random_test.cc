// Stage 2 against programs that are made up and run by the test itself: it knows every block that ran.
#include <gtest/gtest.h>

#include <deque>
#include <random>
#include <string>

#include "decode/code_image.h"
#include "decode/fast/walker.h"
#include "tests/support/pt_bytes.h"
#include "tests/support/tiny_program.h"

namespace hindcast::decode {
namespace {

constexpr uint64_t kBase = test::kTinyBase;

/// Blocks of machine code, one behind the other, each a few NOPs and a branch.
struct Program {
  enum class Ends : uint8_t { branch, jump, call, ret, indirect_jump, indirect_call };
  struct Unit {
    uint64_t ip = 0, behind = 0;
    Ends ends = Ends::ret;
    size_t to = 0;  // of direct ones
    double taken = 0;
  };
  std::vector<Unit> units;
  std::vector<uint8_t> code;

  Program(std::mt19937& random, size_t n) {
    units.resize(n);
    const auto at_most = [&random](size_t most) { return std::uniform_int_distribution<size_t>(0, most)(random); };
    std::vector<size_t> patches;
    for (size_t i = 0; i < n; ++i) {
      Unit& u = units[i];
      u.ip = kBase + code.size();
      u.ends = i + 1 == n ? Ends::ret : static_cast<Ends>(std::array{0, 0, 0, 0, 0, 1, 2, 2, 3, 3, 4, 5}[at_most(11)]);
      u.to = at_most(n - 1);
      u.taken = std::array{0.03, 0.5, 0.97}[at_most(2)];
      code.insert(code.end(), at_most(4), 0x90);
      switch (u.ends) {
        case Ends::branch:
          code.insert(code.end(), {0x0f, 0x85});
          break;
        case Ends::jump:
          code.push_back(0xe9);
          break;
        case Ends::call:
          code.push_back(0xe8);
          break;
        case Ends::ret:
          code.push_back(0xc3);
          break;
        case Ends::indirect_jump:
          code.insert(code.end(), {0xff, 0xe0});
          break;
        case Ends::indirect_call:
          code.insert(code.end(), {0xff, 0xd0});
          break;
      }
      if (u.ends <= Ends::call) {
        patches.push_back(i);
        code.insert(code.end(), 4, 0);
      }
      u.behind = kBase + code.size();
    }
    for (const size_t i : patches) {
      const auto distance = static_cast<uint32_t>(units[units[i].to].ip - units[i].behind);
      const size_t place = units[i].behind - kBase - 4;
      for (size_t b = 0; b < 4; ++b) code[place + b] = static_cast<uint8_t>(distance >> 8 * b);
    }
  }
};

/// A CPU that runs it and traces.
struct Cpu {
  test::PtBytes trace;
  std::vector<uint64_t> ran;  // up to the last branch that used trace
  bool circles = false;       // it went round without using any

  Cpu(const Program& p, std::mt19937& random, bool ret_compression, size_t branches) {
    const auto chance = [&random](double part) { return std::uniform_real_distribution<>(0, 1)(random) < part; };
    std::string bits;
    std::vector<uint64_t> held;  // deferred TIPs: bits of what came behind them go first
    const auto flush = [&] {
      if (!bits.empty()) trace.tnt(bits);
      bits.clear();
      for (const uint64_t ip : held) trace.tip(ip);
      held.clear();
    };
    const auto bit = [&](bool one) {
      bits += one ? 'T' : 'N';
      if (bits.size() == 6) flush();
      --branches;
    };
    const auto tip = [&](size_t unit) {
      // With RET compression a RET must be told from one with a bit, so nothing may be deferred.
      if (ret_compression || chance(0.5) || bits.empty())
        flush(), trace.tip(p.units[unit].ip);
      else
        held.push_back(p.units[unit].ip);
      --branches;
    };
    std::deque<size_t> calls;      // all of them
    std::deque<size_t> processor;  // those that the CPU remembers
    size_t at = 0, used = 0;
    const auto call = [&](size_t back) {
      calls.push_back(back);
      processor.push_back(back);
      if (processor.size() > 64) processor.pop_front();
    };
    while (branches > 0) {
      const Program::Unit& u = p.units[at];
      ran.push_back(u.ip);
      const size_t before = branches;
      switch (u.ends) {
        case Program::Ends::branch: {
          const bool taken = chance(u.taken);
          bit(taken);
          at = taken ? u.to : at + 1;
          break;
        }
        case Program::Ends::call:
          if (p.units[u.to].ip != u.behind) call(at + 1);
          [[fallthrough]];
        case Program::Ends::jump:
          at = u.to;
          break;
        case Program::Ends::indirect_call:
          call(at + 1);
          [[fallthrough]];
        case Program::Ends::indirect_jump:
          at = std::uniform_int_distribution<size_t>(0, p.units.size() - 1)(random);
          tip(at);
          break;
        case Program::Ends::ret: {
          const bool knows = !processor.empty();
          at = calls.empty() ? std::uniform_int_distribution<size_t>(0, p.units.size() - 1)(random) : calls.back();
          if (!calls.empty()) calls.pop_back();
          if (knows) processor.pop_back();
          if (knows && ret_compression)
            bit(true);
          else
            tip(at);
          break;
        }
      }
      if (branches < before) used = ran.size();
      if (ran.size() - used > 2 * p.units.size() + 2) {
        circles = true;
        break;
      }
    }
    flush();
    ran.resize(used);
  }
};

std::vector<uint64_t> walk(BlockGraph& graph, RunMemo& memo, const test::PtBytes& t, bool ret_compression,
                           size_t room) {
  LaneLexer lexer(t.bytes(), 0, t.size(), kBase);
  Lanes lanes;
  Walk w;
  w.at = graph.at(kBase);
  ReturnStack stack;
  std::vector<uint64_t> blocks;
  std::vector<BlockId> out(room), targets;
  while (lexer.stop() == LaneLexer::Stop::full) {
    const uint32_t whole = w.bit / 8 * 8;
    lexer.more(lanes, w.bit, w.tip);
    w.bit -= whole;
    w.tip = 0;
    targets.clear();
    for (size_t i = 0; i < lanes.tips; ++i) targets.push_back(graph.at(lanes.tip[i]));
    targets.push_back(kNoBlock);
    WalkStop why;
    do {
      size_t n = 0;
      why = walk_blocks(graph, memo, lanes, targets, ret_compression, w, stack, out, n);
      for (size_t i = 0; i < n; ++i)
        for (uint32_t b = index_of(out[i]); b != 0; b = graph.block(b).onward) blocks.push_back(graph.block(b).ip);
    } while (why == WalkStop::out_full);
    EXPECT_TRUE(why == WalkStop::used_all || why == WalkStop::wants_tip) << static_cast<int>(why);
  }
  EXPECT_TRUE(w.used_all(lanes));
  return blocks;
}

class RandomProgram : public testing::TestWithParam<bool> {};

TEST_P(RandomProgram, EveryBlockInOrder) {
  const bool ret_compression = GetParam();
  RunMemo memo;  // of several programs: what it knows of one must not be taken for another's
  size_t programs = 0;
  for (unsigned seed = 1; seed <= 300; ++seed) {
    if (seed % 8 == 0) memo = RunMemo();  // a new one does not rest yet
    std::mt19937 random(seed);
    const Program p(random, 2 + seed % 60);
    BlockGraph graph(std::make_shared<SectionImage>(std::vector<CodeSection>{{Ip(kBase), {nullptr, p.code}, 1, 0}}),
                     64);
    for (int run = 0; run < 3; ++run) {
      const Cpu cpu(p, random, ret_compression, run == 2 ? 40000 : 700);
      if (cpu.circles) break;
      ++programs;
      for (const size_t room : {size_t{1}, size_t{9}, size_t{1000}})
        ASSERT_EQ(walk(graph, memo, cpu.trace, ret_compression, room), cpu.ran) << "seed " << seed << " run " << run;
    }
  }
  EXPECT_GT(programs, 300u);
}

INSTANTIATE_TEST_SUITE_P(, RandomProgram, testing::Bool(),
                         [](const auto& p) { return p.param ? "RetCompression" : "NoRetCompression"; });

}  // namespace
}  // namespace hindcast::decode
