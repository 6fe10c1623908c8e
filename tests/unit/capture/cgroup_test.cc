// Control groups: on files as the kernel writes them, and on the real kernel where this machine lets a test make one.
#include "capture/cgroup.h"

#include <csignal>
#include <fstream>
#include <optional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "capture/perf_event.h"
#include "capture/window.h"
#include "tests/unit/capture/fake_source.h"
#include "tests/unit/capture/scratch.h"

namespace hindcast::capture {
namespace {

using ::testing::ElementsAre;

TEST(Cgroup, MembersAreThoseOfAllGroupsBelowToo) {
  Scratch scratch;
  scratch.write("g/cgroup.procs", "7\n3\nnonsense\n-1\n0\n");
  scratch.write("g/a/cgroup.procs", "5\n");
  scratch.write("g/a/b/cgroup.procs", "3\n9\n");
  const auto c = Cgroup::open(scratch.path("g"));
  ASSERT_TRUE(c.ok()) << c.error().text();
  EXPECT_THAT(c->members(), ElementsAre(Pid(3), Pid(5), Pid(7), Pid(9)));
  EXPECT_GE(c->fd(), 0);
}

TEST(Cgroup, WhatIsNoneIsRefused) {
  Scratch scratch;
  scratch.write("folder/file", "");
  EXPECT_EQ(Cgroup::open(scratch.path("none")).error().code, Errc::not_found);
  EXPECT_EQ(Cgroup::open(scratch.path("folder")).error().code, Errc::bad_input);
  EXPECT_FALSE(Cgroup::open(scratch.path("folder/file")).ok());
}

/// A cgroup of version 2 that the test made, with one sleeping process in it.
class RealCgroup : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const auto r = SidebandProbe().usable(); !r) GTEST_SKIP() << r.error().text();
    for (const std::string top : {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"}) {
      if (::access((top + "/cgroup.controllers").c_str(), F_OK) != 0) continue;
      path_ = top + "/hindcast-test-" + std::to_string(::getpid());
      if (::mkdir(path_.c_str(), 0755) == 0) break;
      path_.clear();
    }
    if (path_.empty()) GTEST_SKIP() << "no cgroup of version 2 in which this user may make one";
    sleeper_ = sleeper();
  }
  void TearDown() override {
    for (const pid_t pid : pids_) {
      ::kill(pid, SIGKILL);
      ::waitpid(pid, nullptr, 0);
    }
    for (int tries = 0; !path_.empty() && ::rmdir(path_.c_str()) != 0 && tries < 1000; ++tries) ::usleep(1000);
  }
  /// In the group from its start.
  pid_t sleeper() {
    const pid_t pid = ::fork();
    if (pid == 0) {
      std::ofstream(path_ + "/cgroup.procs") << ::getpid() << std::flush;
      ::execl("/bin/sleep", "sleep", "60", nullptr);
      ::_exit(127);
    }
    pids_.push_back(pid);
    std::string exe(256, '\0');
    do
      exe.resize(static_cast<size_t>(
          std::max<ssize_t>(::readlink(("/proc/" + std::to_string(pid) + "/exe").c_str(), exe.data(), 256), 0)));
    while (!exe.ends_with("/sleep") && (exe.resize(256), ::usleep(1000) == 0));
    return pid;
  }

  std::string path_;
  pid_t sleeper_ = -1;
  std::vector<pid_t> pids_;
};

TEST_F(RealCgroup, TheKernelTakesItsDescriptor) {
  const auto c = Cgroup::open(path_);
  ASSERT_TRUE(c.ok()) << c.error().text();
  EXPECT_THAT(c->members(), ElementsAre(Pid(sleeper_)));
  const Fd event(
      kernel_perf_calls().open(sideband_attr(RecordClock::perf_default, 4096), c->fd(), 0, PERF_FLAG_PID_CGROUP));
  EXPECT_TRUE(event.valid()) << "perf_event_open: " << event.get();
}

TEST_F(RealCgroup, AWindowOverItHoldsWhoIsThereAndWhoComesLater) {
  FakeSource source("perf");
  WindowConfig config;
  config.cgroup = path_;
  config.ring_bytes = 1 << 20;
  Window window(source, kernel_perf_calls(), config, [](const std::string&) {});
  sigset_t mask;
  sigemptyset(&mask);
  ASSERT_TRUE(window.open(mask).ok());
  EXPECT_FALSE(window.has_child());
  EXPECT_GE(source.config().cgroup, 0);
  ASSERT_TRUE(window.start().ok());
  const pid_t late = sleeper();
  const auto end = Window::Clock::now() + std::chrono::seconds(30);
  const auto has = [&](pid_t pid) {
    const auto alive = window.alive();
    return std::find(alive.begin(), alive.end(), Pid(pid)) != alive.end();
  };
  while (!has(late) && Window::Clock::now() < end) ASSERT_TRUE(window.step({}).ok());
  EXPECT_TRUE(has(sleeper_) && has(late));
  const auto frozen = window.finish();
  ASSERT_TRUE(frozen.ok()) << frozen.error().text();
  EXPECT_EQ(frozen->info.command, "cgroup " + path_);
  EXPECT_THAT(frozen->info.root_pids, ::testing::IsSupersetOf({Pid(sleeper_), Pid(late)}));
  std::set<Pid> with_code;
  for (const PlacementInfo& p : frozen->code.placements) with_code.insert(p.pid);
  EXPECT_THAT(with_code, ::testing::IsSupersetOf({Pid(sleeper_), Pid(late)}));
}

}  // namespace
}  // namespace hindcast::capture
