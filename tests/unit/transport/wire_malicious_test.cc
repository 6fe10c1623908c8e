// Hosts with a valid key that lie, strangers without one, and noise: each is refused and counted, and an honest host beside
// them ships as if they were not there.
#include <arpa/inet.h>
#include <sys/socket.h>

#include <algorithm>
#include <filesystem>
#include <random>
#include <zmq.hpp>

#include "tests/unit/transport/ship_fixture.h"
#include "transport/frame.h"

namespace hindcast::transport {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using test::keep;
using test::make_snapshot;
using test::wait_for;

/// Speaks the protocol as it pleases.
class Liar {
 public:
  Liar(const std::string& endpoint, const KeyPair& keys, const std::string& server_key, std::string host)
      : host_(std::move(host)), dealer_(context_, zmq::socket_type::dealer) {
    dealer_.set(zmq::sockopt::linger, 0);
    dealer_.set(zmq::sockopt::curve_serverkey, server_key);
    dealer_.set(zmq::sockopt::curve_publickey, keys.public_key);
    dealer_.set(zmq::sockopt::curve_secretkey, keys.secret_key);
    dealer_.set(zmq::sockopt::sndhwm, 0);
    dealer_.connect(endpoint);
  }

  void send_frames(const std::vector<std::string>& frames) {
    for (size_t i = 0; i < frames.size(); ++i)
      dealer_.send(zmq::buffer(frames[i]), i + 1 < frames.size() ? zmq::send_flags::sndmore : zmq::send_flags::none);
  }
  void send(wire::Envelope e) {
    e.set_session(session_);
    send_frames({control_frame(e)});
  }
  void send(wire::Envelope e, ByteSpan payload) {
    e.set_session(session_);
    send_frames({control_frame(e), {payload.begin(), payload.end()}});
  }
  /// The next message that `wanted` accepts.
  template <class F>
  std::optional<wire::Envelope> next(F wanted) {
    dealer_.set(zmq::sockopt::rcvtimeo, 5000);
    zmq::message_t m;
    while (dealer_.recv(m)) {
      auto e = parse_control({m.data<uint8_t>(), m.size()});
      if (e.ok() && wanted(*e)) return std::move(*e);
    }
    return std::nullopt;
  }
  std::optional<wire::Envelope> next_problem() {
    return next([](const auto& e) { return e.has_problem(); });
  }

  wire::Envelope hello() {
    ++session_;
    wire::Envelope e;
    e.mutable_hello()->set_major(kProtocolMajor);
    e.mutable_hello()->set_host(host_);
    return e;
  }
  /// In a session with credit.
  void enter() {
    send(hello());
    ASSERT_TRUE(next([](const auto& e) { return e.has_welcome(); }));
    wire::Envelope e;
    e.mutable_status()->set_wants_credit(true);
    send(e);
    ASSERT_TRUE(next([](const auto& c) { return c.has_credit() && c.credit().limit_bytes() > 0; }));
  }
  void key(wire::SnapshotKey& k, const std::string& incident) const {
    k.set_host(host_);
    k.set_incident(incident);
  }
  wire::Envelope manifest(const std::string& incident, const Directory& d) const {
    wire::Envelope e;
    wire::Manifest& m = *e.mutable_manifest();
    key(*m.mutable_snapshot(), incident);
    const Digest digest = d.digest();
    m.set_digest(std::string(digest.begin(), digest.end()));
    m.set_file_header(std::string(reinterpret_cast<const char*>(&d.header), sizeof d.header));
    m.set_trailer(std::string(reinterpret_cast<const char*>(&d.trailer), sizeof d.trailer));
    m.set_chunks(static_cast<uint32_t>(d.chunks.size()));
    return e;
  }
  void send_directory(const std::string& incident, const Directory& d) {
    wire::Envelope e;
    key(*e.mutable_directory()->mutable_snapshot(), incident);
    const ByteSpan raw{reinterpret_cast<const uint8_t*>(d.chunks.data()), d.chunks.size() * sizeof(bundle::IndexEntry)};
    const ByteSpan stored = pack(raw, encoder_, *e.mutable_directory()->mutable_payload());
    send(e, stored);
  }
  /// True when the server asks for chunks.
  bool offer(const std::string& incident, const Directory& d) {
    send(manifest(incident, d));
    send_directory(incident, d);
    const auto answer = next([](const auto& e) { return e.has_have() || e.has_problem(); });
    return answer && answer->has_have();
  }
  wire::Envelope chunk(const std::string& incident, const Directory& d, uint32_t number) const {
    const bundle::ChunkHeader& h = d.chunks[number].header;
    wire::Envelope e;
    wire::Chunk& c = *e.mutable_chunk();
    key(*c.mutable_snapshot(), incident);
    c.set_number(number);
    c.set_id(h.id);
    c.set_offset(h.offset);
    describe(h, *c.mutable_payload());
    return e;
  }

 private:
  std::string host_;
  zmq::context_t context_;
  zmq::socket_t dealer_;
  uint64_t session_ = 1;
  ChunkEncoder encoder_;
};

class Malicious : public Ship {
 protected:
  void SetUp() override {
    liars_ = config("liar");  // its key is known before the server starts
    start_server();
    liars_.endpoint = endpoint_;
    spool_ = spool("liar");
    must(keep(*spool_, make_snapshot("liar", "inc-1", 1, 300000)));
    snapshot_.emplace(must(spool_->open_snapshot("inc-1")));
  }
  Liar liar() { return Liar(endpoint_, liars_.keys, server_keys_.public_key, "liar"); }
  std::vector<uint8_t> stored_chunk(uint32_t number) {
    std::vector<uint8_t> b(snapshot_->directory.chunks[number].header.stored_bytes);
    EXPECT_TRUE(snapshot_->read_stored(number, b));
    return b;
  }
  const Directory& directory() { return snapshot_->directory; }
  /// An honest host ships and is not disturbed.
  void honest_host_ships() {
    auto s = spool("honest");
    must(keep(*s, make_snapshot("honest", "inc-1", 5, 200000)));
    auto sender = must(Sender::start(config("honest"), *s, {}));
    EXPECT_TRUE(wait_for([&] { return sender->counters().committed == 1; })) << sender->last_error().text();
  }
  ReceiverCounters counted() { return receiver_->counters(); }

  SenderConfig liars_;
  std::unique_ptr<Spool> spool_;
  std::optional<SpooledSnapshot> snapshot_;
};

TEST_F(Malicious, ReversedAndRepeatedChunksMakeTheSameFileOnce) {
  Liar l = liar();
  l.enter();
  ASSERT_TRUE(l.offer("inc-1", directory()));
  const auto n = static_cast<uint32_t>(directory().chunks.size());
  for (uint32_t i = n; i-- > 0;)
    for (int twice = 0; twice < (i == 0 ? 1 : 2); ++twice) l.send(l.chunk("inc-1", directory(), i), stored_chunk(i));
  ASSERT_TRUE(l.next([](const auto& e) { return e.has_acknowledged() && e.acknowledged().committed(); }));
  EXPECT_EQ(test::bytes_of_file(stored("liar", "inc-1")), test::bytes_of_file(spooled("liar", "inc-1")));
  EXPECT_EQ(counted().duplicate_chunks, n - 1);
  EXPECT_EQ(counted().chunks, n);
  EXPECT_EQ(commits("liar/inc-1"), 1u);
}

TEST_F(Malicious, AChunkOfWrongBytesIsNotWritten) {
  Liar l = liar();
  l.enter();
  ASSERT_TRUE(l.offer("inc-1", directory()));
  auto bytes = stored_chunk(1);
  bytes[bytes.size() / 2] ^= 1;
  l.send(l.chunk("inc-1", directory(), 1), bytes);
  const auto problem = l.next_problem();
  ASSERT_TRUE(problem);
  EXPECT_EQ(problem->problem().snapshot().incident(), "inc-1");
  EXPECT_EQ(counted().bad_payloads, 1u);
  EXPECT_EQ(counted().chunks, 0u);
  honest_host_ships();
}

TEST_F(Malicious, AChunkThatContradictsTheDirectoryEndsTheSession) {
  const auto lies = {+[](wire::Chunk& c) { c.set_offset(UINT64_MAX - 10); }, +[](wire::Chunk& c) { c.set_id(77); },
                     +[](wire::Chunk& c) { c.mutable_payload()->set_raw_bytes(c.payload().raw_bytes() - 1); },
                     +[](wire::Chunk& c) { c.mutable_payload()->set_checksum(1); },
                     +[](wire::Chunk& c) { c.set_number(1000000); }};
  for (const auto& lie : lies) {
    Liar l = liar();
    l.enter();
    ASSERT_TRUE(l.offer("inc-1", directory()));
    auto e = l.chunk("inc-1", directory(), 1);
    lie(*e.mutable_chunk());
    l.send(e, stored_chunk(1));
    ASSERT_TRUE(l.next_problem());
  }
  EXPECT_EQ(counted().bad_payloads + counted().bad_messages, 5u);
  EXPECT_EQ(counted().chunks, 0u);
}

TEST_F(Malicious, ABombIsRefusedByItsStatedSize) {
  Liar l = liar();
  l.enter();
  wire::Envelope e = l.manifest("inc-1", directory());
  const std::vector<uint8_t> zeros(bundle::kMaxChunkRawBytes, 0);
  ChunkEncoder encoder;
  const ByteSpan small = pack(zeros, encoder, *e.mutable_manifest()->mutable_payload());
  ASSERT_LT(small.size(), 1000u);
  e.mutable_manifest()->mutable_payload()->set_raw_bytes(UINT32_MAX);
  l.send(e, small);
  ASSERT_TRUE(l.next_problem());
  // The size that the payload states is within the limit, the one in the zstd frame is another.
  l.enter();
  e.mutable_manifest()->mutable_payload()->set_raw_bytes(36);
  l.send(e, small);
  ASSERT_TRUE(l.next_problem());
  EXPECT_EQ(counted().bad_payloads, 2u);
}

TEST_F(Malicious, MoreThanTheCreditEndsTheSession) {
  Liar l = liar();
  l.send(l.hello());
  ASSERT_TRUE(l.next([](const auto& e) { return e.has_welcome(); }));
  l.send(l.manifest("inc-1", directory()));
  l.send_directory("inc-1", directory());  // nothing was granted
  const auto problem = l.next_problem();
  ASSERT_TRUE(problem);
  EXPECT_NE(problem->problem().what().find("granted"), std::string::npos);
}

TEST_F(Malicious, NamesThatArePathsAreRefused) {
  const std::vector<std::string> names{
      "../../etc/passwd", "/abs", "..", "", ".hidden", "a/b", "a\xff", std::string("a\0b", 3), std::string(129, 'a')};
  for (const std::string& name : names) {
    Liar l = liar();
    l.enter();
    l.send(l.manifest(name, directory()));
    EXPECT_TRUE(l.next_problem()) << name;
  }
  EXPECT_FALSE(fs::exists(folder_ / "store/liar"));
  EXPECT_EQ(counted().bad_messages, names.size());
}

TEST_F(Malicious, ASnapshotOfAnotherHostIsRefused) {
  Liar l = liar();
  l.enter();
  auto e = l.manifest("inc-1", directory());
  e.mutable_manifest()->mutable_snapshot()->set_host("honest");
  l.send(e);
  EXPECT_TRUE(l.next_problem());
  // ... and so is one that says so only inside, where the server sees it last.
  auto s = spool("other");
  must(keep(*s, make_snapshot("honest", "inc-2", 1, 50000)));
  const auto inside = must(s->open_snapshot("inc-2"));
  l.enter();
  ASSERT_TRUE(l.offer("inc-2", inside.directory));
  for (uint32_t i = 0; i < inside.directory.chunks.size(); ++i) {
    std::vector<uint8_t> b(inside.directory.chunks[i].header.stored_bytes);
    ASSERT_TRUE(inside.read_stored(i, b));
    l.send(l.chunk("inc-2", inside.directory, i), b);
  }
  const auto problem = l.next_problem();
  ASSERT_TRUE(problem);
  EXPECT_NE(problem->problem().what().find("another host"), std::string::npos);
  EXPECT_FALSE(fs::exists(stored("liar", "inc-2")));
  EXPECT_FALSE(fs::exists(stored("liar", "inc-2") + ".partial"));
}

TEST_F(Malicious, ADirectoryThatIsNoBundlesIsRefused) {
  const auto lies = {+[](Directory& d) { d.chunks[1].file_offset += 1; },
                     +[](Directory& d) { std::swap(d.chunks[0], d.chunks[1]); },
                     +[](Directory& d) { d.chunks.pop_back(); },
                     +[](Directory& d) { d.chunks[0].header.raw_bytes = 1u << 31; },
                     +[](Directory& d) { d.trailer.file_bytes += 1; },
                     +[](Directory& d) { d.header.magic[0] = 0; }};
  for (const auto& lie : lies) {
    Directory d = directory();
    lie(d);
    Liar l = liar();
    l.enter();
    EXPECT_FALSE(l.offer("inc-1", d));
  }
  EXPECT_EQ(counted().refused_snapshots, 6u);
  Liar l = liar();
  l.enter();
  EXPECT_TRUE(l.offer("inc-1", directory()));
}

TEST_F(Malicious, MessagesOutOfTurnEndTheSession) {
  Liar l = liar();
  l.enter();
  l.send(l.manifest("inc-1", directory()));
  l.send(l.chunk("inc-1", directory(), 0), stored_chunk(0));  // before the directory
  EXPECT_TRUE(l.next_problem());
  l.enter();
  wire::Envelope e;
  e.mutable_welcome();
  l.send(e);  // what only a server says
  EXPECT_TRUE(l.next_problem());
  EXPECT_EQ(counted().bad_messages, 2u);
}

TEST_F(Malicious, UnknownFieldsAndBodiesAreIgnored) {
  Liar l = liar();
  wire::Envelope e = l.hello();
  e.set_session(2);
  const std::string field_99 = std::string("\x9a\x06\x03", 3) + "abc";
  l.send_frames({control_frame(e) + field_99});
  EXPECT_TRUE(l.next([](const auto& w) { return w.has_welcome(); }));
  l.send_frames({std::string("\x09\x02\0\0\0\0\0\0\0", 9) + field_99});  // session 2, a body of a newer version
  EXPECT_TRUE(wait_for([&] { return counted().unknown_messages == 1; }));
  EXPECT_EQ(counted().bad_messages, 0u);
}

TEST_F(Malicious, AHostThatCallsItselfAnotherIsRefused) {
  Liar l(endpoint_, liars_.keys, server_keys_.public_key, "honest");
  l.send(l.hello());
  const auto problem = l.next_problem();
  ASSERT_TRUE(problem);
  EXPECT_EQ(problem->problem().code(), static_cast<uint32_t>(Errc::permission));
  EXPECT_EQ(counted().refused_hellos, 1u);
  EXPECT_EQ(counted().sessions, 0u);
}

TEST_F(Malicious, AnotherVersionIsRefusedWithBothNumbers) {
  Liar l = liar();
  wire::Envelope e = l.hello();
  e.mutable_hello()->set_major(kProtocolMajor + 1);
  l.send(e);
  const auto problem = l.next_problem();
  ASSERT_TRUE(problem);
  EXPECT_EQ(problem->problem().code(), static_cast<uint32_t>(Errc::version));
  EXPECT_NE(problem->problem().found().find("2.0"), std::string::npos);
  EXPECT_NE(problem->problem().found().find("1.0"), std::string::npos);
}

TEST_F(Malicious, TenThousandFakeFramesDisturbNobody) {
  Liar l = liar();
  std::mt19937 random(1);
  l.enter();
  for (int i = 0; i < 10000; ++i) {
    std::vector<std::string> frames(1 + random() % 5);
    for (auto& f : frames) {
      f.resize(random() % 200);
      for (auto& c : f) c = static_cast<char>(random());
    }
    l.send_frames(frames);
  }
  honest_host_ships();
  EXPECT_TRUE(
      wait_for([&] { return counted().bad_messages + counted().unknown_messages + counted().refused_hellos > 5000; }));
}

TEST_F(Malicious, NoiseOnThePortDisturbsNobody) {
  const int port = std::stoi(endpoint_.substr(endpoint_.rfind(':') + 1));
  std::mt19937 random(2);
  for (int i = 0; i < 50; ++i) {
    const Fd s(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(static_cast<uint16_t>(port));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ASSERT_EQ(::connect(s.get(), reinterpret_cast<sockaddr*>(&to), sizeof to), 0);
    std::string noise(random() % 4000, '\0');
    for (auto& c : noise) c = static_cast<char>(random());
    if (i % 2 == 0 && noise.size() > 10)
      noise.replace(0, 10, std::string("\xff\0\0\0\0\0\0\0\1\x7f", 10));  // a ZMTP greeting's beginning
    (void)!::send(s.get(), noise.data(), noise.size(), MSG_NOSIGNAL);
  }
  honest_host_ships();
}

TEST_F(Malicious, AKeyThatIsNotInTheListGetsNoSession) {
  SenderConfig stranger = liars_;
  stranger.keys = make_key_pair();
  auto sender = must(Sender::start(stranger, *spool_, {}));
  ASSERT_TRUE(wait_for([&] { return sender->last_error().code == Errc::permission; })) << sender->last_error().text();
  EXPECT_EQ(counted().sessions, 0u);
  EXPECT_GE(counted().refused_keys, 1u);
  receiver_->allow("liar", stranger.keys.public_key);  // without a restart
  EXPECT_TRUE(wait_for([&] { return sender->counters().committed == 1; }));
}

TEST_F(Malicious, AServerWithAnotherKeyIsNotTalkedTo) {
  SenderConfig c = liars_;
  c.server_key = make_key_pair().public_key;
  auto sender = must(Sender::start(c, *spool_, {}));
  ASSERT_TRUE(wait_for([&] { return sender->counters().failed_sessions >= 1; }, 10));
  EXPECT_FALSE(sender->connected());
  EXPECT_EQ(counted().sessions, 0u);
}

TEST_F(Malicious, ARevokedKeyIsRefusedOnItsOpenConnection) {
  Liar l = liar();
  l.enter();
  ASSERT_TRUE(receiver_->revoke(liars_.keys.public_key));
  l.send(l.manifest("inc-1", directory()));
  const auto problem = l.next_problem();
  ASSERT_TRUE(problem);
  EXPECT_EQ(problem->problem().code(), static_cast<uint32_t>(Errc::permission));
  l.send(l.hello());  // the connection is still there; the key is not
  ASSERT_TRUE(l.next_problem());
  EXPECT_EQ(counted().sessions, 1u);
}

}  // namespace
}  // namespace hindcast::transport
