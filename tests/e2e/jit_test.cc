// Programs that make their code at run time, recorded under the simulated source: what they ran is decoded over every change of
// it, and equals the truth.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/e2e/truth_verdict.h"

namespace hindcast::test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kPt = "tsc,mtc,mtc_period=3,cyc=0";
/// Where gaps are to be expected: a compressed return whose call a gap hides does not decode, and would be a gap of its own.
constexpr const char* kPtOfGaps = "tsc,mtc,mtc_period=3,cyc=0,noretcomp";

/// Everything outside of gaps equals the truth, and no gap has a cause but that code changed in the middle of a stretch.
Verdict expect_equal(const Recording& r) {
  EXPECT_EQ(r.record.code, 0) << r.record.err;
  const Verdict v = verify_with_truth(r.bundle, r.truth);
  EXPECT_EQ(v.different, 0u) << v.text;
  EXPECT_EQ(v.misplaced, 0u) << v.text;
  EXPECT_EQ(v.decoded + v.not_decoded, v.truth);
  for (const auto& [cause, n] : v.gap_causes) EXPECT_EQ(cause, "code_version_unknown") << n;
  return v;
}

struct Case {
  const char* name;
  const char* memory;
  const char* threads;
  bool dump;
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

class RewrittenCode : public ::testing::TestWithParam<Case> {};

TEST_P(RewrittenCode, EqualsTheTruth) {
  HC_REQUIRE_PLUGIN();
  const Case& c = GetParam();
  Recording r;
  std::vector<std::string> command{test_program("rewrite"), c.memory, c.threads, "20"};
  if (c.dump) command.push_back(r.folder.path());
  r.run(std::string(c.memory) == "open" ? kPtOfGaps : kPt, {"--ring", "64M"}, command);
  const Verdict v = expect_equal(r);
  EXPECT_GT(v.truth, 200000u);
  if (std::string(c.memory) == "sealed") {
    EXPECT_EQ(v.gaps, 0u) << v.text;
  }
  EXPECT_LT(v.not_decoded, v.truth / 4);

  const std::string ls = run_program({bin("hindcast"), "ls", r.bundle}).out;
  std::string calls;
  for (const nlohmann::json& j : run_program({bin("hindcast"), "ls", "--json", r.bundle}).objects())
    if (j["type"] == "thread" && j["pt_bytes"].get<uint64_t>() > 0)
      calls += run_program({bin("hindcast"), "calls", r.bundle, "-t", std::to_string(j["tid"].get<int>())}).out;
  if (c.dump) {
    for (const char* name : {"made_in_round_3", "made_in_round_18", "steady_function"})
      EXPECT_THAT(calls, HasSubstr(name));
    EXPECT_THAT(ls, HasSubstr("jitdump"));
    EXPECT_THAT(ls, HasSubstr("perf map"));
  } else {
    EXPECT_THAT(ls, Not(HasSubstr("jitdump")));
  }
}

INSTANTIATE_TEST_SUITE_P(Programs, RewrittenCode,
                         ::testing::Values(Case{"sealed", "sealed", "1", false}, Case{"open", "open", "1", false},
                                           Case{"sealed_in_two_threads", "sealed", "2", false},
                                           Case{"open_in_two_threads", "open", "2", false},
                                           Case{"sealed_with_a_jitdump", "sealed", "2", true},
                                           Case{"open_with_a_jitdump", "open", "1", true}),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(Jit, CodeThatReplacesItselfEqualsTheTruth) {
  HC_REQUIRE_PLUGIN();
  Recording r;
  r.run(kPtOfGaps, {"--ring", "64M"}, {test_program("jit"), "300"});
  expect_equal(r);
}

TEST(Jit, LuajitOverRecompilationEqualsTheTruth) {
  HC_REQUIRE_PLUGIN();
  if (!std::filesystem::exists("/usr/bin/luajit")) GTEST_SKIP() << "luajit is not installed (scripts/packages)";
  Recording r;
  const std::string script = r.folder.path() + "/work.lua";
  // Loops that become traces one after the other, leave them by side exits, and are thrown away and made anew.
  std::ofstream(script) << R"(
    local function work(n, k)
      local t, s = {}, 0
      for i = 1, n do
        local x = (i * k) % 17
        if x == 3 then s = s + #tostring(i) elseif x % 2 == 0 then s = s + x * 1.5 else t[#t + 1] = x end
      end
      for i = 1, #t do s = s + t[i] end
      return s
    end
    local sum = 0
    for round = 1, 6 do
      sum = sum + work(3000, round) + work(2000, round * 7)
      if round % 2 == 0 then require("jit").flush() end
    end
    print(sum)
  )";
  r.run(kPt, {"--ring", "256M"}, {"/usr/bin/luajit", script});
  const Verdict v = expect_equal(r);
  EXPECT_GT(v.truth, 3000000u);
  EXPECT_LT(v.not_decoded, v.truth / 10);
}

}  // namespace
}  // namespace hindcast::test
