// Packets in the window, between network namespaces of the test's own.
#include "capture/net_window.h"

#include <csignal>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

#include "capture/window.h"
#include "hindcast/clock_sample.h"
#include "tests/support/datagrams.h"
#include "tests/support/net_pair.h"
#include "tests/support/start_window.h"
#include "tests/support/wait_records.h"
#include "tests/unit/capture/fake_source.h"

namespace hindcast::capture {
namespace {

using test::all;
using test::NetPair;
using testing::Contains;
using testing::HasSubstr;

void send_datagrams(size_t count) { test::send_datagrams({"10.77.0.1", 9999}, count, 1); }

size_t datagrams(ByteSpan stream) {
  size_t n = 0;
  for (const wait::Packet& p : all<wait::Packet>(stream)) n += p.protocol == IPPROTO_UDP && p.payload == 1;
  return n;
}

class NetWindowTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!pair_.missing().empty()) GTEST_SKIP() << pair_.missing();
    if (const auto r = NetTap::can_load({}); !r) GTEST_SKIP() << r.error().text();
  }
  NetWindow::Say say() {
    return [this](const std::string& text) { said_.push_back(text); };
  }
  NetPair pair_;
  std::vector<std::string> said_;
};

TEST_F(NetWindowTest, KeepsWhatPassedAndSaysWhatWasLost) {
  pair_.here([&] {
    NetWindowConfig config;
    config.tap.most_packets_per_second = 10;
    auto window = NetWindow::open(config, say());
    ASSERT_TRUE(window.ok()) << window.error().text();
    window->poll();
    const uint64_t begun = monotonic_ns();
    const size_t count = test::more_than_a_tap_tells();
    pair_.there([&] { send_datagrams(count); });
    window->finish();
    const Cut cut = window->stream();
    EXPECT_EQ(cut.info.kind, StreamKind::net);
    uint64_t lost = 0;
    for (const wait::Lost& l : all<wait::Lost>(cut.bytes)) {
      lost += l.count;
      EXPECT_LE(l.from, begun);
      EXPECT_GE(l.header.time, begun);
    }
    EXPECT_GT(lost, 0u);
    EXPECT_EQ(lost, window->lost());
    EXPECT_GE(datagrams(cut.bytes) + lost, count);
    EXPECT_TRUE(said_.empty());
  });
}

TEST_F(NetWindowTest, FollowsInterfacesThatComeAndGo) {
  pair_.here([&] {
    auto window = NetWindow::open({}, say());
    ASSERT_TRUE(window.ok()) << window.error().text();
    const auto ip = [](const std::vector<std::string>& words) {
      const test::Ran ran = test::ip(words);
      ASSERT_EQ(ran.code, 0) << ran.err;
    };
    const auto polled_until = [&](size_t lines) {
      for (int i = 0; i < 100 && said_.size() < lines; ++i) {
        window->poll();
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
      }
    };
    ip({"link", "add", "hcc", "type", "veth", "peer", "name", "hcd"});
    ip({"addr", "add", "10.78.0.1/24", "dev", "hcc"});
    ip({"link", "set", "hcc", "up"});
    ip({"link", "set", "hcd", "up"});
    polled_until(2);
    EXPECT_THAT(said_, Contains("packets on hcc are recorded from now on"));
    EXPECT_THAT(said_, Contains("packets on hcd are recorded from now on"));
    ip({"link", "del", "hcc"});  // its other end goes with it
    const auto gone = std::chrono::steady_clock::now() + std::chrono::milliseconds(1200);
    while (std::chrono::steady_clock::now() < gone) window->poll();
    pair_.there([] { send_datagrams(3); });
    window->finish();
    EXPECT_EQ(datagrams(window->stream().bytes), 3u);
  });
}

TEST_F(NetWindowTest, AnInterfaceThatIsNotThereIsAnErrorThatNamesThoseThatAre) {
  pair_.here([&] {
    NetWindowConfig config;
    config.interfaces = {"eth7"};
    const auto window = NetWindow::open(config, say());
    ASSERT_FALSE(window.ok());
    EXPECT_EQ(window.error().code, Errc::not_found);
    EXPECT_THAT(window.error().text(), HasSubstr("eth7"));
    EXPECT_THAT(window.error().text(), HasSubstr("up are: hca"));
  });
}

TEST_F(NetWindowTest, ASnapshotHasPacketsAndSamplesOfTheirClock) {
  pair_.here([&] {
    FakeSource source("simulated");
    WindowConfig config;
    config.command = {"/bin/sh", "-c", "while :; do :; done"};
    config.ring_bytes = 1 << 20;
    config.waits = Want::no;
    config.net = Want::yes;
    Window window(source, kernel_perf_calls(), config, say());
    test::start_window(window);
    pair_.there([] { send_datagrams(5); });
    for (int i = 0; i < 40; ++i) ASSERT_TRUE(window.step({}).ok());
    window.child().send(SIGKILL);
    const auto frozen = window.finish();
    ASSERT_TRUE(frozen.ok()) << frozen.error().text();
    const Cut *net = nullptr, *clocks = nullptr;
    for (const Cut& c : frozen->cuts) {
      EXPECT_NE(c.info.kind, StreamKind::waits);
      if (c.info.kind == StreamKind::net) net = &c;
      if (c.info.kind == StreamKind::clocks) clocks = &c;
    }
    ASSERT_TRUE(net && clocks);
    EXPECT_EQ(datagrams(net->bytes), 5u);
    const auto samples = read_clock_samples(clocks->bytes, CLOCK_MONOTONIC);
    ASSERT_GE(samples.size(), 2u);
    const auto packets = all<wait::Packet>(net->bytes);
    EXPECT_LE(samples.front().ns, packets.front().header.time);
    EXPECT_GE(samples.back().ns, packets.back().header.time);
  });
}

}  // namespace
}  // namespace hindcast::capture
