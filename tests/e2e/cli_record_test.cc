// hindcast record with the simulated source, as a user types it, and the commands on what it wrote.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "tests/support/run_program.h"

namespace hindcast::test {
namespace {

using ::testing::HasSubstr;

const std::string kHindcast = std::string(HC_BIN_DIR) + "/hindcast";

/// Whether this build and machine can simulate; sanitizer builds have no plugin.
bool can_simulate() {
  return std::filesystem::exists(std::string(HC_BIN_DIR) + "/../lib/hindcast-sim.so") &&
         ::access("/usr/bin/qemu-x86_64", X_OK) == 0;
}

#define HC_REQUIRE_SIMULATOR() \
  if (!can_simulate()) GTEST_SKIP() << "needs qemu-x86_64 and the plugin hindcast-sim.so, which sanitizer builds lack"

std::vector<std::string> record(const std::string& file, std::vector<std::string> command) {
  command.insert(command.begin(), {kHindcast, "record", "--source", "simulated", "-o", file, "--"});
  return command;
}

TEST(CliRecord, TheProgramsExitCodeAndOutputArePassedOn) {
  HC_REQUIRE_SIMULATOR();
  TempFolder folder;
  const Ran ran = run_program(record(folder / "a.hcb", {"/bin/sh", "-c", "echo out; echo err >&2; exit 3"}));
  EXPECT_EQ(ran.code, 3) << ran.err;
  EXPECT_EQ(ran.out, "out\n");
  EXPECT_THAT(ran.err, HasSubstr("err\n"));
  EXPECT_THAT(ran.err, HasSubstr("a.hcb"));
}

TEST(CliRecord, ASimulatedRecordingIsLabelledAndEveryCommandWorksOnIt) {
  HC_REQUIRE_SIMULATOR();
  TempFolder folder;
  const std::string file = folder / "a.hcb";
  ASSERT_EQ(run_program(record(file, {"/bin/sh", "-c", "exit 0"})).code, 0);

  const Ran ls = run_program({kHindcast, "ls", file});
  EXPECT_EQ(ls.code, 0) << ls.err;
  EXPECT_THAT(ls.out, HasSubstr("simulated (packets made by a simulator, not by PT hardware)"));
  EXPECT_THAT(ls.out, HasSubstr("libc.so.6"));

  int tid = -1;
  for (const auto& o : run_program({kHindcast, "ls", "--json", file}).objects())
    if (o["type"] == "thread" && o["pt_bytes"].get<uint64_t>() > 0) tid = o["tid"].get<int>();
  ASSERT_GT(tid, 0);
  const std::string t = std::to_string(tid);
  const Ran show = run_program({kHindcast, "show", file, "-t", t});
  EXPECT_EQ(show.code, 0) << show.err;
  EXPECT_THAT(show.out, HasSubstr("_start"));
  EXPECT_THAT(show.out, HasSubstr("±"));
  const Ran calls = run_program({kHindcast, "calls", file, "-t", t});
  EXPECT_EQ(calls.code, 0) << calls.err;
  EXPECT_THAT(calls.out, HasSubstr(" {"));
  const Ran verify = run_program({kHindcast, "verify", file});
  EXPECT_EQ(verify.code, 0) << verify.out << verify.err;
  const Ran sideband = run_program({kHindcast, "dump", file, "--sideband"});
  EXPECT_THAT(sideband.out, HasSubstr("MMAP2"));
}

TEST(CliRecord, WithoutAPlaceToWriteItFailsBeforeTheProgramRuns) {
  HC_REQUIRE_SIMULATOR();
  const Ran ran = run_program(record("/nonexistent/a.hcb", {"/bin/sh", "-c", "echo ran"}));
  EXPECT_EQ(ran.code, 1);
  EXPECT_EQ(ran.out, "");
  EXPECT_THAT(ran.err, HasSubstr("/nonexistent"));
}

TEST(CliRecord, AnUnnamedRecordingNeverOverwritesAnother) {
  HC_REQUIRE_SIMULATOR();
  TempFolder folder;
  const std::string go = "cd " + folder.path() + " && " + kHindcast + " record --source simulated -- /bin/true";
  ASSERT_EQ(run_program({"/bin/sh", "-c", go}).code, 0);
  ASSERT_EQ(run_program({"/bin/sh", "-c", go}).code, 0);
  EXPECT_TRUE(std::filesystem::exists(folder / "hindcast.hcb"));
  EXPECT_TRUE(std::filesystem::exists(folder / "hindcast.1.hcb"));
}

}  // namespace
}  // namespace hindcast::test
