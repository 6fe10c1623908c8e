// Records real programs under the simulated source and compares every thread, instruction by instruction, with the
// plugin's own record of what ran. A slice of the (program, PT options) table runs by default; HINDCAST_LONG=1 runs it all.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "tests/e2e/truth_verdict.h"
#include "tests/support/background.h"

namespace hindcast::test {
namespace {

namespace fs = std::filesystem;

Verdict verify(const Recording& r) { return verify_with_truth(r.bundle, r.truth); }

struct Program {
  std::string name;
  std::vector<std::string> command;
  uint64_t at_least = 0;  // instructions over all threads
  uint64_t threads = 1;
};

/// A text that gzip, cc1 and python3 can chew on, made here so that nothing depends on the machine's files.
std::string make_c_source(const std::string& folder, int functions) {
  const std::string path = folder + "/input" + std::to_string(functions) + ".c";
  std::ofstream out(path);
  for (int i = 0; i < functions; ++i) {
    const std::string n = std::to_string(i);
    out << "struct s" << n << " { int a[" << i + 1 << "]; struct s" << n << " *next; };\n"
        << "static int f" << n << "(struct s" << n << " *p, int k) {\n"
        << "  int sum = 0;\n  for (int i = 0; i < " << i + 1 << "; ++i) {\n    if (p->a[i] % 3 == k) sum += p->a[i] * "
        << i + 7 << ";\n    else if (sum > " << i * 11 << ") sum ^= p->a[i];\n  }\n"
        << "  return p->next ? sum + f" << n << "(p->next, k + 1) : sum;\n}\n"
        << "int g" << n << "(void *p, int k) { return f" << n << "(p, k); }\n";
  }
  return path;
}

std::string compiler_proper() {
  const Ran f = run_program({"/usr/bin/gcc", "-print-prog-name=cc1"});
  return f.out.substr(0, f.out.find('\n'));
}

std::vector<Program> programs(const std::string& scratch) {
  const std::string source = make_c_source(scratch, 400), small_source = make_c_source(scratch, 1);
  const std::string big = scratch + "/big.txt";
  {
    std::ofstream out(big);
    for (int i = 0; i < 4; ++i) out << std::ifstream(source).rdbuf();
  }
  return {
      {"cpu_bound", {test_program("cpu_bound"), "3"}, 5000000, 1},
      {"threads_on_one_cpu", {test_program("threads"), "5", "2", "one_cpu"}, 1000000, 6},
      {"threads", {test_program("threads"), "4", "2"}, 1000000, 5},
      {"signals", {test_program("signals")}, 100000, 1},
      {"forkexec", {test_program("forkexec")}, 100000, 4},
      {"gzip", {"gzip", "-9", "-c", big}, 50000000, 1},
      {"python3",
       {"/usr/bin/python3", "-S", "-c",
        "d={}\nfor i in range(10000): d[str(i%997)]=d.get(str(i%997),0)+i*i\nprint(len(d))"},
       50000000,
       1},
      {"cc1", {compiler_proper(), "-quiet", "-O2", small_source, "-o", scratch + "/out.s"}, 50000000, 1},
  };
}

const char* const kPtOptions[] = {
    "tsc,mtc,mtc_period=3,cyc=0",
    "tsc,mtc,mtc_period=3,cyc",
    "tsc,mtc,mtc_period=3,cyc,noretcomp",
    "tsc,mtc,mtc_period=3,cyc=0,noretcomp",
};

/// (program, option set) as one number, so that the names of tests are known before anything is made.
class EveryInstruction : public ::testing::TestWithParam<std::tuple<int, int>> {};

constexpr const char* kProgramNames[] = {
    "cpu_bound", "threads_on_one_cpu", "threads", "signals", "forkexec", "gzip", "python3", "cc1"};
constexpr const char* kOptionNames[] = {"retcomp", "retcomp_cyc", "noretcomp_cyc", "noretcomp"};

void expect_equal(const Recording& r, const Verdict& v, const Program& p) {
  ASSERT_EQ(r.record.code, 0) << r.record.err;
  EXPECT_EQ(v.status, 0) << v.text << r.record.err;
  EXPECT_EQ(v.different, 0u) << v.text;
  EXPECT_EQ(v.decoded, v.truth);
  EXPECT_EQ(v.misplaced, 0u) << v.text;
  EXPECT_GT(v.timed, 0u);
  EXPECT_EQ(v.not_decoded, 0u);
  EXPECT_EQ(v.gaps, 0u);
  EXPECT_GE(v.truth, p.at_least);
  EXPECT_GE(v.threads, p.threads);
}

TEST_P(EveryInstruction, EqualsTheTruth) {
  HC_REQUIRE_PLUGIN();
  const auto [program, options] = GetParam();
  if (!long_run() && program > 1 && program % 4 != options)
    GTEST_SKIP() << "one option set for each program; HINDCAST_LONG=1 runs all";
  Recording r;
  const Program p = programs(r.folder.path()).at(static_cast<size_t>(program));
  r.run(kPtOptions[options], {"--ring", "256M"}, p.command);
  expect_equal(r, verify(r), p);
}

INSTANTIATE_TEST_SUITE_P(Programs, EveryInstruction, ::testing::Combine(::testing::Range(0, 8), ::testing::Range(0, 4)),
                         [](const auto& info) {
                           return std::string(kProgramNames[std::get<0>(info.param)]) + "_" +
                                  kOptionNames[std::get<1>(info.param)];
                         });

class RedisServer : public ::testing::TestWithParam<int> {};

TEST_P(RedisServer, ThatAnswersARealClientEqualsTheTruth) {
  HC_REQUIRE_PLUGIN();
  if (!long_run() && GetParam() != 1) GTEST_SKIP() << "one option set; HINDCAST_LONG=1 runs all";
  Recording r;
  const std::string port = std::to_string(20000 + ::getpid() % 20000), socket = r.folder.path() + "/redis.sock";
  Background server(r.command_line(kPtOptions[GetParam()], {"--ring", "256M"},
                                   {"/usr/bin/redis-server", "--port", "0", "--unixsocket", socket, "--save", "",
                                    "--appendonly", "no", "--daemonize", "no"}));
  bool up = false;
  for (int i = 0; i < 300 && !up && server.running(); ++i) {
    up = run_program({"/usr/bin/redis-cli", "-s", socket, "ping"}).out == "PONG\n";
    if (!up) ::usleep(50000);
  }
  ASSERT_TRUE(up);
  const Ran load = run_program(
      {"/usr/bin/redis-benchmark", "-s", socket, "-q", "-c", "4", "-n", "1500", "-t", "set,get,lpush,lrange_100,zadd"});
  EXPECT_EQ(load.code, 0) << load.err;
  run_program({"/usr/bin/redis-cli", "-s", socket, "shutdown", "nosave"});
  r.record.code = server.wait(300);
  expect_equal(r, verify(r), Program{"redis-server", {}, 50000000, 4});
}

INSTANTIATE_TEST_SUITE_P(Options, RedisServer, ::testing::Range(0, 4),
                         [](const auto& info) { return std::string(kOptionNames[info.param]); });

/// What is lost must be a gap, and everything outside gaps must still equal the truth.
void expect_equal_outside_gaps(const Recording& r, const Verdict& v) {
  ASSERT_EQ(r.record.code, 0) << r.record.err;
  EXPECT_EQ(v.different, 0u) << v.text;
  EXPECT_GT(v.gaps, 0u);
  EXPECT_GT(v.not_decoded, 0u);
  EXPECT_GT(v.decoded, 0u);
  EXPECT_EQ(v.decoded + v.not_decoded, v.truth);
}

TEST(LossIsAGap, WhenTheRingWrapped) {
  HC_REQUIRE_PLUGIN();
  Recording r;
  // Smaller than what the program leaves, but not so small that the time packets of other work behind its end fill it.
  r.run(kPtOptions[1], {"--ring", "2M"}, programs(r.folder.path())[2].command);
  const Verdict v = verify(r);
  expect_equal_outside_gaps(r, v);
}

TEST(LossIsAGap, WhenOverflowsAreInjected) {
  HC_REQUIRE_PLUGIN();
  Recording r;
  r.run(kPtOptions[0], {"--ring", "256M", "--sim", "seed=7,ovf=0.0005"}, programs(r.folder.path())[2].command);
  const Verdict v = verify(r);
  expect_equal_outside_gaps(r, v);
}

TEST(LossIsAGap, WhenContextSwitchRecordsAreLost) {
  HC_REQUIRE_PLUGIN();
  Recording r;
  r.run(kPtOptions[1], {"--ring", "256M", "--sideband-ring", "8K"}, programs(r.folder.path())[1].command);
  const Verdict v = verify(r);
  ASSERT_EQ(r.record.code, 0) << r.record.err;
  EXPECT_EQ(v.different, 0u) << v.text;
  EXPECT_GT(v.decoded, 0u);
  EXPECT_EQ(v.decoded + v.not_decoded, v.truth);
}

/// Older switches are gone, older records of processes are folded or older than the switches that are left: who ran before
/// that is unknown, and all code is that of the program which ran.
TEST(LossIsAGap, WhenTheSidebandWindowIsShorterThanTheTrace) {
  HC_REQUIRE_PLUGIN();
  Recording r;
  const std::string execs = test_program("forkexec"), switches = test_program("threads") + " 5 2 one_cpu";
  r.run(kPtOptions[1], {"--ring", "256M", "--sideband-window", "32K"},
        {"/bin/sh", "-c", execs + "; " + switches + " & " + execs + "; " + switches + "; wait"});
  const Verdict v = verify(r);
  ASSERT_EQ(r.record.code, 0) << r.record.err;
  EXPECT_EQ(v.different, 0u) << v.text;
  EXPECT_GT(v.decoded, 0u);
  EXPECT_EQ(v.decoded + v.not_decoded, v.truth);
}

}  // namespace
}  // namespace hindcast::test
