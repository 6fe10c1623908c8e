// One thread, one session at a time, each with a socket of its own: closing it is how a session ends, whatever was queued.
#include "transport/sender.h"

#include <sodium.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <zmq.hpp>

#include "transport/frame.h"
#include "transport/line_limit.h"
#include "transport/names.h"
#include "transport/shipment.h"
#include "transport/wake_fd.h"

namespace hindcast::transport {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr uint32_t kDirectoryPart = 16384;  // entries: 0.9 MiB
constexpr size_t kPsbPart = 16384;          // entries: 1.2 MiB
constexpr milliseconds kRefusedForGood = std::chrono::hours(1);
constexpr size_t kMaxAnswers = 256;
constexpr int kSendsAtOnce = 16;  // before the socket is read again

template <class T>
std::string struct_text(const T& v) {
  return {reinterpret_cast<const char*>(&v), sizeof v};
}

uint64_t random_number() {
  uint64_t n = 0;
  while (n == 0) randombytes_buf(&n, sizeof n);
  return n;
}

/// "tcp://HOST:PORT", PORT from 1 to 65535.
bool is_address(const std::string& s) {
  constexpr std::string_view kTcp{"tcp://"};
  const size_t colon = s.rfind(':');
  if (!s.starts_with(kTcp) || colon == s.npos || colon <= kTcp.size()) return false;
  unsigned port = 0;
  const auto [end, error] = std::from_chars(s.data() + colon + 1, s.data() + s.size(), port);
  return error == std::errc{} && end == s.data() + s.size() && port >= 1 && port <= 65535;
}

/// Bytes per second, averaged; a quarter of a second's worth may go at once.
class RateLimit {
 public:
  explicit RateLimit(uint64_t per_second) : rate_(static_cast<double>(per_second)) {}
  /// Zero: now.
  milliseconds wait() {
    if (rate_ == 0) return milliseconds(0);
    const auto now = Clock::now();
    tokens_ = std::min(rate_ / 4, tokens_ + rate_ * std::chrono::duration<double>(now - at_).count());
    at_ = now;
    return tokens_ >= 0 ? milliseconds(0) : milliseconds(1 + static_cast<int64_t>(-tokens_ / rate_ * 1000));
  }
  void spend(uint64_t bytes) { tokens_ -= rate_ == 0 ? 0 : static_cast<double>(bytes); }

 private:
  double rate_, tokens_ = 0;
  Clock::time_point at_ = Clock::now();
};

/// What this host has to say about an incident until the server has committed it.
struct Answer {
  uint64_t order = 0;  // when it was made: the oldest are forgotten first
  std::optional<std::vector<CpuCover>> frozen;
  bool durable = false;
  std::optional<Error> failed;
  uint64_t told = 0;  // session in which all of the above was said; 0: none
};

struct Session {
  Session() = default;
  // A monitor that nobody stopped makes libzmq 4.3.4 keep all three sockets for ever, once their owner has closed them; after
  // a thousand of them a context makes no more.
  ~Session() {
    if (dealer) ::zmq_socket_monitor(dealer.handle(), nullptr, 0);
  }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  uint64_t id = random_number();
  zmq::socket_t dealer, monitor;
  bool welcomed = false;
  Clock::time_point heard = Clock::now();
  Clock::time_point last_status{};
  uint64_t sent = 0, limit = 0;  // cost, cumulative
  uint32_t epoch = 0;
  bool asked = false;  // the server knows that we want credit
  uint32_t max_open = 1;
  std::map<std::string, Shipment> shipments;  // by incident
  std::vector<std::string> order;             // of shipments: the oldest first
};

}  // namespace

struct Sender::Impl {
  SenderConfig config;
  Spool& spool;
  SenderEvents events;
  zmq::context_t context{1};
  WakeFd wake;
  std::thread thread;

  mutable std::mutex mutex;  // guards the next block
  bool stop = false;
  std::vector<std::function<void(Impl&)>> posted;  // run on the thread
  bool connected = false;
  Error last_error;
  SenderCounters counters;

  // The thread's own.
  std::unique_ptr<Session> session;
  Clock::time_point next_try{};
  milliseconds backoff;
  std::map<std::string, Clock::time_point> held;  // incidents not to be offered before then
  std::map<std::string, Answer> answers;
  uint64_t next_answer = 0;
  bool look_in_spool = true;
  RateLimit rate;
  ChunkEncoder encoder;
  LineLimit say;

  Impl(SenderConfig c, Spool& s, SenderEvents e)
      : config(std::move(c)),
        spool(s),
        events(std::move(e)),
        backoff(config.first_backoff),
        rate(config.bytes_per_second),
        say(events.say) {}

  void run();
  void begin_session();
  void end_session(const Error& why, milliseconds wait);
  void watch();
  void read_messages();
  void handle(const wire::Envelope& e);
  void welcome(const wire::Welcome& w);
  void freeze(const wire::Freeze& f);
  void problem(const wire::Problem& p);
  void acknowledged(const wire::Acknowledged& a);
  void tick();
  bool pump();
  bool send_something(Shipment& s);
  bool offer(Shipment& s);
  bool send_psb_map(Shipment& s);
  bool send_chunk(Shipment& s);
  bool affordable(uint64_t cost);
  void open_shipments();
  void hold(const std::string& incident, milliseconds how_long, const std::string& why);
  void forget_shipment(const std::string& incident);
  void tell_answers();
  Answer& answer_for(const std::string& incident);
  void send_status(bool wants_credit);
  void send(wire::Envelope& e);
  void send(wire::Envelope& e, zmq::message_t payload, uint64_t cost);
  bool wants_credit() const;
  milliseconds next_event();

  template <class F>
  void count(F f) {
    std::lock_guard lock(mutex);
    f(counters);
  }
  void post(std::function<void(Impl&)> f) {
    {
      std::lock_guard lock(mutex);
      posted.push_back(std::move(f));
    }
    wake.wake();
  }
  void key_of(const Shipment& s, wire::SnapshotKey& key) const {
    key.set_incident(s.snapshot().incident);
    key.set_host(config.host);
  }
};

void Sender::Impl::run() {
  for (;;) {
    std::vector<std::function<void(Impl&)>> todo;
    {
      std::lock_guard lock(mutex);
      if (stop) break;
      todo.swap(posted);
    }
    for (auto& f : todo) f(*this);
    try {
      if (!session && Clock::now() >= next_try) begin_session();
      if (session) watch();
      if (session) read_messages();
      if (session) tick();
      const bool more = session && pump();
      zmq::pollitem_t items[] = {{nullptr, wake.get(), ZMQ_POLLIN, 0},
                                 {session ? session->dealer.handle() : nullptr, -1, ZMQ_POLLIN, 0},
                                 {session ? session->monitor.handle() : nullptr, -1, ZMQ_POLLIN, 0}};
      zmq::poll(items, session ? 3 : 1, more ? milliseconds(0) : next_event());
    } catch (const zmq::error_t& e) {
      if (e.num() != EINTR)
        end_session({Errc::io, std::string("a socket failed: ") + e.what(), {}, {}}, milliseconds(0));
    }
    wake.clear();
  }
  session.reset();
}

void Sender::Impl::begin_session() {
  auto s = std::make_unique<Session>();
  s->dealer = zmq::socket_t(context, zmq::socket_type::dealer);
  s->dealer.set(zmq::sockopt::linger, 0);
  s->dealer.set(zmq::sockopt::curve_serverkey, config.server_key);
  s->dealer.set(zmq::sockopt::curve_publickey, config.keys.public_key);
  s->dealer.set(zmq::sockopt::curve_secretkey, config.keys.secret_key);
  s->dealer.set(zmq::sockopt::maxmsgsize, static_cast<int64_t>(kMaxControlBytes));
  s->dealer.set(zmq::sockopt::sndhwm, 0);          // credit bounds what is queued
  s->dealer.set(zmq::sockopt::reconnect_ivl, -1);  // a session has one connection
  const std::string events_at = "inproc://hindcast.sender." + std::to_string(s->id);
  if (::zmq_socket_monitor(s->dealer.handle(), events_at.c_str(), ZMQ_EVENT_ALL) != 0) throw zmq::error_t();
  s->monitor = zmq::socket_t(context, zmq::socket_type::pair);
  s->monitor.set(zmq::sockopt::linger, 0);
  s->monitor.connect(events_at);
  s->dealer.connect(config.endpoint);
  session = std::move(s);
  wire::Envelope e;
  wire::Hello& h = *e.mutable_hello();
  h.set_major(kProtocolMajor);
  h.set_minor(kProtocolMinor);
  h.set_host(config.host);
  h.set_program(config.program);
  for (const std::string& c : config.capabilities) h.add_capabilities(c);
  send(e);
}

void Sender::Impl::end_session(const Error& why, milliseconds wait) {
  const bool news = [&] {
    std::lock_guard lock(mutex);
    connected = false;
    ++counters.failed_sessions;
    return std::exchange(last_error, why).what != why.what;
  }();
  if (news) say("no session with the server " + config.endpoint + ": " + why.text());
  session.reset();
  // Half of it at random: hosts that lost the same server must not all come back at once.
  const milliseconds pause = std::max(wait, backoff);
  next_try = Clock::now() + pause / 2 + milliseconds(random_number() % static_cast<uint64_t>(pause.count() / 2 + 1));
  backoff = std::min(backoff * 2, config.longest_backoff);
}

/// What became of the connection, from the socket's monitor.
void Sender::Impl::watch() {
  for (;;) {
    zmq::message_t event, address;
    if (!session->monitor.recv(event, zmq::recv_flags::dontwait)) return;
    (void)session->monitor.recv(address);
    uint16_t what = 0;
    uint32_t value = 0;
    if (event.size() < sizeof what + sizeof value) continue;
    std::memcpy(&what, event.data(), sizeof what);
    std::memcpy(&value, event.data<char>() + sizeof what, sizeof value);
    const char* refused =
        "is the server's public key in the configuration the right one, and this host's key in the server's "
        "allow-list?";
    switch (what) {
      case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
        return end_session(
            {Errc::permission, "the server does not accept this host's key", "ZAP status " + std::to_string(value),
             "add this host's public key to the server's allow-list"},
            milliseconds(0));
      case ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL:
      case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL:
        return end_session({Errc::permission, "the handshake with the server failed", {}, refused}, milliseconds(0));
      case ZMQ_EVENT_DISCONNECTED:
        return end_session(
            session->welcomed
                ? Error{Errc::io, "the connection was cut", {}, {}}
                : Error{Errc::permission, "the server closed the connection before it said hello", {}, refused},
            milliseconds(0));
      case ZMQ_EVENT_CLOSED:
      case ZMQ_EVENT_CONNECT_RETRIED:
        return end_session(
            {Errc::unavailable, "the server cannot be reached", {}, "is it running, and the address right?"},
            milliseconds(0));
      default:
        break;
    }
  }
}

void Sender::Impl::read_messages() {
  while (session) {
    zmq::message_t m;
    if (!session->dealer.recv(m, zmq::recv_flags::dontwait)) return;
    bool single = true;
    while (m.more()) {
      single = false;
      (void)session->dealer.recv(m);
    }
    auto e = parse_control({m.data<uint8_t>(), m.size()});
    if (!single || !e.ok())
      return end_session({Errc::bad_input, "the server sent something that is no message", {}, {}}, milliseconds(0));
    session->heard = Clock::now();
    // A problem of session 0 is about the connection: the server could not read which session it was.
    if (e->session() == session->id || (e->session() == 0 && e->has_problem())) handle(*e);
  }
}

void Sender::Impl::handle(const wire::Envelope& e) {
  if (e.has_problem()) return problem(e.problem());
  if (e.has_welcome()) return welcome(e.welcome());
  if (e.has_freeze()) return freeze(e.freeze());
  if (e.has_acknowledged()) return acknowledged(e.acknowledged());
  if (e.has_credit()) {
    // Limits of an earlier epoch were given before we gave credit back.
    if (e.credit().epoch() == session->epoch && e.credit().limit_bytes() > session->limit)
      session->limit = e.credit().limit_bytes();
  } else if (e.has_have()) {
    const auto it = session->shipments.find(e.have().snapshot().incident());
    if (it == session->shipments.end() || it->second.state != Shipment::State::offered) return;
    const int n = std::min(e.have().first_size(), e.have().count_size());
    uint64_t skipped = 0;
    for (int i = 0; i < n; ++i) skipped += it->second.skip(e.have().first(i), e.have().count(i));
    it->second.state = Shipment::State::shipping;
    count([&](SenderCounters& c) { c.skipped_chunks += skipped; });
  } else if (e.has_want()) {
    const auto it = session->shipments.find(e.want().incident());
    if (it != session->shipments.end())
      it->second.want(e.want().stream(), e.want().image(), e.want().offset(), e.want().bytes());
  }
  // Anything else is of a newer version.
}

void Sender::Impl::welcome(const wire::Welcome& w) {
  if (w.major() != kProtocolMajor)
    return end_session({Errc::version, "the server speaks another version of the protocol",
                        "version " + std::to_string(w.major()) + "; ours is " + std::to_string(kProtocolMajor),
                        "install the same release of hindcast on both"},
                       milliseconds(30000));
  session->welcomed = true;
  session->max_open = std::clamp<uint32_t>(w.max_open_snapshots(), 1, 16);
  backoff = config.first_backoff;
  look_in_spool = true;
  std::lock_guard lock(mutex);
  connected = true;
  last_error = {};
  ++counters.sessions;
}

void Sender::Impl::freeze(const wire::Freeze& f) {
  if (!is_name(f.incident())) return;
  const bool known = answers.contains(f.incident());
  Answer& a = answer_for(f.incident());
  a.told = 0;  // say again what there is to say
  if (spool.holds(f.incident())) {
    a.durable = true;
    return;
  }
  if (known) return;
  count([](SenderCounters& c) { ++c.freeze_orders; });
  if (events.freeze) events.freeze({f.incident(), f.reason(), std::chrono::nanoseconds(f.age_ns())});
}

void Sender::Impl::problem(const wire::Problem& p) {
  const milliseconds retry(std::min<uint64_t>(p.retry_after_ms(), 3600000));
  const Error error = error_of(p);
  if (!p.has_snapshot()) return end_session(error, retry);
  const std::string& incident = p.snapshot().incident();
  if (session->shipments.contains(incident)) hold(incident, retry.count() == 0 ? kRefusedForGood : retry, error.text());
}

void Sender::Impl::acknowledged(const wire::Acknowledged& a) {
  const std::string& incident = a.snapshot().incident();
  const auto it = session->shipments.find(incident);
  if (!a.committed() || it == session->shipments.end()) return;
  const Digest digest = it->second.snapshot().digest;
  if (a.digest() != std::string(digest.begin(), digest.end()))
    return hold(incident, kRefusedForGood, "the server says that it committed something else under this name");
  auto marked = spool.mark_committed(incident, digest);
  // When this cannot be kept, the snapshot is offered again some day and the server says the same.
  if (!marked.ok()) return hold(incident, milliseconds(30000), marked.error().text());
  forget_shipment(incident);
  answers.erase(incident);
  look_in_spool = true;
  count([](SenderCounters& c) { ++c.committed; });
  if (events.committed) events.committed(incident);
}

void Sender::Impl::tick() {
  const auto now = Clock::now();
  if (now - session->heard > config.silence)
    return end_session({Errc::unavailable,
                        session->welcomed ? "the server went silent" : "the server does not answer",
                        {},
                        "is hindcast-server running there?"},
                       milliseconds(0));
  if (!session->welcomed) return;
  if (now - session->last_status >= config.heartbeat) {
    look_in_spool = true;
    send_status(session->asked);
  }
  tell_answers();
  if (look_in_spool) open_shipments();
}

void Sender::Impl::open_shipments() {
  look_in_spool = false;
  const auto now = Clock::now();
  std::erase_if(held, [&](const auto& h) { return h.second <= now; });
  for (const std::string& incident : spool.waiting()) {
    if (session->shipments.size() >= session->max_open) return;
    if (session->shipments.contains(incident) || held.contains(incident)) continue;
    auto snapshot = spool.open_snapshot(incident);
    if (!snapshot.ok()) {
      say("incident " + incident + " cannot be shipped: " + snapshot.error().text());
      held[incident] = now + milliseconds(60000);
      continue;
    }
    session->shipments.emplace(incident, Shipment(std::move(*snapshot)));
    session->order.push_back(incident);
    count([](SenderCounters& c) { ++c.offers; });
  }
}

bool Sender::Impl::wants_credit() const {
  for (const auto& [incident, s] : session->shipments)
    if (s.state != Shipment::State::shipping || !s.nothing_unsent()) return true;
  return false;
}

/// True when there is more to send at once.
bool Sender::Impl::pump() {
  if (!session->welcomed) return false;
  for (int i = 0; i < kSendsAtOnce; ++i) {
    // Offers first; then, over all shipments, what has the highest priority, the oldest first.
    Shipment* best = nullptr;
    int best_rank = 0;
    for (const std::string& incident : session->order) {
      Shipment& s = session->shipments.at(incident);
      int rank = -1;
      if (s.state == Shipment::State::offered && s.directory_sent == s.snapshot().directory.chunks.size()) continue;
      if (s.state == Shipment::State::shipping) {
        if (s.nothing_unsent()) continue;
        rank = static_cast<int>(s.next().first);
      }
      if (!best || rank < best_rank) {
        best = &s;
        best_rank = rank;
      }
    }
    if (!best) {
      if (session->asked && !wants_credit()) send_status(false);
      return false;
    }
    if (!session->asked) send_status(true);
    if (!send_something(*best)) return false;
    if (!session) return false;
  }
  return true;
}

/// False when credit or rate forbid it for now.
bool Sender::Impl::send_something(Shipment& s) {
  if (s.state != Shipment::State::shipping) return offer(s);
  return s.next().first > Priority::sideband && !s.maps_sent() ? send_psb_map(s) : send_chunk(s);
}

bool Sender::Impl::affordable(uint64_t cost) {
  return cost <= session->limit - session->sent && rate.wait().count() == 0;
}

/// The manifest, then the parts of the directory.
bool Sender::Impl::offer(Shipment& s) {
  const Directory& d = s.snapshot().directory;
  wire::Envelope e;
  if (s.state == Shipment::State::fresh) {
    wire::Manifest& m = *e.mutable_manifest();
    key_of(s, *m.mutable_snapshot());
    m.set_digest(std::string(s.snapshot().digest.begin(), s.snapshot().digest.end()));
    m.set_file_header(struct_text(d.header));
    m.set_trailer(struct_text(d.trailer));
    m.set_chunks(static_cast<uint32_t>(d.chunks.size()));
    if (s.snapshot().maps.images.empty()) {
      send(e);
    } else {
      std::vector<uint8_t> raw;
      ByteWriter w(raw);
      for (const SpoolMaps::Image& i : s.snapshot().maps.images) {
        w.u32(i.id);
        w.bytes(i.content);
      }
      const ByteSpan stored = pack(raw, encoder, *m.mutable_payload());
      const uint64_t cost = cost_of(m.payload(), stored.size());
      if (!affordable(cost)) return false;
      send(e, zmq::message_t(stored.data(), stored.size()), cost);
    }
    s.state = Shipment::State::offered;
    return true;
  }
  wire::Directory& part = *e.mutable_directory();
  key_of(s, *part.mutable_snapshot());
  part.set_first(s.directory_sent);
  const auto n = std::min<size_t>(kDirectoryPart, d.chunks.size() - s.directory_sent);
  const ByteSpan raw{reinterpret_cast<const uint8_t*>(d.chunks.data() + s.directory_sent),
                     n * sizeof(bundle::IndexEntry)};
  const ByteSpan stored = pack(raw, encoder, *part.mutable_payload());
  const uint64_t cost = cost_of(part.payload(), stored.size());
  if (!affordable(cost)) return false;
  send(e, zmq::message_t(stored.data(), stored.size()), cost);
  s.directory_sent += static_cast<uint32_t>(n);
  return true;
}

bool Sender::Impl::send_psb_map(Shipment& s) {
  const SpoolMaps::Stream& stream = s.snapshot().maps.streams[s.map_stream];
  const auto& entries = stream.map.entries;
  const size_t n = std::min(kPsbPart, entries.size() - s.map_entry);
  if (n > 0) {
    wire::Envelope e;
    wire::PsbMap& m = *e.mutable_psb_map();
    key_of(s, *m.mutable_snapshot());
    m.set_stream(stream.id);
    m.set_first(static_cast<uint32_t>(s.map_entry));
    m.set_entries(static_cast<uint32_t>(entries.size()));
    m.set_mapped_bytes(stream.map.mapped_bytes);
    const ByteSpan raw{reinterpret_cast<const uint8_t*>(entries.data() + s.map_entry), n * sizeof(PsbEntry)};
    const ByteSpan stored = pack(raw, encoder, *m.mutable_payload());
    const uint64_t cost = cost_of(m.payload(), stored.size());
    if (!affordable(cost)) return false;
    send(e, zmq::message_t(stored.data(), stored.size()), cost);
  }
  s.map_entry += n;
  if (s.map_entry == entries.size()) {
    ++s.map_stream;
    s.map_entry = 0;
  }
  return true;
}

bool Sender::Impl::send_chunk(Shipment& s) {
  const uint32_t number = s.next().second;
  const bundle::ChunkHeader& h = s.snapshot().directory.chunks[number].header;
  wire::Envelope e;
  wire::Chunk& c = *e.mutable_chunk();
  key_of(s, *c.mutable_snapshot());
  c.set_number(number);
  c.set_id(h.id);
  c.set_offset(h.offset);
  describe(h, *c.mutable_payload());
  const uint64_t cost = cost_of(c.payload(), h.stored_bytes);
  if (!affordable(cost)) return false;
  zmq::message_t stored(h.stored_bytes);
  if (!s.snapshot().read_stored(number, {stored.data<uint8_t>(), stored.size()})) {
    const std::string incident = s.snapshot().incident;
    hold(incident, milliseconds(30000), "the spool's disk cannot be read");
    return true;
  }
  s.sent(number);
  send(e, std::move(stored), cost);
  count([](SenderCounters& n) { ++n.chunks; });
  return true;
}

void Sender::Impl::hold(const std::string& incident, milliseconds how_long, const std::string& why) {
  say("incident " + incident + " is not shipped for now: " + why);
  held[incident] = Clock::now() + how_long;
  forget_shipment(std::string(incident));
}

void Sender::Impl::forget_shipment(const std::string& incident) {
  std::erase(session->order, incident);
  session->shipments.erase(incident);
}

Answer& Sender::Impl::answer_for(const std::string& incident) {
  const auto [it, fresh] = answers.try_emplace(incident);
  if (fresh) {
    it->second.order = next_answer++;
    if (answers.size() > kMaxAnswers) {
      auto oldest = it;
      for (auto a = answers.begin(); a != answers.end(); ++a)
        if (a->second.order < oldest->second.order) oldest = a;
      answers.erase(oldest);
    }
  }
  return it->second;
}

void Sender::Impl::tell_answers() {
  for (auto& [incident, a] : answers) {
    if (std::exchange(a.told, session->id) == session->id) continue;
    if (a.frozen) {
      wire::Envelope e;
      e.mutable_frozen()->set_incident(incident);
      constexpr size_t kMostCpus = 8192;  // what one message holds
      for (size_t i = 0; i < a.frozen->size() && i < kMostCpus; ++i) {
        wire::CpuRange& c = *e.mutable_frozen()->add_cpus();
        c.set_cpu((*a.frozen)[i].cpu.value());
        c.set_from_tsc((*a.frozen)[i].from.value());
        c.set_to_tsc((*a.frozen)[i].to.value());
      }
      send(e);
    }
    if (a.durable) {
      wire::Envelope e;
      e.mutable_durable()->set_incident(incident);
      for (const Spool::Entry& entry : spool.entries())
        if (entry.incident == incident) e.mutable_durable()->set_bytes(entry.bytes);
      send(e);
    }
    if (a.failed) {
      wire::Envelope e;
      put_error(*a.failed, *e.mutable_problem());
      e.mutable_problem()->set_incident(incident);
      send(e);
    }
  }
}

void Sender::Impl::send_status(bool wants) {
  session->last_status = Clock::now();
  session->asked = wants;
  if (!wants && session->limit != session->sent) {
    session->limit = session->sent;
    ++session->epoch;
  }
  wire::Envelope e;
  wire::Status& s = *e.mutable_status();
  const HostStatus status = events.status ? events.status() : HostStatus{};
  s.set_state(status.state);
  size_t room = kMaxControlBytes / 2;
  for (const std::string& n : status.notes) {
    if (n.size() + 16 > room) break;
    room -= n.size() + 16;
    s.add_notes(n);
  }
  s.set_spool_bytes(spool.used_bytes());
  s.set_spool_limit_bytes(spool.limit_bytes());
  s.set_snapshots_waiting(static_cast<uint32_t>(spool.waiting().size()));
  s.set_wants_credit(wants);
  s.set_epoch(session->epoch);
  send(e);
}

void Sender::Impl::send(wire::Envelope& e) {
  e.set_session(session->id);
  session->dealer.send(zmq::buffer(control_frame(e)), zmq::send_flags::dontwait);
}

void Sender::Impl::send(wire::Envelope& e, zmq::message_t payload, uint64_t cost) {
  e.set_session(session->id);
  session->sent += cost;
  rate.spend(payload.size());
  count([&](SenderCounters& c) { c.payload_bytes += payload.size(); });
  session->dealer.send(zmq::buffer(control_frame(e)), zmq::send_flags::sndmore | zmq::send_flags::dontwait);
  session->dealer.send(std::move(payload), zmq::send_flags::dontwait);
}

milliseconds Sender::Impl::next_event() {
  if (!session) {
    const auto left = std::chrono::duration_cast<milliseconds>(next_try - Clock::now());
    return std::clamp(left + milliseconds(1), milliseconds(0), milliseconds(1000));
  }
  milliseconds most = std::min(config.heartbeat, milliseconds(1000));
  if (const auto wait = rate.wait(); wait.count() > 0) most = std::min(most, wait);
  return most;
}

Sender::Sender(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Sender::~Sender() {
  {
    std::lock_guard lock(impl_->mutex);
    impl_->stop = true;
  }
  impl_->wake.wake();
  if (impl_->thread.joinable()) impl_->thread.join();
}

Result<std::unique_ptr<Sender>> Sender::start(SenderConfig config, Spool& spool, SenderEvents events) {
  std::string wrong;
  const auto complain = [&](const std::string& s) { wrong += (wrong.empty() ? "" : "; ") + s; };
  if (!is_address(config.endpoint)) complain("the server's address '" + config.endpoint + "' is not tcp://HOST:PORT");
  if (!is_key(config.keys.public_key) || !is_key(config.keys.secret_key)) complain("no CURVE key pair of this host");
  if (!is_key(config.server_key)) complain("no public key of the server");
  if (!is_name(config.host)) complain(std::string("no proper host name (") + kNameRule + ")");
  if (config.heartbeat.count() <= 0 || config.silence < 2 * config.heartbeat)
    complain("silence must be at least two heartbeats");
  if (config.first_backoff.count() <= 0 || config.longest_backoff < config.first_backoff)
    complain("the longest backoff must not be below the first");
  if (config.capabilities.size() > 64) complain("more than 64 capabilities");
  for (const std::string& c : config.capabilities)
    if (c.size() > 128) complain("a capability of more than 128 bytes");
  if (config.program.size() > 128) complain("a program name of more than 128 bytes");
  if (!wrong.empty()) return Error{Errc::usage, "cannot start the sender", wrong, {}};
  auto impl = std::make_unique<Impl>(std::move(config), spool, std::move(events));
  impl->thread = std::thread([p = impl.get()] { p->run(); });
  return std::unique_ptr<Sender>(new Sender(std::move(impl)));
}

void Sender::frozen(const std::string& incident, std::vector<CpuCover> cpus) {
  impl_->post([incident, cpus = std::move(cpus)](Impl& i) {
    Answer& a = i.answer_for(incident);
    a.frozen = cpus;
    a.told = 0;
  });
}

void Sender::durable(const std::string& incident) {
  impl_->post([incident](Impl& i) {
    Answer& a = i.answer_for(incident);
    a.durable = true;
    a.told = 0;
    i.look_in_spool = true;
  });
}

void Sender::freeze_failed(const std::string& incident, const Error& error) {
  impl_->post([incident, error](Impl& i) {
    Answer& a = i.answer_for(incident);
    a.failed = error;
    a.told = 0;
  });
}

bool Sender::connected() const {
  std::lock_guard lock(impl_->mutex);
  return impl_->connected;
}

Error Sender::last_error() const {
  std::lock_guard lock(impl_->mutex);
  return impl_->last_error;
}

SenderCounters Sender::counters() const {
  std::lock_guard lock(impl_->mutex);
  return impl_->counters;
}

}  // namespace hindcast::transport
