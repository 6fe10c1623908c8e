// hindcast record with the simulated source, as a user types it, and the commands on what it wrote.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <map>

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

TEST(CliRecord, WaitsTellWhoPassedWhatToWhom) {
  HC_REQUIRE_SIMULATOR();
  TempFolder folder;
  const std::string file = folder / "a.hcb";
  const Ran ran = run_program({kHindcast, "record", "--source", "simulated", "--waits", "on", "-o", file, "--",
                               "/bin/sh", "-c", "echo hello | cat; exit 3"});
  if (ran.err.find("cannot record waits") != std::string::npos) GTEST_SKIP() << ran.err;
  ASSERT_EQ(ran.code, 3) << ran.err;
  EXPECT_THAT(ran.err, HasSubstr("  waits  "));
  const Ran waits = run_program({kHindcast, "waits", "--json", file});
  ASSERT_EQ(waits.code, 0) << waits.err;
  std::map<uint64_t, int> sent_by, received_by;  // by pipe; what cat writes goes to the test
  uint64_t narrow = 0, all = 0;
  bool exit_seen = false;
  for (const auto& o : waits.objects()) {
    ASSERT_EQ(o["type"], "wait");
    ++all;
    if (!o["tsc"][0].is_null() && !o["tsc"][1].is_null())
      narrow += o["tsc"][1].get<uint64_t>() - o["tsc"][0].get<uint64_t>() < 100000;
    if (o["kind"] == "exit") exit_seen = exit_seen || o["status"] == 3 << 8;
    if (o["kind"] != "message" || o["result"] != 6) continue;
    (o["action"] == "send" ? sent_by : received_by)[o["on"]["id"].get<uint64_t>()] = o["tid"].get<int>();
  }
  EXPECT_TRUE(exit_seen);
  ASSERT_EQ(received_by.size(), 1u);
  const auto [pipe, reader] = *received_by.begin();
  ASSERT_TRUE(sent_by.contains(pipe)) << "one pipe";
  EXPECT_NE(sent_by[pipe], reader);
  EXPECT_GT(narrow, all / 2);
  const Ran of_one = run_program({kHindcast, "waits", file, "-t", std::to_string(reader)});
  EXPECT_THAT(of_one.out, HasSubstr("receives 6 bytes, pipe " + std::to_string(pipe)));

  ASSERT_EQ(
      run_program({kHindcast, "record", "--source", "simulated", "--waits", "off", "-o", file, "--", "/bin/true"}).code,
      0);
  const Ran none = run_program({kHindcast, "waits", file});
  EXPECT_EQ(none.code, 1);
  EXPECT_THAT(none.err, HasSubstr("--waits on"));
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
