// Hosts inside of this machine, which tests of several hosts stand on: what is their own is, and nothing stays behind.
#include "tests/support/test_host.h"

#include <gtest/gtest.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <optional>

#include "tests/support/background.h"

namespace hindcast::test {
namespace {

class TestHosts : public ::testing::Test {
 protected:
  void make(const HostClock& clock = {}) {
    a_.emplace(network_, "hca", clock);
    b_.emplace(network_, "hcb");
  }
  std::string missing() const { return a_->missing() + b_->missing(); }
  static std::string said(const TestHost& host, const std::string& script, const std::string& within = {}) {
    const Ran ran = host.run({"/bin/sh", "-c", script}, within);
    EXPECT_EQ(ran.code, 0) << script << ": " << ran.err;
    return ran.out.substr(0, ran.out.find('\n'));
  }

  TestNetwork network_;
  std::optional<TestHost> a_, b_;
};

TEST_F(TestHosts, HaveNamesProcessesAndCgroupsOfTheirOwn) {
  make();
  if (!missing().empty()) GTEST_SKIP() << missing();
  EXPECT_EQ(said(*a_, "hostname"), "hca");
  EXPECT_EQ(said(*b_, "hostname"), "hcb");
  EXPECT_EQ(said(*a_, "set -- /proc/[0-9]*; echo $#"), "2");  // process 1 and the shell
  EXPECT_EQ(said(*a_, "grep ^0: /proc/self/cgroup"), "0::/");
  EXPECT_EQ(said(*a_, "grep ^0: /proc/self/cgroup", "shop.service"), "0::/shop.service");
  EXPECT_NE(said(*a_, "readlink /proc/self/ns/net"), said(*b_, "readlink /proc/self/ns/net"));
  EXPECT_NE(said(*a_, "readlink /proc/self/ns/time"), said(*b_, "readlink /proc/self/ns/time"));
}

TEST_F(TestHosts, ReachEachOther) {
  make();
  if (!missing().empty()) GTEST_SKIP() << missing();
  // A socket belongs to the network that it was made in.
  int listening = -1, connected = -1;
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_port = htons(7411);
  ASSERT_EQ(::inet_pton(AF_INET, b_->address().c_str(), &at.sin_addr), 1);
  const auto* address = reinterpret_cast<const sockaddr*>(&at);
  b_->in_network([&] {
    listening = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT_EQ(::bind(listening, address, sizeof at), 0);
    EXPECT_EQ(::listen(listening, 1), 0);
  });
  a_->in_network([&] {
    connected = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT_EQ(::connect(connected, address, sizeof at), 0);
  });
  ::close(connected);
  ::close(listening);
}

TEST_F(TestHosts, HaveClocksOfTheirOwn) {
  constexpr int64_t kHour = int64_t{3600} * 1000000000;
  make({-kHour, 0, 0});
  if (!missing().empty()) GTEST_SKIP() << missing();
  const auto now = [] {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now().time_since_epoch())
        .count();
  };
  const int64_t before = now();
  const int64_t there = std::atoll(a_->run({"/bin/date", "+%s%N"}).out.c_str());
  const int64_t after = now();
  EXPECT_GE(there, a_->wall_ns(before));
  EXPECT_LE(there, a_->wall_ns(after));
  EXPECT_LE(there, before - kHour / 2);
}

TEST_F(TestHosts, MayHaveBeenUpForLonger) {
  make({0, 0, 1000000});
  if (!missing().empty()) GTEST_SKIP() << missing();
  EXPECT_GE(std::atof(said(*a_, "cat /proc/uptime").c_str()), 1000000);
  EXPECT_LT(std::atof(said(*b_, "cat /proc/uptime").c_str()), 1000000);
}

TEST_F(TestHosts, AreGoneWithAllThatRunsThere) {
  make();
  if (!missing().empty()) GTEST_SKIP() << missing();
  const std::string folder = a_->cgroup().folder();
  Background sleeper({"/bin/sleep", "600"}, {}, a_->place("shop.service"));
  const Ran orphan = a_->run({"/bin/sh", "-c", "sleep 601 >/dev/null 2>&1 & exit 0"});
  EXPECT_EQ(orphan.code, 0);
  EXPECT_TRUE(sleeper.running());
  a_.reset();
  EXPECT_EQ(sleeper.wait(10), 128 + SIGKILL);
  EXPECT_FALSE(std::filesystem::exists(folder));
}

}  // namespace
}  // namespace hindcast::test
