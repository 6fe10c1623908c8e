// A window that is taken again and again while it goes on, on the real kernel with a source that needs no PT.
#include "capture/window.h"

#include <algorithm>
#include <csignal>
#include <optional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "capture/record_builder.h"
#include "tests/support/start_window.h"
#include "tests/unit/capture/fake_source.h"
#include "tests/unit/capture/scratch.h"

namespace hindcast::capture {
namespace {

class WindowTest : public ::testing::Test {
 protected:
  void SetUp() override {
    SidebandProbe probe;
    if (const auto r = probe.usable(); !r) GTEST_SKIP() << r.error().text();
  }
  void TearDown() override {
    if (!window_ || window_->child().poll_end()) return;
    window_->child().send(SIGKILL);
    while (!window_->child().poll_end()) ::usleep(1000);
  }
  void start(const std::string& script) {
    WindowConfig config;
    config.command = {"/bin/sh", "-c", script};
    config.ring_bytes = 1 << 20;
    window_.emplace(source_, kernel_perf_calls(), config, [](const std::string&) {});
    test::start_window(*window_);
  }
  Frozen snapshot() {
    EXPECT_TRUE(window_->start_snapshot().ok());
    const auto end = Window::Clock::now() + std::chrono::seconds(30);
    while (Window::Clock::now() < end) {
      EXPECT_TRUE(window_->step({}).ok());
      auto taken = window_->take_snapshot();
      EXPECT_TRUE(taken.ok());
      if (taken.ok() && *taken) return std::move(**taken);
    }
    ADD_FAILURE() << "no snapshot after 30 s";
    return {};
  }
  static uint64_t execs(const Frozen& f) {
    uint64_t n = 0;
    for (const Cut& c : f.cuts) {
      if (c.info.kind != StreamKind::sideband) continue;
      perf::RecordReader reader(c.bytes);
      perf::Record r;
      while (reader.next(r)) {
        if (r.type != perf::kComm || !(r.misc & perf::kMiscCommExec)) continue;
        // Names are kept of everybody on the machine.
        const Pid pid(ByteReader(r.body).read<int32_t>());
        n += std::count(f.info.root_pids.begin(), f.info.root_pids.end(), pid) != 0;
      }
      EXPECT_FALSE(reader.malformed());
    }
    return n;
  }

  FakeSource source_{"simulated"};
  std::optional<Window> window_;
};

TEST_F(WindowTest, EachSnapshotHoldsAllSinceTheStartAndTheWindowGoesOn) {
  // Each STOP waits for the test, so that what is in which snapshot does not depend on who is how fast.
  start("kill -STOP $$; /bin/true; kill -STOP $$; /bin/true; exit 0");
  const auto wait_until_stopped = [&] {
    siginfo_t end{};
    ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(window_->child().pid().value()), &end, WSTOPPED), 0);
    ASSERT_EQ(end.si_code, CLD_STOPPED);
  };
  wait_until_stopped();
  const Frozen first = snapshot();
  window_->child().send(SIGCONT);
  wait_until_stopped();
  const Frozen second = snapshot();
  EXPECT_EQ(source_.snapshots, 2u);
  EXPECT_EQ(execs(first), 1u);  // the shell
  EXPECT_EQ(execs(second), 2u);
  EXPECT_EQ(first.info.traced.earliest, second.info.traced.earliest);
  EXPECT_LT(first.info.traced.latest, second.info.traced.latest);
  EXPECT_LE(first.info.traced.earliest, first.info.traced.latest);
  EXPECT_EQ(first.info.command, second.info.command);
  EXPECT_GT(second.info.root_pids.size(), first.info.root_pids.size());
  window_->child().send(SIGCONT);
  while (!window_->child().poll_end()) ASSERT_TRUE(window_->step({}).ok());
  const auto last = window_->finish();
  ASSERT_TRUE(last.ok()) << last.error().text();
  EXPECT_EQ(execs(*last), 3u);
}

TEST_F(WindowTest, ASnapshotMustBeAskedFor) {
  start("exit 0");
  EXPECT_FALSE(window_->take_snapshot().ok());
}

}  // namespace
}  // namespace hindcast::capture
