// Waits of a bundle through the query door, and in words.
#include <gtest/gtest.h>
#include <linux/futex.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <ctime>

#include "hindcast/clock_sample.h"
#include "hindcast/wait_record.h"
#include "server/query.h"
#include "server/views/cli/wait_words.h"
#include "tests/support/bundle_edit.h"
#include "tests/support/memory_source.h"
#include "tests/support/run_program.h"

namespace hindcast::server {
namespace {

template <class T>
T made(int32_t tid, uint64_t time, uint32_t cpu = 0) {
  T r{};
  r.header = {sizeof r, static_cast<__u16>(wait::kKindOf<T>), cpu, 1, tid, time};
  return r;
}

template <class T>
void append(std::vector<uint8_t>& out, const T& record) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(&record);
  out.insert(out.end(), bytes, bytes + sizeof record);
}

template <class T>
wait::Record as_record(const T& r) {
  wait::Record out;
  EXPECT_TRUE(wait::Reader({reinterpret_cast<const uint8_t*>(&r), sizeof r}).next(out));
  return out;
}

class WaitsOfABundle : public testing::Test {
 protected:
  /// A bundle with these records; the clock runs at half of the TSC, from TSC 1000 on.
  std::unique_ptr<Query> open(const std::vector<uint8_t>& waits, StreamKind of = StreamKind::waits) {
    test::MemorySnapshot snapshot;
    snapshot.info.host = "h";
    snapshot.info.source = "simulated";
    std::vector<uint8_t> clocks;
    for (uint64_t ns = 0; ns <= 100000; ns += 10000)
      append_clock_sample(clocks, CLOCK_MONOTONIC, {1000 + 2 * ns - 4, ns, 1000 + 2 * ns + 4});
    const std::vector<uint8_t> trace(16);  // a snapshot has some; this is padding
    for (const auto& [kind, bytes] : {std::pair{of, waits}, {StreamKind::clocks, clocks}, {StreamKind::pt, trace}}) {
      StreamInfo info;
      info.id = static_cast<uint32_t>(snapshot.info.streams.size() + 1);
      info.kind = kind;
      info.bytes = bytes.size();
      snapshot.info.streams.push_back(info);
      snapshot.source.streams[info.id] = bytes;
    }
    test::write_bundle(snapshot, folder_ / "w.hcb");
    auto query = open_query(folder_ / "w.hcb");
    if (!query.ok()) ADD_FAILURE() << query.error().text();
    return std::move(*query);
  }
  static std::vector<WaitItem> all(Query& query, const WaitQuestion& question) {
    auto reader = query.waits(question);
    if (!reader.ok()) ADD_FAILURE() << reader.error().text();
    std::vector<WaitItem> items;
    for (WaitItem item; (*reader)->next(item);) items.push_back(item);
    return items;
  }
  test::TempFolder folder_;
};

TEST_F(WaitsOfABundle, ComeInOrderOfTimeWithTheirTsc) {
  std::vector<uint8_t> bytes;
  append(bytes, made<wait::Wake>(7, 52000));
  append(bytes, made<wait::Exit>(8, 51000));
  auto message = made<wait::Message>(9, 53000);
  message.begun = 50000;
  append(bytes, message);
  const auto query = open(bytes);
  const auto items = all(*query, {});
  ASSERT_EQ(items.size(), 3u);
  EXPECT_EQ(items[0].offset, sizeof(wait::Wake));
  const TscInterval& at = items[1].time;
  EXPECT_TRUE(at.contains(Tsc(1000 + 2 * 52000)));
  EXPECT_LE(at.latest.value() - at.earliest.value(), 450u) << "a bracket of 8 ticks, a slack of 200 to either side";
  EXPECT_TRUE(items[2].begun.contains(Tsc(1000 + 2 * 50000)));
  EXPECT_TRUE(items[0].begun.is_unknown());
}

TEST_F(WaitsOfABundle, AThreadsAreThoseItDidAndThoseDoneToIt) {
  std::vector<uint8_t> bytes;
  auto wake = made<wait::Wake>(7, 1000);
  wake.woken_tid = 8;
  append(bytes, wake);
  auto signal = made<wait::SignalSent>(9, 2000, 1);
  signal.to_tid = 7;
  append(bytes, signal);
  append(bytes, made<wait::Exit>(9, 3000, 1));
  auto lost = made<wait::Lost>(-1, 4000, 1);
  lost.count = 5;
  append(bytes, lost);
  const auto query = open(bytes);
  WaitQuestion question;
  question.tid = Tid(7);
  EXPECT_EQ(all(*query, question).size(), 3u) << "what was lost concerns everybody";
  question.tid = Tid(8);
  EXPECT_EQ(all(*query, question).size(), 2u);
  question = {};
  question.cpu = CpuId(0);
  EXPECT_EQ(all(*query, question).size(), 2u);
}

TEST_F(WaitsOfABundle, ARangeOfTimeTakesWhatWasUnderWay) {
  std::vector<uint8_t> bytes;
  auto message = made<wait::Message>(9, 60000);
  message.begun = 20000;
  append(bytes, message);
  append(bytes, made<wait::Exit>(9, 70000));
  const auto query = open(bytes);
  WaitQuestion question;
  question.time = {Tsc(1000 + 2 * 30000), Tsc(1000 + 2 * 40000)};
  EXPECT_EQ(all(*query, question).size(), 1u);
  question.time = {Tsc(1000 + 2 * 80000), Tsc(1000 + 2 * 90000)};
  EXPECT_TRUE(all(*query, question).empty());
}

TEST_F(WaitsOfABundle, BrokenBytesAreSaidBehindWhatCanBeRead) {
  std::vector<uint8_t> bytes;
  append(bytes, made<wait::Exit>(9, 1000));
  bytes.insert(bytes.end(), 20, 0);
  const auto query = open(bytes);
  const auto items = all(*query, {});
  ASSERT_EQ(items.size(), 2u);
  EXPECT_TRUE(items[0].damage.empty());
  EXPECT_TRUE(items[1].record.empty());
  EXPECT_NE(items[1].damage.find("20 bytes from offset 40"), std::string::npos) << items[1].damage;
}

TEST(WaitWords, SayWhatHappened) {
  auto sleep = made<wait::Sleep>(1, 1);
  sleep.syscall = SYS_futex;
  sleep.on.kind = wait::kFutexObject;
  sleep.on.id = 0x1000;
  EXPECT_EQ(cli::wait_text(as_record(sleep)), "sleeps in futex on futex 0x1000");
  sleep.syscall = -1;
  sleep.on = {};
  sleep.state = 2;
  EXPECT_EQ(cli::wait_text(as_record(sleep)), "sleeps (uninterruptible)");
  auto wake = made<wait::Wake>(1, 1);
  wake.woken_pid = 4;
  wake.woken_tid = 5;
  wake.flags = wait::kHardInterrupt;
  EXPECT_EQ(cli::wait_text(as_record(wake)), "wakes thread 5 of 4, from an interrupt");
  auto futex = made<wait::Futex>(1, 1);
  futex.syscall = SYS_futex;
  futex.op = FUTEX_WAKE_PRIVATE;
  futex.address = 0x1000;
  futex.result = 2;
  EXPECT_EQ(cli::wait_text(as_record(futex)), "futex wake 0x1000 = 2");
  auto message = made<wait::Message>(1, 1);
  message.action = wait::kSend;
  message.result = 13;
  message.fd = 4;
  message.flags = wait::kHasRange;
  message.before = 0xfffffff8;
  message.after = 5;
  message.on.kind = wait::kSocketObject;
  message.on.family = AF_INET;
  message.on.protocol = IPPROTO_TCP;
  const uint8_t here[] = {10, 0, 0, 1}, there[] = {10, 0, 0, 2};
  std::memcpy(message.on.local, here, 4);
  std::memcpy(message.on.remote, there, 4);
  message.on.local_port = 80;
  message.on.remote_port = 41000;
  EXPECT_EQ(cli::wait_text(as_record(message)),
            "sends 13 bytes, TCP 10.0.0.1:80 to 10.0.0.2:41000 (fd 4), seq 4294967288..5");
  message.result = -11;
  EXPECT_EQ(cli::wait_text(as_record(message)),
            "sends, TCP 10.0.0.1:80 to 10.0.0.2:41000 (fd 4): Resource temporarily unavailable");
  auto end = made<wait::Exit>(1, 1);
  end.status = SIGSEGV | 0x80;
  end.last = 1;
  EXPECT_EQ(cli::wait_text(as_record(end)), "ends, the last thread of its process: killed by SIGSEGV, core dumped");
  auto lost = made<wait::Lost>(-1, 3000000);
  lost.from = 1000000;
  lost.count = 3;
  EXPECT_EQ(cli::wait_text(as_record(lost)), "-- 3 records lost here or in the 2.00 ms before");
  auto unknown = made<wait::Exit>(1, 1);
  unknown.header.kind = 77;
  EXPECT_EQ(cli::wait_text(as_record(unknown)), "kind 77, 40 bytes");
}

TEST(WaitWords, JsonHasTheFieldsByTheirNames) {
  auto message = made<wait::Message>(1, 1);
  message.action = wait::kReceive;
  message.result = 5;
  message.on.kind = wait::kPipeObject;
  message.on.id = 77;
  const auto j = cli::wait_fields(as_record(message));
  EXPECT_EQ(j["action"], "receive");
  EXPECT_EQ(j["result"], 5);
  EXPECT_EQ(j["on"]["kind"], "pipe");
  EXPECT_EQ(j["on"]["id"], 77);
  EXPECT_FALSE(j.contains("range"));
}

wait::Packet packet(uint64_t time) {
  auto p = made<wait::Packet>(-1, time);
  p.header.pid = -1;
  p.interface = 2;
  p.family = AF_INET;
  p.protocol = IPPROTO_TCP;
  p.direction = wait::kIn;
  p.local[0] = p.remote[0] = 10;
  p.local[3] = 1;
  p.remote[3] = 2;
  p.local_port = 80;
  p.remote_port = 41000;
  p.length = 140;
  p.payload = 100;
  p.sequence = 0xffffffff;
  p.acknowledged = 7;
  p.tcp_flags = 0x18;
  return p;
}

TEST_F(WaitsOfABundle, PacketsAreAskedForApart) {
  std::vector<uint8_t> bytes;
  append(bytes, packet(20000));
  append(bytes, packet(10000));
  const auto query = open(bytes, StreamKind::net);
  ASSERT_TRUE(query);
  WaitQuestion question;
  EXPECT_EQ(query->waits(question).error().code, Errc::not_found);
  question.of = StreamKind::net;
  auto reader = query->waits(question);
  ASSERT_TRUE(reader.ok()) << reader.error().text();
  WaitItem item;
  std::vector<uint64_t> middles;
  while ((*reader)->next(item)) middles.push_back((item.time.earliest.value() + item.time.latest.value()) / 2);
  ASSERT_EQ(middles.size(), 2u);
  EXPECT_NEAR(static_cast<double>(middles[0]), 21000, 150);
  EXPECT_NEAR(static_cast<double>(middles[1]), 41000, 150);
}

TEST(WaitWords, OfPackets) {
  auto p = packet(1);
  EXPECT_EQ(cli::wait_text(as_record(p)),
            "in  TCP 10.0.0.1:80 < 10.0.0.2:41000, 100 bytes, seq 4294967295..99, ack 7 PSH ACK (interface 2)");
  EXPECT_EQ(cli::wait_kind(as_record(p)), "packet");
  const auto json = cli::wait_fields(as_record(p));
  EXPECT_EQ(json.at("remote"), "10.0.0.2:41000");
  EXPECT_EQ(json.at("sequence"), 0xffffffffu);
  p.direction = wait::kOut;
  p.segments = 3;
  p.tcp_flags = 2;
  EXPECT_EQ(cli::wait_text(as_record(p)),
            "out TCP 10.0.0.1:80 > 10.0.0.2:41000, 100 bytes, seq 4294967295..99 SYN, 3 segments (interface 2)");
  p.protocol = IPPROTO_UDP;
  p.segments = 1;
  p.id = 9;
  p.flags = wait::kFragment;
  EXPECT_EQ(cli::wait_text(as_record(p)),
            "out UDP 10.0.0.1:80 > 10.0.0.2:41000, 100 bytes, fragment of 9, the last (interface 2)");
}

}  // namespace
}  // namespace hindcast::server
