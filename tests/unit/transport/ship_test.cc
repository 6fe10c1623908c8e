// Sender and receiver in one process over loopback: what arrives, what is skipped, what is resumed.
#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>

#include "tests/unit/transport/ship_fixture.h"
#include "transport/shipment.h"

#ifdef __SANITIZE_THREAD__
// Debian's libzmq and libsodium are not instrumented: how its threads hand messages over is invisible, and its reads and writes of our
// buffers would look like races with ours.
extern "C" const char* __tsan_default_suppressions() {
  return "called_from_lib:libzmq.so.5\ncalled_from_lib:libsodium.so.23\nrace:libzmq.so.5\n";
}
#endif

namespace hindcast::transport {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using test::bytes_of_file;
using test::keep;
using test::make_snapshot;
using test::wait_for;

TEST_F(Ship, ADurableSnapshotArrivesByteForByte) {
  start_server();
  auto s = spool("a");
  auto sender = must(Sender::start(config("a"), *s, {}));
  const auto made = make_snapshot("a", "inc-1", 1, 3 << 20);
  must(keep(*s, made));
  sender->durable("inc-1");
  ASSERT_TRUE(wait_for([&] { return sender->counters().committed == 1; })) << sender->last_error().text();
  EXPECT_EQ(test::difference(stored("a", "inc-1"), made), "");
  EXPECT_EQ(bytes_of_file(stored("a", "inc-1")), bytes_of_file(spooled("a", "inc-1")));
  EXPECT_TRUE(s->waiting().empty());
  EXPECT_EQ(commits("a/inc-1"), 1u);
  EXPECT_EQ(receiver_->counters().committed, 1u);
  EXPECT_EQ(receiver_->counters().bad_messages + receiver_->counters().bad_payloads, 0u);
  ASSERT_TRUE(wait_for([&] { return receiver_->hosts().at(0).bytes_under_way == 0; }));
}

TEST_F(Ship, ImagesThatTheServerHasAreNotSentAgain) {
  start_server();
  auto a = spool("a"), b = spool("b");
  const auto first = make_snapshot("a", "inc-1", 7, 200000), second = make_snapshot("b", "inc-2", 7, 200000);
  ASSERT_EQ(first.images[0], second.images[0]);
  must(keep(*a, first));
  must(keep(*b, second));
  {
    auto sender = must(Sender::start(config("a"), *a, {}));
    ASSERT_TRUE(wait_for([&] { return sender->counters().committed == 1; }));
    EXPECT_EQ(sender->counters().skipped_chunks, 0u);
  }
  auto sender = must(Sender::start(config("b"), *b, {}));
  ASSERT_TRUE(wait_for([&] { return sender->counters().committed == 1; }));
  EXPECT_EQ(sender->counters().skipped_chunks, 3u) << "150,000 bytes in chunks of 64 KiB";
  EXPECT_EQ(test::difference(stored("b", "inc-2"), second), "");
}

TEST_F(Ship, AnImageNoteThatLiesCostsNothingButTheBytes) {
  start_server();
  auto a = spool("a");
  const auto made = make_snapshot("a", "inc-1", 7, 100000);
  must(keep(*a, made));
  const Digest content = must(a->open_snapshot("inc-1")).maps.images[0].content;
  fs::create_directories(folder_ / "store/images");
  std::ofstream(folder_ / ("store/images/" + hex(content))) << "../../etc/passwd 1\n";
  auto sender = must(Sender::start(config("a"), *a, {}));
  ASSERT_TRUE(wait_for([&] { return sender->counters().committed == 1; }));
  EXPECT_EQ(sender->counters().skipped_chunks, 0u);
  EXPECT_EQ(test::difference(stored("a", "inc-1"), made), "");
}

TEST_F(Ship, AServerThatRestartsSaysWhatItHasAndOnlyTheRestIsSent) {
  start_server();
  auto s = spool("a");
  const auto made = make_snapshot("a", "inc-1", 3, 4 << 20);
  must(keep(*s, made));
  auto slow = config("a");
  slow.bytes_per_second = 2 << 20;
  auto sender = must(Sender::start(slow, *s, {}));
  ASSERT_TRUE(wait_for([&] { return receiver_->counters().chunks >= 4; }));
  stop_server();
  start_server();
  ASSERT_TRUE(wait_for([&] { return sender->counters().committed == 1; }));
  EXPECT_GE(sender->counters().skipped_chunks, 4u);
  EXPECT_EQ(bytes_of_file(stored("a", "inc-1")), bytes_of_file(spooled("a", "inc-1")));
}

TEST_F(Ship, ChunksThatRottedInThePartialFileAreSentAgain) {
  start_server();
  auto s = spool("a");
  must(keep(*s, make_snapshot("a", "inc-1", 3, 4 << 20)));
  auto slow = config("a");
  slow.bytes_per_second = 2 << 20;
  auto sender = must(Sender::start(slow, *s, {}));
  ASSERT_TRUE(wait_for([&] { return receiver_->counters().chunks >= 4; }));
  stop_server();
  {
    std::fstream f(stored("a", "inc-1") + ".partial", std::ios::in | std::ios::out | std::ios::binary);
    ASSERT_TRUE(f.is_open());
    const auto size = fs::file_size(stored("a", "inc-1") + ".partial");
    for (uint64_t at = 50; at < size; at += 100000) f.seekp(static_cast<std::streamoff>(at)).put('X');
  }
  start_server();
  ASSERT_TRUE(wait_for([&] { return sender->counters().committed == 1; }));
  EXPECT_EQ(bytes_of_file(stored("a", "inc-1")), bytes_of_file(spooled("a", "inc-1")));
}

TEST_F(Ship, WhatWasCommittedBeforeIsNotCommittedTwice) {
  start_server();
  {
    auto s = spool("a");
    must(keep(*s, make_snapshot("a", "inc-1", 1, 100000)));
    auto sender = must(Sender::start(config("a"), *s, {}));
    ASSERT_TRUE(wait_for([&] { return sender->counters().committed == 1; }));
  }
  fs::remove(folder_ / "spool-a/inc-1.committed");  // as if the host had been killed before it could note it
  auto s = spool("a");
  EXPECT_EQ(s->waiting().size(), 1u);
  auto sender = must(Sender::start(config("a"), *s, {}));
  ASSERT_TRUE(wait_for([&] { return sender->counters().committed == 1; }));
  EXPECT_EQ(sender->counters().chunks, 0u);
  EXPECT_EQ(commits("a/inc-1"), 1u);
  EXPECT_EQ(receiver_->counters().committed_before, 1u);
}

TEST_F(Ship, AnotherSnapshotUnderACommittedNameIsRefusedAndKept) {
  start_server();
  {
    auto s = spool("a");
    must(keep(*s, make_snapshot("a", "inc-1", 1, 100000)));
    auto sender = must(Sender::start(config("a"), *s, {}));
    ASSERT_TRUE(wait_for([&] { return sender->counters().committed == 1; }));
  }
  const auto before = bytes_of_file(stored("a", "inc-1"));
  fs::remove_all(folder_ / "spool-a");
  auto s = spool("a");
  must(keep(*s, make_snapshot("a", "inc-1", 2, 100000)));
  auto sender = must(Sender::start(config("a"), *s, {}));
  ASSERT_TRUE(wait_for([&] { return receiver_->counters().refused_snapshots == 1; }));
  EXPECT_EQ(s->waiting().size(), 1u);
  EXPECT_EQ(bytes_of_file(stored("a", "inc-1")), before);
}

TEST_F(Ship, AFullStoreRefusesForNowAndTakesItLater) {
  start_server(1 << 20);
  auto s = spool("a");
  const auto made = make_snapshot("a", "inc-1", 1, 3 << 20);
  must(keep(*s, made));
  auto sender = must(Sender::start(config("a"), *s, {}));
  ASSERT_TRUE(wait_for([&] { return receiver_->counters().failed_snapshots >= 1; }));
  EXPECT_EQ(s->waiting().size(), 1u);
  stop_server();
  sender.reset();
  start_server();
  sender = must(Sender::start(config("a"), *s, {}));
  ASSERT_TRUE(wait_for([&] { return sender->counters().committed == 1; }));
  EXPECT_EQ(test::difference(stored("a", "inc-1"), made), "");
}

TEST_F(Ship, AFreezeOrderReachesItsHostOnceAndIsAnsweredTwice) {
  start_server();
  auto s = spool("a");
  SenderEvents events;
  std::unique_ptr<Sender> sender;
  std::atomic<int> asked{0};
  std::string reason;
  events.freeze = [&](const FreezeOrder& o) {
    reason = o.reason;
    ++asked;
  };
  const auto c = config("a");
  must_do(receiver_->freeze("a", "inc-9", "latency"));  // before the host is there
  sender = must(Sender::start(c, *s, events));
  ASSERT_TRUE(wait_for([&] { return asked == 1; }));
  EXPECT_EQ(reason, "latency");
  sender->frozen("inc-9", {{CpuId(0), Tsc(5), Tsc(9)}, {CpuId(1), Tsc(6), Tsc(8)}});
  ASSERT_TRUE(wait_for([&] { return log() == std::vector<std::string>{"frozen a inc-9 2"}; }));
  must(keep(*s, make_snapshot("a", "inc-9", 1, 100000)));
  sender->durable("inc-9");
  ASSERT_TRUE(wait_for([&] { return log().size() == 2 && log()[1] == "durable a inc-9"; }));
  ASSERT_TRUE(wait_for([&] { return commits("a/inc-9") == 1; }));
  must_do(receiver_->freeze("a", "inc-9", "again"));  // the spool has it: answered, not obeyed again
  ASSERT_TRUE(wait_for([&] { return log().size() == 3 && log()[2] == "durable a inc-9"; }));
  EXPECT_EQ(asked, 1);
}

TEST_F(Ship, SessionsThatEndedLeaveNoDescriptors) {
  start_server();
  auto s = spool("a");
  auto sender = must(Sender::start(config("a"), *s, {}));
  const auto descriptors = [] {
    return std::distance(fs::directory_iterator("/proc/self/fd"), fs::directory_iterator());
  };
  ASSERT_TRUE(wait_for([&] { return sender->connected(); }));
  const auto before = descriptors();
  constexpr int kSessions = 40;
  for (int i = 0; i < kSessions; ++i) {
    const uint64_t sessions = sender->counters().sessions;
    stop_server();
    start_server();
    ASSERT_TRUE(wait_for([&] { return sender->counters().sessions > sessions; }));
  }
  EXPECT_TRUE(wait_for([&] { return descriptors() < before + kSessions; })) << descriptors() - before;
}

TEST_F(Ship, AnOrderThatOutlivedItsServerIsAsOldAsItIs) {
  start_server();
  auto s = spool("a");
  std::atomic<int64_t> age{0};
  SenderEvents events;
  events.freeze = [&](const FreezeOrder& o) { age = o.age.count(); };
  const auto c = config("a");
  must_do(receiver_->freeze("a", "inc-9", "", std::chrono::hours(3)));
  auto sender = must(Sender::start(c, *s, events));
  ASSERT_TRUE(wait_for([&] { return age != 0; }));
  EXPECT_GE(age, std::chrono::nanoseconds(std::chrono::hours(3)).count());
}

TEST_F(Ship, WhatOthersPutIntoTheStoreCounts) {
  start_server(1 << 20);
  EXPECT_EQ(sink_->used(), 0u);
  must_do(sink_->reserve(1 << 20));
  const auto full = sink_->reserve(1);
  ASSERT_FALSE(full.ok());
  EXPECT_EQ(full.error().code, Errc::io);
  auto s = spool("a");
  must(keep(*s, make_snapshot("a", "inc-1", 1, 100000)));
  auto sender = must(Sender::start(config("a"), *s, {}));
  ASSERT_TRUE(wait_for([&] { return receiver_->counters().failed_snapshots >= 1; }));
  sink_->release(1 << 20);
  ASSERT_TRUE(wait_for([&] { return sender->counters().committed == 1; }));
  EXPECT_EQ(sink_->used(), fs::file_size(stored("a", "inc-1")));
  must_do(sink_->remove("a", "inc-1"));
  EXPECT_EQ(sink_->used(), 0u);
  EXPECT_FALSE(fs::exists(stored("a", "inc-1")));
  EXPECT_TRUE(fs::is_empty(folder_ / "store/images"));
}

TEST_F(Ship, AnUnansweredOrderIsGivenAgainToANewSession) {
  start_server();
  auto s = spool("a");
  std::atomic<int> asked{0};
  SenderEvents events;
  events.freeze = [&](const FreezeOrder&) { ++asked; };
  const auto c = config("a");
  must_do(receiver_->freeze("a", "inc-9", ""));
  auto sender = must(Sender::start(c, *s, events));
  ASSERT_TRUE(wait_for([&] { return asked == 1; }));
  sender.reset();  // a host that was killed before it froze
  sender = must(Sender::start(c, *s, events));
  ASSERT_TRUE(wait_for([&] { return asked == 2; }));
  sender->freeze_failed("inc-9", {Errc::unavailable, "no window", {}, {}});
  ASSERT_TRUE(wait_for([&] { return log() == std::vector<std::string>{"failed a inc-9 no window"}; }));
}

TEST_F(Ship, NothingIsFasterThanTheRateLimit) {
  start_server();
  auto s = spool("a");
  must(keep(*s, make_snapshot("a", "inc-1", 1, 3 << 20)));
  auto c = config("a");
  c.bytes_per_second = 2 << 20;
  const auto begin = std::chrono::steady_clock::now();
  auto sender = must(Sender::start(c, *s, {}));
  ASSERT_TRUE(wait_for([&] { return sender->counters().committed == 1; }));
  // 3 MiB and more at 2 MiB/s; a chunk may be ahead of its time.
  EXPECT_GE(std::chrono::steady_clock::now() - begin, milliseconds(900));
}

TEST_F(Ship, WhatAReaderWantsComesBeforeTheRest) {
  Shipment shipment = [&] {
    auto s = spool("a");
    must(keep(*s, make_snapshot("a", "inc-1", 1, 12 << 20)));
    return Shipment(must(s->open_snapshot("inc-1")));
  }();
  const auto& chunks = shipment.snapshot().directory.chunks;
  shipment.want(2, 0, 3 << 20, 10);
  std::vector<Priority> order;
  uint32_t wanted = 0;
  while (!shipment.nothing_unsent()) {
    const auto [priority, number] = shipment.next();
    order.push_back(priority);
    if (priority == Priority::wanted) {
      ++wanted;
      EXPECT_EQ(chunks[number].header.id, 2u);
      EXPECT_EQ(chunks[number].header.offset, uint64_t{3} << 20);
    }
    shipment.sent(number);
  }
  EXPECT_EQ(wanted, 1u);
  EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
  EXPECT_EQ(order.size(), chunks.size());
  EXPECT_EQ(order.front(), Priority::map);
}

TEST_F(Ship, ManyHostsShareTheMemoryThatOneWouldFill) {
  ReceiverConfig tight;
  tight.host_bytes = tight.total_bytes = 8 << 20;  // one host at a time
  start_server(UINT64_MAX, tight);
  std::vector<std::unique_ptr<Spool>> spools;
  std::vector<std::unique_ptr<Sender>> senders;
  for (const std::string host : {"a", "b", "c"}) {
    spools.push_back(spool(host));
    must(keep(*spools.back(), make_snapshot(host, "inc-1", 1, 2 << 20)));
    senders.push_back(must(Sender::start(config(host), *spools.back(), {})));
  }
  for (auto& s : senders) EXPECT_TRUE(wait_for([&] { return s->counters().committed == 1; }));
}

TEST_F(Ship, TheStatusOfAHostIsKnownToTheServer) {
  start_server();
  auto s = spool("a");
  SenderEvents events;
  events.status = [] { return HostStatus{"armed", 0, 0, 0, {"cyc is off", "/path/\xff"}}; };
  auto sender = must(Sender::start(config("a"), *s, events));
  ASSERT_TRUE(wait_for([&] { return !receiver_->hosts().empty() && receiver_->hosts()[0].status.state == "armed"; }));
  EXPECT_EQ(receiver_->hosts()[0].status.notes, (std::vector<std::string>{"cyc is off", "/path/\xff"}));
  EXPECT_EQ(receiver_->hosts()[0].status.spool_limit_bytes, uint64_t{1} << 30);
}

TEST(SenderConfig, AllThatIsWrongIsSaidAtOnce) {
  test::TempFolder folder;
  auto s = must(Spool::open({folder / "spool", 1 << 20}));
  SenderConfig c;
  c.endpoint = "udp:nowhere";
  c.host = "../x";
  auto r = Sender::start(c, *s, {});
  ASSERT_FALSE(r.ok());
  for (const char* part : {"udp:nowhere", "key pair", "public key of the server", "host name"})
    EXPECT_NE(r.error().found.find(part), std::string::npos) << part;
}

}  // namespace
}  // namespace hindcast::transport
