// The simulated source as the recorder drives it: QEMU, its plugin and the source's own thread all at work. This is what
// ThreadSanitizer watches.
#include "capture/sim/sim_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "capture/recorder.h"
#include "tests/support/sim_run.h"
#include "tests/unit/capture/scratch.h"
#include "transport/bundle_reader.h"

namespace hindcast::capture {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;

TEST(SimRecord, AThreadedProgramLeavesPtOfItsCpus) {
  HC_REQUIRE_PLUGIN();
  if (const auto usable = SidebandProbe().usable(); !usable) GTEST_SKIP() << usable.error().text();
  Scratch scratch;
  sim::SimConfig sim;
  sim.plugin = test::plugin_path();
  RecordConfig config;
  config.output = scratch.path("out.hcb");
  config.window.command = {test::test_program("threads"), "4", "3"};
  config.window.ring_bytes = 64 << 20;
  const auto source = sim::make_sim_source(sim);
  const auto recorded = record_command(*source, kernel_perf_calls(), config, [](const std::string&) {});
  ASSERT_TRUE(recorded.ok()) << recorded.error().text();
  EXPECT_TRUE(recorded->command_ended);
  EXPECT_EQ(recorded->command.shell_status(), 0);

  const auto reader = transport::BundleReader::open(config.output);
  ASSERT_TRUE(reader.ok()) << reader.error().text();
  EXPECT_TRUE(reader->scrub().empty());
  const SnapshotInfo info = reader->snapshot(0);
  uint64_t pt = 0;
  for (const StreamInfo& s : info.streams)
    if (s.kind == StreamKind::pt) pt += s.bytes;
  EXPECT_GT(pt, 20'000u) << "five threads, over a million instructions";
  EXPECT_EQ(info.root_pids.size(), 1u);
  EXPECT_THAT(info.notes, Not(Contains(HasSubstr("no program ever connected"))));
  EXPECT_THAT(info.notes, Not(Contains(HasSubstr("break the channel's rules"))));
}

TEST(SimRecord, ProcessesThatForkAndExecAreAllHeard) {
  HC_REQUIRE_PLUGIN();
  if (const auto usable = SidebandProbe().usable(); !usable) GTEST_SKIP() << usable.error().text();
  Scratch scratch;
  sim::SimConfig sim;
  sim.plugin = test::plugin_path();
  RecordConfig config;
  config.output = scratch.path("out.hcb");
  config.window.command = {"/bin/sh", "-c", "/bin/true; /bin/true & wait; exit 3"};
  config.window.ring_bytes = 64 << 20;
  const auto source = sim::make_sim_source(sim);
  const auto recorded = record_command(*source, kernel_perf_calls(), config, [](const std::string&) {});
  ASSERT_TRUE(recorded.ok()) << recorded.error().text();
  EXPECT_EQ(recorded->command.shell_status(), 3);
  const auto reader = transport::BundleReader::open(config.output);
  ASSERT_TRUE(reader.ok()) << reader.error().text();
  EXPECT_EQ(reader->snapshot(0).root_pids.size(), 3u);
  EXPECT_THAT(reader->snapshot(0).notes, Not(Contains(HasSubstr("break the channel's rules"))));
}

}  // namespace
}  // namespace hindcast::capture
