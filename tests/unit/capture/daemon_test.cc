// The daemon in this process, with a source that needs no PT and a receiver on loopback.
#include "capture/daemon.h"

#include <atomic>
#include <csignal>
#include <future>

#include <gtest/gtest.h>
#include <unistd.h>

#include "tests/support/run_program.h"
#include "tests/support/ship_kit.h"
#include "tests/unit/capture/fake_source.h"
#include "tests/unit/capture/scratch.h"
#include "tests/unit/transport/ship_fixture.h"
#include "transport/bundle_reader.h"

namespace hindcast::capture {
namespace {

using test::wait_for;

class RunDaemon : public transport::Ship {
 protected:
  void SetUp() override {
    SidebandProbe probe;
    if (const auto r = probe.usable(); !r) GTEST_SKIP() << r.error().text();
    // SIGTERM is for the daemon's signalfd, and for no other thread.
    sigemptyset(&term_);
    sigaddset(&term_, SIGTERM);
    ::pthread_sigmask(SIG_BLOCK, &term_, &before_);
    config_ = std::make_unique<DaemonConfig>();
    config_->sender = config("h");
    start_server();
    config_->sender.endpoint = endpoint_;
    config_->spool.folder = folder_ / "spool";
    config_->window.ring_bytes = 1 << 20;
    config_->cooldown = std::chrono::seconds(0);
  }
  void TearDown() override {
    if (ended_.valid()) transport::must_do(stop());
    ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  void start(const std::string& script) {
    config_->window.command = {"/bin/sh", "-c", script};
    ended_ = std::async(std::launch::async, [this] {
      ::pthread_sigmask(SIG_UNBLOCK, &term_, nullptr);  // what the command gets; the daemon itself blocks it first
      return run_daemon(source_, kernel_perf_calls(), *config_, [this](const std::string& s) {
        std::lock_guard lock(mutex_);
        said_ += s + "\n";
      });
    });
    EXPECT_TRUE(wait_for([this] { return said("armed: "); }, 30)) << said_;
  }
  Result<void> stop() {
    if (ended_.wait_for(std::chrono::seconds(0)) != std::future_status::ready) ::kill(::getpid(), SIGTERM);
    return ended_.get();
  }
  bool said(const std::string& words) {
    std::lock_guard lock(mutex_);
    return said_.find(words) != std::string::npos;
  }
  bool logged(const std::string& line) {
    const auto all = log();
    return std::find(all.begin(), all.end(), line) != all.end();
  }

  FakeSource source_{"simulated"};
  std::unique_ptr<DaemonConfig> config_;
  std::future<Result<void>> ended_;
  std::string said_;
  sigset_t term_, before_;
};

TEST_F(RunDaemon, OrdersAreFrozenDurableAndCommittedInTurn) {
  start("exec sleep 60");
  for (const char* id : {"a", "b", "c"}) transport::must_do(receiver_->freeze("h", id, "why " + std::string(id)));
  for (const std::string id : {"a", "b", "c"}) {
    EXPECT_TRUE(wait_for([&] { return commits("h/" + id) == 1; }, 60)) << said_;
    EXPECT_TRUE(logged("durable h " + id));
    const auto reader = transport::must(transport::BundleReader::open(stored("h", id)));
    EXPECT_TRUE(reader.scrub().empty());
    EXPECT_EQ(reader.snapshot(0).incident, id);
    EXPECT_EQ(reader.snapshot(0).host, "h");
    const auto& notes = reader.snapshot(0).notes;
    EXPECT_NE(std::find(notes.begin(), notes.end(), "frozen because: why " + id), notes.end());
  }
  EXPECT_EQ(source_.snapshots, 3u);
  EXPECT_TRUE(wait_for([&] { return said("incident c committed by the server"); }, 30)) << said_;  // it was told, too
  const auto end = stop();
  EXPECT_TRUE(end.ok()) << end.error().text();
  EXPECT_TRUE(said("stopped; 0 snapshots wait in the spool"));
}

TEST_F(RunDaemon, AnOrderThatCameLateSaysSo) {
  start("exec sleep 60");
  transport::must_do(receiver_->freeze("h", "old", "yesterday", std::chrono::hours(24)));
  ASSERT_TRUE(wait_for([&] { return commits("h/old") == 1; }, 60)) << said_;
  const auto notes = transport::must(transport::BundleReader::open(stored("h", "old"))).snapshot(0).notes;
  EXPECT_TRUE(std::any_of(notes.begin(), notes.end(), [](const std::string& n) {
    return n.starts_with("this freeze came 864") && n.find(" s after it was ordered") != n.npos;
  }));
}

TEST_F(RunDaemon, ASpoolThatTakesNothingIsAFailedFreezeAndTheWindowGoesOn) {
  config_->spool.limit_bytes = 1000;
  start("exec sleep 60");
  transport::must_do(receiver_->freeze("h", "a", "r"));
  transport::must_do(receiver_->freeze("h", "b", "r"));
  const auto failed = [&](const std::string& id) {
    for (const std::string& line : log())
      if (line.starts_with("failed h " + id + " ")) return true;
    return false;
  };
  EXPECT_TRUE(wait_for([&] { return failed("a") && failed("b"); }, 60)) << said_;
  EXPECT_EQ(commits("h/a") + commits("h/b"), 0u);
  EXPECT_TRUE(stop().ok());
}

TEST_F(RunDaemon, ASourceThatBreaksEndsTheDaemonWithItsError) {
  std::atomic<bool> breaks{false};
  source_.on_poll = [&]() -> Result<void> {
    if (breaks) return Error{Errc::io, "the source broke", {}, {}};
    return {};
  };
  start("exec sleep 60");
  breaks = true;
  ASSERT_EQ(ended_.wait_for(std::chrono::seconds(60)), std::future_status::ready);
  const auto end = ended_.get();
  ASSERT_FALSE(end.ok());
  EXPECT_EQ(end.error().what, "the source broke");
}

TEST_F(RunDaemon, ACommandThatIgnoresTermIsKilled) {
  const test::TempFolder folder;
  const std::string ignores = folder / "ignores";
  start("trap '' TERM; : > " + ignores + "; while :; do sleep 1; done");
  ASSERT_TRUE(wait_for([&] { return ::access(ignores.c_str(), F_OK) == 0; }, 30));
  EXPECT_TRUE(stop().ok());
  EXPECT_TRUE(said("the command does not end: killing it"));
}

}  // namespace
}  // namespace hindcast::capture
