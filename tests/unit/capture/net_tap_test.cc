// The net tap on the real kernel, between two network namespaces: what passed is told, byte for byte, and nobody's programs but
// those of dead daemons are taken away.
#include "capture/net_tap.h"

#include <csignal>
#include <filesystem>
#include <map>
#include <optional>
#include <thread>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "capture/drop_watch.h"
#include "hindcast/wait_record.h"
#include "tests/support/datagrams.h"
#include "tests/support/net_pair.h"

namespace hindcast::capture {
namespace {

using test::Address;
using test::NetPair;
using testing::HasSubstr;
using wait::Packet;

constexpr uint16_t kPort = 4711;
constexpr uint8_t kFin = 1, kSyn = 2;

void send_all(int fd, size_t bytes) {
  const std::vector<char> data(bytes, 'x');
  for (size_t at = 0; at < bytes;) {
    const ssize_t n = ::send(fd, data.data() + at, bytes - at, MSG_NOSIGNAL);
    ASSERT_GT(n, 0);
    at += static_cast<size_t>(n);
  }
}
size_t receive_all(int fd) {
  std::vector<char> data(1 << 16);
  size_t all = 0;
  for (ssize_t n; (n = ::recv(fd, data.data(), data.size(), 0)) > 0;) all += static_cast<size_t>(n);
  return all;
}

class NetTapTest : public testing::Test {
 protected:
  void SetUp() override {
    pair_.emplace();
    if (!pair_->missing().empty()) GTEST_SKIP() << pair_->missing();
    if (const auto r = NetTap::can_load({}); !r) GTEST_SKIP() << r.error().text();
  }
  void TearDown() override {
    if (tap_) pair_->here([&] { tap_.reset(); });
  }
  Result<NetTap> try_open(const NetTapConfig& config = {}) {
    std::optional<Result<NetTap>> out;
    pair_->here([&] {
      const auto all = network_interfaces();
      ASSERT_TRUE(all.ok()) << all.error().text();
      ASSERT_EQ(all->size(), 1u);  // loopback is up, too
      EXPECT_EQ(all->front().name, NetPair::kHere);
      out.emplace(NetTap::open(all->front(), config));
    });
    return std::move(*out);
  }
  void open(const NetTapConfig& config = {}) {
    auto tap = try_open(config);
    ASSERT_TRUE(tap.ok()) << tap.error().text();
    tap_.emplace(std::move(*tap));
    begun_ = monotonic_ns();
  }
  std::vector<Packet> packets(uint8_t protocol) {
    std::vector<Packet> out;
    const uint64_t now = monotonic_ns();
    tap_->drain([&](ByteSpan bytes) {
      wait::Reader reader(bytes);
      wait::Record record;
      ASSERT_TRUE(reader.next(record));
      const auto p = wait::as<Packet>(record);
      ASSERT_TRUE(p);
      EXPECT_GE(p->header.time, begun_);
      EXPECT_LE(p->header.time, now);
      EXPECT_EQ(p->header.tid, -1);
      EXPECT_EQ(p->reserved, 0);
      if (p->protocol == protocol) out.push_back(*p);
    });
    return out;
  }
  uint64_t dropped() const {
    uint64_t all = 0;
    for (const uint64_t n : tap_->dropped()) all += n;
    return all;
  }
  uint32_t xdp_there() const {
    uint32_t id = 0;
    pair_->here([&] { bpf_xdp_query_id(static_cast<int>(::if_nametoindex(NetPair::kHere)), 0, &id); });
    return id;
  }
  void send_datagrams(const char* to, size_t count, size_t bytes) {
    pair_->there([&] { test::send_datagrams({to, kPort}, count, bytes); });
  }

  std::optional<NetPair> pair_;
  std::optional<NetTap> tap_;
  uint64_t begun_ = 0;
};

/// One direction of a connection, as its packets tell it.
struct Told {
  std::map<uint32_t, uint32_t> ranges;  // of payload, relative to the first byte
  std::optional<uint32_t> first;
  bool fin = false;
  uint32_t most = 0;
  unsigned segments = 0;

  explicit Told(const std::vector<Packet>& packets, uint8_t direction) {
    for (const Packet& p : packets) {
      if (p.direction != direction) continue;
      if (p.tcp_flags & kSyn) first = p.sequence + 1;
      if (!first) ADD_FAILURE() << "a packet before the SYN";
      fin |= (p.tcp_flags & kFin) != 0;
      most = std::max(most, p.payload);
      segments = std::max<unsigned>(segments, p.segments);
      if (p.payload == 0) continue;
      uint32_t& end = ranges[p.sequence - first.value_or(0)];
      end = std::max(end, p.sequence - first.value_or(0) + p.payload);
    }
  }
  /// The bytes from the first on that were told of without a hole.
  uint32_t covered() const {
    uint32_t to = 0;
    for (const auto& [from, end] : ranges)
      if (from <= to) to = std::max(to, end);
    return to;
  }
  uint32_t highest() const {
    uint32_t to = 0;
    for (const auto& [from, end] : ranges) to = std::max(to, end);
    return to;
  }
};

class NetTapTcp : public NetTapTest, public testing::WithParamInterface<std::tuple<const char*, bool>> {};

TEST_P(NetTapTcp, TellsEveryByteInBothDirections) {
  const auto [ip, offload] = GetParam();
  constexpr size_t kToUs = 1 << 20, kFromUs = 300000;
  pair_->offload(offload);
  NetTapConfig config;
  config.ring_bytes = size_t{8} << 20;
  open(config);
  const Address address(ip, kPort);
  Fd listener;
  pair_->here([&] {
    listener = Fd(::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(::bind(listener.get(), address.get(), address.size), 0);
    ASSERT_EQ(::listen(listener.get(), 1), 0);
  });
  std::thread server([&] {
    const Fd connection(::accept(listener.get(), nullptr, nullptr));
    EXPECT_EQ(receive_all(connection.get()), kToUs);
    send_all(connection.get(), kFromUs);
  });
  pair_->there([&] {
    const Fd socket(::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(::connect(socket.get(), address.get(), address.size), 0);
    send_all(socket.get(), kToUs);
    ::shutdown(socket.get(), SHUT_WR);
    EXPECT_EQ(receive_all(socket.get()), kFromUs);
  });
  server.join();
  std::this_thread::sleep_for(std::chrono::milliseconds(50));  // the last acknowledgement
  const auto all = packets(IPPROTO_TCP);
  EXPECT_EQ(dropped(), 0u);
  EXPECT_TRUE(tap_->notes().empty());
  const auto four = address.family() == AF_INET;
  const void* us = four ? static_cast<const void*>(&reinterpret_cast<const sockaddr_in*>(address.get())->sin_addr)
                        : &reinterpret_cast<const sockaddr_in6*>(address.get())->sin6_addr;
  for (const Packet& p : all) {
    EXPECT_EQ(p.family, address.family());
    EXPECT_EQ(p.local_port, kPort);
    EXPECT_EQ(std::memcmp(p.local, us, four ? 4 : 16), 0);
    EXPECT_EQ(p.remote[four ? 3 : 15], 2);
    EXPECT_EQ(p.flags, 0);
  }
  const Told in(all, wait::kIn), out(all, wait::kOut);
  EXPECT_EQ(in.covered(), kToUs);
  EXPECT_EQ(in.highest(), kToUs);
  EXPECT_TRUE(in.fin);
  EXPECT_EQ(out.covered(), kFromUs);
  EXPECT_EQ(out.highest(), kFromUs);
  EXPECT_TRUE(out.fin);
  if (offload) {
    EXPECT_GT(out.segments, 1u);
    EXPECT_GT(out.most, 1500u);
  } else {
    EXPECT_EQ(out.segments, 1u);
    EXPECT_LE(out.most, 1500u);
  }
}
INSTANTIATE_TEST_SUITE_P(Offload, NetTapTcp, testing::Combine(testing::Values("10.77.0.1", "fd77::1"), testing::Bool()),
                         [](const auto& p) {
                           return std::string(std::get<0>(p.param)[0] == 'f' ? "V6" : "V4") +
                                  (std::get<1>(p.param) ? "On" : "Off");
                         });

TEST_F(NetTapTest, DatagramsAreTold) {
  open();
  send_datagrams("10.77.0.1", 100, 700);
  send_datagrams("fd77::1", 50, 0);
  size_t four = 0, six = 0;
  for (const Packet& p : packets(IPPROTO_UDP)) {
    if (p.local_port != kPort) continue;  // of the system's own
    EXPECT_EQ(p.direction, wait::kIn);
    EXPECT_EQ(p.payload, p.family == AF_INET ? 700u : 0u);
    EXPECT_EQ(p.length, p.payload + 8 + (p.family == AF_INET ? 20 : 40));
    ++(p.family == AF_INET ? four : six);
  }
  EXPECT_EQ(four, 100u);
  EXPECT_EQ(six, 50u);
}

TEST_F(NetTapTest, FragmentsBelongTogetherByTheirNumber) {
  open();
  for (const char* ip : {"10.77.0.1", "fd77::1"}) {
    send_datagrams(ip, 1, 5000);
    uint32_t bytes = 0;
    std::optional<uint32_t> id;
    size_t with_ports = 0, last = 0, count = 0;
    for (const Packet& p : packets(IPPROTO_UDP)) {
      if (!(p.flags & wait::kFragment)) continue;
      EXPECT_EQ(p.id, id.value_or(p.id));
      id = p.id;
      bytes += p.payload;
      with_ports += p.local_port == kPort;
      last += !(p.flags & wait::kMoreFragments);
      ++count;
    }
    EXPECT_EQ(bytes, 5000u) << ip;
    EXPECT_EQ(with_ports, 1u);
    EXPECT_EQ(last, 1u);
    EXPECT_EQ(count, 4u);
  }
}

TEST_F(NetTapTest, WhatComesTooFastIsCounted) {
  NetTapConfig config;
  config.most_packets_per_second = 10;
  open(config);
  const size_t count = test::more_than_a_tap_tells();
  send_datagrams("10.77.0.1", count, 10);
  size_t told = 0;
  for (const Packet& p : packets(IPPROTO_UDP)) told += p.local_port == kPort;
  EXPECT_GE(told, 4096u);  // at once, of one CPU
  EXPECT_GE(told + dropped(), count);
  EXPECT_GT(dropped(), 0u);
}

TEST_F(NetTapTest, WhatFindsNoRoomIsCounted) {
  NetTapConfig config;
  config.ring_bytes = 4096;
  open(config);
  send_datagrams("10.77.0.1", 500, 10);
  size_t told = 0;
  for (const Packet& p : packets(IPPROTO_UDP)) told += p.local_port == kPort;
  EXPECT_GT(told, 10u);
  EXPECT_GT(dropped(), 0u);
  EXPECT_GE(told + dropped(), 500u);
  send_datagrams("10.77.0.1", 5, 10);  // there is room again
  EXPECT_EQ(packets(IPPROTO_UDP).size(), 5u);
}

TEST_F(NetTapTest, ADeadDaemonsProgramsGoAndALivingOnesStay) {
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t other = ::fork();
  ASSERT_GE(other, 0);
  if (other == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    const auto tap = try_open();
    const char good = tap.ok();
    if (::write(ready[1], &good, 1) != 1) ::_exit(1);
    for (;;) ::pause();
  }
  char good = 0;
  ASSERT_EQ(::read(ready[0], &good, 1), 1);
  ASSERT_EQ(good, 1);
  const uint32_t theirs = xdp_there();
  EXPECT_NE(theirs, 0u);
  const auto refused = try_open();
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, Errc::unavailable);
  EXPECT_THAT(refused.error().text(), HasSubstr("process " + std::to_string(other)));
  EXPECT_EQ(xdp_there(), theirs);

  ::kill(other, SIGKILL);
  ASSERT_EQ(::waitpid(other, nullptr, 0), other);
  EXPECT_EQ(xdp_there(), theirs);  // nothing took it away
  open();
  EXPECT_NE(xdp_there(), theirs);
  EXPECT_TRUE(tap_->notes().empty());
  send_datagrams("10.77.0.1", 7, 10);
  EXPECT_EQ(packets(IPPROTO_UDP).size(), 7u);
  const auto filters = [&] {
    test::Ran ran;
    pair_->here([&] { ran = test::run_program({"/usr/sbin/tc", "filter", "show", "dev", NetPair::kHere, "egress"}); });
    EXPECT_EQ(ran.code, 0) << ran.err;
    return ran.out;
  };
  EXPECT_THAT(filters(), HasSubstr("hindcast_net_tx"));
  pair_->here([&] { tap_.reset(); });
  EXPECT_EQ(xdp_there(), 0u);
  EXPECT_EQ(filters(), "");
}

TEST_F(NetTapTest, WhereADeviceKnowsNoXdpTheKernelDoesIt) {
  pair_->here([&] {
    for (const auto& words :
         {std::vector<std::string>{"link", "add", "hcx", "type", "bridge"}, {"link", "set", "hcx", "up"}}) {
      const test::Ran ran = test::ip(words);
      ASSERT_EQ(ran.code, 0) << ran.err;
    }
    const auto index = ::if_nametoindex("hcx");
    auto tap = NetTap::open({"hcx", index, true}, {});
    ASSERT_TRUE(tap.ok()) << tap.error().text();
    EXPECT_TRUE(tap->notes().empty());
    bpf_xdp_query_opts there{};
    there.sz = sizeof there;
    ASSERT_EQ(bpf_xdp_query(static_cast<int>(index), 0, &there), 0);
    EXPECT_NE(there.skb_prog_id, 0u);
    { const NetTap gone(std::move(*tap)); }
    uint32_t id = 1;
    ASSERT_EQ(bpf_xdp_query_id(static_cast<int>(index), 0, &id), 0);
    EXPECT_EQ(id, 0u);
  });
}

TEST_F(NetTapTest, ItLeavesNoDescriptorOpen) {
  const auto open_ones = [] {
    const std::filesystem::directory_iterator all("/proc/self/fd");
    return std::distance(begin(all), end(all));
  };
  const auto before = open_ones();
  for (int i = 0; i < 3; ++i) {
    open();
    pair_->here([&] { tap_.reset(); });
  }
  EXPECT_EQ(open_ones(), before);
}

TEST_F(NetTapTest, SomebodyElsesProgramStaysAndTheRestIsTold) {
  const bpf_insn passes[] = {{BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, XDP_PASS}, {BPF_JMP | BPF_EXIT, 0, 0, 0, 0}};
  const Fd program(bpf_prog_load(BPF_PROG_TYPE_XDP, "others", "GPL", passes, std::size(passes), nullptr));
  if (!program.valid()) GTEST_SKIP() << "cannot load an XDP program";
  pair_->here([&] {
    const auto index = static_cast<int>(::if_nametoindex(NetPair::kHere));
    ASSERT_EQ(bpf_xdp_attach(index, program.get(), 0, nullptr), 0);
  });
  const uint32_t theirs = xdp_there();
  open();
  EXPECT_EQ(xdp_there(), theirs);
  ASSERT_EQ(tap_->notes().size(), 1u);
  EXPECT_THAT(tap_->notes()[0], HasSubstr("what hca receives is not recorded"));
  pair_->here([&] {
    const Address address("10.77.0.2", kPort);
    const Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(::sendto(socket.get(), "z", 1, 0, address.get(), address.size), 1);
  });
  const auto sent = packets(IPPROTO_UDP);
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(sent[0].direction, wait::kOut);
  EXPECT_EQ(sent[0].remote_port, kPort);
  pair_->here([&] { tap_.reset(); });
  EXPECT_EQ(xdp_there(), theirs);
}

}  // namespace
}  // namespace hindcast::capture
