// The network thread: sessions, verification, credit, orders. Everything in Impl below `state` is guarded by it; the thread
// holds it while it works and not while it waits.
#include "transport/receiver.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>
#include <optional>
#include <zmq.hpp>

#include "transport/credit.h"
#include "transport/frame.h"
#include "transport/line_limit.h"
#include "transport/names.h"
#include "transport/store_thread.h"
#include "transport/wake_fd.h"
#include "transport/zap.h"

namespace hindcast::transport {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kMaxOrders = 64;                          // of one host
constexpr size_t kImageEntryBytes = 36;                    // of a manifest's payload
constexpr int kMessagesAtOnce = 64;                        // before results and credit get their turn
constexpr uint64_t kRetrySoon = 1000, kRetryLater = 5000;  // ms

ByteSpan bytes_of(const zmq::message_t& m) { return {m.data<uint8_t>(), m.size()}; }

template <class T>
bool read_struct(const std::string& from, T& to) {
  if (from.size() != sizeof to) return false;
  std::memcpy(&to, from.data(), sizeof to);
  return true;
}

/// A snapshot on its way in, as the network thread sees it.
struct Incoming {
  uint64_t handle = 0;
  SnapshotOffer offer;
  uint32_t chunks = 0;                    // that the directory will have
  uint64_t taken = 0;                     // of the pool, for the directory
  bool opening = false;                   // the directory is complete
  bool open = false;                      // chunks may come
  std::vector<bool> have;                 // verified here, or there before
  uint32_t to_write = 0;                  // chunks that the store has not written yet
  std::map<uint32_t, uint32_t> next_psb;  // by stream: entries so far
  wire::Acknowledged written;             // not yet told
};

struct Peer {
  std::string routing, key, host;
  uint64_t session = 0;
  Clock::time_point heard;
  std::shared_ptr<CreditAccount> credit = std::make_shared<CreditAccount>();
  std::map<std::string, Incoming> incoming;  // by incident
  bool dead = false;
};

/// Whose a handle of the store is. Outlives the session: results still come in.
struct Owner {
  std::string routing, host, incident;
  std::shared_ptr<CreditAccount> credit;
};

struct KnownHost {
  std::string program;
  std::vector<std::string> capabilities;
  HostStatus status;
  Clock::time_point heard{};
};

struct Order {
  std::string reason;
  Clock::time_point given;
  uint64_t told_session = 0;  // 0: none
  bool frozen = false;
};

struct Wanted {
  std::string host;
  wire::Want want;
};

/// What became of a message.
struct Outcome {
  std::optional<Error> offence;  // ends the session of its sender
  bool payload = false;          // the offence is in the payload
  bool kept = false;             // its payload went to the store, which frees its credit
};

Outcome offence(Errc code, std::string what, std::string found = {}) {
  return {Error{code, std::move(what), std::move(found), {}}, false, false};
}
Outcome bad_payload(Error e) { return {std::move(e), true, false}; }

}  // namespace

struct Receiver::Impl {
  ReceiverConfig config;
  ReceiverEvents events;
  LiveAllowList allowed;
  zmq::context_t context{1};
  std::unique_ptr<ZapHandler> zap;
  zmq::socket_t router;
  std::string endpoint;
  std::unique_ptr<StoreThread> store;
  WakeFd wake;
  std::thread thread;

  mutable std::recursive_mutex state;  // recursive: callbacks may call freeze, want and cancel
  bool stop = false;
  ReceiverCounters counters;
  std::map<std::string, Peer> peers;  // by routing id
  std::map<std::string, KnownHost> known;
  std::map<std::pair<std::string, std::string>, Order> orders;  // by host, incident
  std::vector<Wanted> wanted;
  CreditPool pool;
  uint64_t directories = 0;          // bytes of those that are open
  std::map<uint64_t, Owner> owners;  // by handle, until its close is done
  uint64_t next_handle = 1;
  std::string last_served;  // routing id: credit goes round
  ChunkDecoder decoder;
  LineLimit say;

  Impl(ReceiverConfig c, ReceiverEvents e)
      : config(std::move(c)),
        events(std::move(e)),
        allowed(config.allowed),
        pool(config.host_bytes, config.total_bytes),
        say(events.say) {}

  Result<void> start(SnapshotSink& sink);
  void run();
  void receive_one(std::vector<zmq::message_t> frames);
  Outcome handle(Peer& peer, const wire::Envelope& e, ByteSpan stored);
  void hello(const std::string& routing, const std::string& key, const std::string& host, const wire::Envelope& e);
  Outcome manifest(Peer& peer, const wire::Manifest& m, ByteSpan stored);
  Outcome directory(Peer& peer, const wire::Directory& d, ByteSpan stored);
  Outcome psb_map(Peer& peer, const wire::PsbMap& m, ByteSpan stored);
  Outcome chunk(Peer& peer, const wire::Chunk& c, ByteSpan stored);
  void answer(Peer& peer, const wire::Envelope& e);
  void status(Peer& peer, const wire::Status& s);
  void finished(StoreResult& r);
  void opened(Peer& peer, Incoming& in, StoreResult& r);
  void tell_committed(Peer& peer, const Incoming& in);
  void refuse(Peer& peer, const std::string& incident, const Error& error, uint64_t retry_ms);
  void close(Peer& peer, const std::string& incident);
  void send(Peer& peer, wire::Envelope& e);
  void send_to(const std::string& routing, const wire::Envelope& e, bool* failed);
  void send_credit(Peer& peer);
  void share_credit();
  void tell_written(Peer& peer);
  void tell_orders_and_wants();
  void bury();

  Result<std::vector<uint8_t>> raw_of(const wire::Payload& payload, ByteSpan stored) {
    return unpack(payload, 0, stored, decoder);
  }
  Incoming* find(Peer& peer, const wire::SnapshotKey& key) {
    const auto it = peer.incoming.find(key.incident());
    return it == peer.incoming.end() ? nullptr : &it->second;
  }
};

Result<void> Receiver::Impl::start(SnapshotSink& sink) {
  std::string wrong;
  const auto complain = [&](const std::string& s) { wrong += (wrong.empty() ? "" : "; ") + s; };
  constexpr uint64_t kLeast = uint64_t{8} << 20;  // a chunk of the largest size must fit
  if (!is_key(config.keys.public_key) || !is_key(config.keys.secret_key)) complain("no CURVE key pair");
  if (config.host_bytes < kLeast) complain("host_bytes is below 8 MiB");
  if (config.total_bytes < config.host_bytes) complain("total_bytes is below host_bytes");
  if (config.open_snapshots == 0) complain("open_snapshots is 0");
  if (!wrong.empty()) return Error{Errc::usage, "cannot start the receiver", wrong, {}};
  HC_TRY(store, StoreThread::start(sink));
  HC_TRY(zap, ZapHandler::start(context, allowed));  // before the socket: without it libzmq would let every key in
  try {
    router = zmq::socket_t(context, zmq::socket_type::router);
    router.set(zmq::sockopt::linger, 0);
    router.set(zmq::sockopt::curve_server, 1);
    router.set(zmq::sockopt::curve_secretkey, config.keys.secret_key);
    router.set(zmq::sockopt::zap_domain, "hindcast");
    router.set(zmq::sockopt::router_mandatory, 1);
    router.set(zmq::sockopt::maxmsgsize, static_cast<int64_t>(kMaxFrameBytes));
    router.set(zmq::sockopt::handshake_ivl, 10000);
    // Not ZeroMQ's heartbeats: in libzmq 4.3.4 their timer aborts the process when the peer is gone while its messages wait
    // for us (libzmq issue 4841), which any host could bring about.
    router.set(zmq::sockopt::tcp_keepalive, 1);
    router.set(zmq::sockopt::tcp_keepalive_idle, 30);
    router.set(zmq::sockopt::tcp_keepalive_intvl, 10);
    router.set(zmq::sockopt::tcp_keepalive_cnt, 3);
    router.set(zmq::sockopt::rcvhwm, 32);  // what a host that heeds no credit can make libzmq keep
    router.bind(config.endpoint);
    endpoint = router.get(zmq::sockopt::last_endpoint);
  } catch (const zmq::error_t& e) {
    return Error{Errc::io, "cannot listen on " + config.endpoint + ": " + e.what(), {}, "is another server running?"};
  }
  thread = std::thread([this] { run(); });
  return {};
}

void Receiver::Impl::run() {
  zmq::pollitem_t items[] = {{router.handle(), 0, ZMQ_POLLIN, 0},
                             {nullptr, wake.get(), ZMQ_POLLIN, 0},
                             {nullptr, store->ready_fd(), ZMQ_POLLIN, 0}};
  for (;;) {
    try {
      zmq::poll(items, 3, std::chrono::milliseconds(250));
    } catch (const zmq::error_t& e) {
      if (e.num() != EINTR) throw;
    }
    std::lock_guard lock(state);
    if (stop) return;
    wake.clear();
    for (StoreResult& r : store->take_results()) finished(r);
    for (int i = 0; i < kMessagesAtOnce; ++i) {
      std::vector<zmq::message_t> frames;
      try {
        zmq::message_t m;
        if (!router.recv(m, zmq::recv_flags::dontwait)) break;
        frames.push_back(std::move(m));
        while (frames.back().more()) {
          zmq::message_t next;
          (void)router.recv(next);
          // More frames than a message has are read, so that the next message is, and not kept.
          if (frames.size() == 4) frames.pop_back();
          frames.push_back(std::move(next));
        }
      } catch (const zmq::error_t& e) {
        if (e.num() == EINTR) continue;
        throw;
      }
      receive_one(std::move(frames));
    }
    const auto now = Clock::now();
    for (auto& [routing, peer] : peers) {
      if (now - peer.heard > config.silence) peer.dead = true;
      if (!peer.dead) tell_written(peer);
    }
    tell_orders_and_wants();
    share_credit();
    bury();
  }
}

void Receiver::Impl::receive_one(std::vector<zmq::message_t> frames) {
  const std::string routing = frames[0].to_string();
  const auto it = peers.find(routing);
  Peer* peer = it == peers.end() || it->second.dead ? nullptr : &it->second;
  const auto offended = [&](const Error& error, uint64_t session, bool payload) {
    ++(payload ? counters.bad_payloads : counters.bad_messages);
    say("refused a message" + (peer ? " of host " + peer->host : std::string()) + ": " + error.what);
    wire::Envelope e;
    e.set_session(peer ? peer->session : session);
    put_error(error, *e.mutable_problem());
    e.mutable_problem()->set_retry_after_ms(kRetrySoon);
    send_to(routing, e, nullptr);
    if (peer) peer->dead = true;
  };
  if (frames.size() != 2 && frames.size() != 3)
    return offended({Errc::bad_input, "a message of " + std::to_string(frames.size() - 1) + " frames", {}, {}}, 0,
                    false);
  const char* key = ::zmq_msg_gets(frames[1].handle(), "User-Id");
  const std::string host = key ? allowed.host_of(key) : std::string{};
  if (host.empty() || (peer && (peer->host != host || peer->key != key)))
    return offended({Errc::permission,
                     "the server does not accept this key",
                     {},
                     "ask for it to be put in the server's allow-list"},
                    0, false);
  auto e = parse_control(bytes_of(frames[1]));
  if (!e.ok()) return offended(e.error(), 0, false);
  const wire::Payload* payload = payload_of(*e);
  if (e->body_case() == wire::Envelope::BODY_NOT_SET) {
    ++counters.unknown_messages;
    return;
  }
  if (!payload && frames.size() == 3)
    return offended({Errc::bad_input, "a message with a frame that it does not announce", {}, {}}, e->session(), false);
  if (payload && frames.size() == 2)
    return offended({Errc::bad_input, "a message without the frame that it announces", {}, {}}, e->session(), false);
  if (e->has_hello()) return hello(routing, key, host, *e);
  if (!peer) {
    wire::Envelope reply;
    reply.set_session(e->session());
    put_error({Errc::usage, "no session: it was forgotten, or the server is new", {}, {}}, *reply.mutable_problem());
    reply.mutable_problem()->set_retry_after_ms(1);
    return send_to(routing, reply, nullptr);
  }
  if (e->session() != peer->session) return;  // left over from before
  peer->heard = known[host].heard = Clock::now();
  const uint64_t cost = payload ? cost_of(*payload, frames[2].size()) : 0;
  if (payload) {
    // Compared before anything is done with the bytes.
    if (auto sizes = header_of(*payload, 0, frames[2].size()); !sizes.ok()) return offended(sizes.error(), 0, true);
    if (!pool.receive(*peer->credit, cost))
      return offended({Errc::too_large, "more bytes than the host was granted", {}, {}}, 0, false);
  }
  const Outcome outcome = handle(*peer, *e, payload ? bytes_of(frames[2]) : ByteSpan{});
  if (payload && !outcome.kept) pool.store(*peer->credit, cost);
  if (outcome.offence) offended(*outcome.offence, 0, outcome.payload);
}

void Receiver::Impl::hello(const std::string& routing, const std::string& key, const std::string& host,
                           const wire::Envelope& e) {
  const wire::Hello& h = e.hello();
  Error error;
  if (h.major() != kProtocolMajor)
    error = {Errc::version, "the server speaks another version of the protocol",
             "version " + std::to_string(h.major()) + "." + std::to_string(h.minor()) +
                 " of the host; the server's is " + std::to_string(kProtocolMajor) + "." +
                 std::to_string(kProtocolMinor),
             "install the same release of hindcast on both"};
  else if (h.host() != host)
    error = {Errc::permission, "the key belongs to another host",
             "the host calls itself '" + h.host().substr(0, kMaxNameBytes) + "'; the server's list says '" + host + "'",
             "set the host's name in its configuration, or correct the server's allow-list"};
  else if (e.session() == 0)
    error = {Errc::bad_input, "a hello without a session", {}, {}};
  if (!error.what.empty()) {
    ++counters.refused_hellos;
    say("refused host " + host + ": " + error.what);
    wire::Envelope reply;
    reply.set_session(e.session());
    put_error(error, *reply.mutable_problem());
    reply.mutable_problem()->set_retry_after_ms(30000);
    return send_to(routing, reply, nullptr);
  }
  // One session for a host: the newest. The old one may be a connection that died without a word.
  for (auto& [r, p] : peers)
    if (p.host == host) p.dead = true;
  bury();
  Peer& peer = peers[routing];
  peer.routing = routing;
  peer.key = key;
  peer.host = host;
  peer.session = e.session();
  peer.heard = Clock::now();
  KnownHost& k = known[host];
  k.heard = peer.heard;
  k.program = h.program().substr(0, kMaxNameBytes);
  k.capabilities.clear();
  for (const std::string& c : h.capabilities())
    if (k.capabilities.size() < 64) k.capabilities.push_back(c.substr(0, kMaxNameBytes));
  ++counters.sessions;
  wire::Envelope reply;
  reply.mutable_welcome()->set_major(kProtocolMajor);
  reply.mutable_welcome()->set_minor(kProtocolMinor);
  reply.mutable_welcome()->set_program(config.program);
  reply.mutable_welcome()->set_max_open_snapshots(config.open_snapshots);
  send(peer, reply);
  if (events.connected) events.connected(host);
}

Outcome Receiver::Impl::handle(Peer& peer, const wire::Envelope& e, ByteSpan stored) {
  using Body = wire::Envelope::BodyCase;
  const wire::SnapshotKey* key = e.has_manifest()    ? &e.manifest().snapshot()
                                 : e.has_directory() ? &e.directory().snapshot()
                                 : e.has_psb_map()   ? &e.psb_map().snapshot()
                                 : e.has_chunk()     ? &e.chunk().snapshot()
                                                     : nullptr;
  if (key && (key->host() != peer.host || !is_name(key->incident())))
    return offence(Errc::permission, "a snapshot that is not this host's, or has no proper incident");
  switch (e.body_case()) {
    case Body::kManifest:
      return manifest(peer, e.manifest(), stored);
    case Body::kDirectory:
      return directory(peer, e.directory(), stored);
    case Body::kPsbMap:
      return psb_map(peer, e.psb_map(), stored);
    case Body::kChunk:
      return chunk(peer, e.chunk(), stored);
    case Body::kStatus:
      status(peer, e.status());
      return {};
    case Body::kFrozen:
    case Body::kDurable:
    case Body::kProblem:
      answer(peer, e);
      return {};
    default:
      return offence(Errc::bad_input, "a message that only a server sends");
  }
}

Outcome Receiver::Impl::manifest(Peer& peer, const wire::Manifest& m, ByteSpan stored) {
  const std::string& incident = m.snapshot().incident();
  Incoming in;
  in.offer.host = peer.host;
  in.offer.incident = incident;
  in.chunks = m.chunks();
  if (m.digest().size() != in.offer.digest.size() || !read_struct(m.file_header(), in.offer.directory.header) ||
      !read_struct(m.trailer(), in.offer.directory.trailer))
    return offence(Errc::bad_input, "a manifest with a digest, header or trailer of a wrong size");
  std::copy(m.digest().begin(), m.digest().end(), in.offer.digest.begin());
  if (m.chunks() == 0 || m.chunks() > kMaxShippedChunks)
    return offence(Errc::too_large, "a manifest of an impossible number of chunks", std::to_string(m.chunks()));
  if (m.has_payload()) {
    auto raw = raw_of(m.payload(), stored);
    if (!raw.ok()) return bad_payload(raw.error());
    if (raw->size() % kImageEntryBytes != 0)
      return bad_payload({Errc::bad_input, "a manifest whose list of images is cut", {}, {}});
    ByteReader r(*raw);
    while (r.left() > 0) {
      SpoolMaps::Image image{r.u32(), {}};
      const ByteSpan content = r.take(image.content.size());
      std::copy(content.begin(), content.end(), image.content.begin());
      in.offer.images.push_back(image);
    }
  }
  close(peer, incident);
  if (peer.incoming.size() >= config.open_snapshots) {
    refuse(peer, incident, {Errc::unavailable, "too many snapshots of this host are under way", {}, {}}, kRetrySoon);
    return {};
  }
  const uint64_t needed = in.chunks * sizeof(bundle::IndexEntry) + in.offer.images.size() * kImageEntryBytes;
  // Not out of the credit's total: hosts that wait to send a directory may hold all of that.
  if (needed > config.total_bytes / 4 - directories) {
    refuse(peer, incident, {Errc::unavailable, "the server is busy with other hosts", {}, {}}, kRetrySoon);
    return {};
  }
  in.taken = needed;
  directories += needed;
  peer.incoming.emplace(incident, std::move(in));
  return {};
}

Outcome Receiver::Impl::directory(Peer& peer, const wire::Directory& d, ByteSpan stored) {
  Incoming* in = find(peer, d.snapshot());
  if (!in) return {};  // refused meanwhile
  auto& entries = in->offer.directory.chunks;
  if (in->opening || d.first() != entries.size()) return offence(Errc::bad_input, "a part of a directory out of turn");
  auto raw = raw_of(d.payload(), stored);
  if (!raw.ok()) return bad_payload(raw.error());
  const size_t n = raw->size() / sizeof(bundle::IndexEntry);
  if (raw->size() % sizeof(bundle::IndexEntry) != 0 || n > in->chunks - entries.size())
    return bad_payload({Errc::bad_input, "a part of a directory that is cut or too long", {}, {}});
  entries.resize(entries.size() + n);
  std::memcpy(entries.data() + d.first(), raw->data(), raw->size());
  if (entries.size() < in->chunks) return {};

  const std::string incident = d.snapshot().incident();
  std::string problem = directory_problem(in->offer.directory);
  if (problem.empty() && in->offer.directory.digest() != in->offer.digest) problem = "its digest does not match";
  if (!problem.empty()) {
    ++counters.bad_payloads;
    refuse(peer, incident,
           {Errc::corrupt, "refused: the snapshot of incident " + incident + " is no bundle: " + problem, {}, {}}, 0);
    return {};
  }
  in->opening = true;
  in->handle = next_handle++;
  owners[in->handle] = {peer.routing, peer.host, incident, peer.credit};
  StoreJob job;
  job.kind = StoreJob::Kind::open;
  job.handle = in->handle;
  job.offer = in->offer;
  store->push(std::move(job));
  return {};
}

Outcome Receiver::Impl::psb_map(Peer& peer, const wire::PsbMap& m, ByteSpan stored) {
  Incoming* in = find(peer, m.snapshot());
  if (!in) return {};
  if (!in->open) return offence(Errc::bad_input, "a PSB map out of turn");
  auto raw = raw_of(m.payload(), stored);
  if (!raw.ok()) return bad_payload(raw.error());
  const size_t n = raw->size() / sizeof(PsbEntry);
  if (raw->size() % sizeof(PsbEntry) != 0 || m.entries() > PsbScanner::kMaxEntries || m.first() > m.entries() ||
      n > m.entries() - m.first())
    return bad_payload({Errc::bad_input, "a PSB map that is cut or too long", {}, {}});
  if (in->next_psb.size() > bundle::kMaxStreams || m.first() != in->next_psb[m.stream()])
    return offence(Errc::bad_input, "a part of a PSB map out of turn");
  StoreJob job;
  job.map.entries.resize(n);
  std::memcpy(job.map.entries.data(), raw->data(), raw->size());
  job.map.mapped_bytes = m.mapped_bytes();
  for (size_t i = 0; i < n; ++i)
    if (job.map.entries[i].offset >= m.mapped_bytes() ||
        (i > 0 && job.map.entries[i].offset <= job.map.entries[i - 1].offset))
      return bad_payload({Errc::bad_input, "a PSB map whose offsets do not ascend", {}, {}});
  in->next_psb[m.stream()] += static_cast<uint32_t>(n);
  job.kind = StoreJob::Kind::psb_map;
  job.handle = in->handle;
  job.number = m.stream();
  job.cost = cost_of(m.payload(), stored.size());
  store->push(std::move(job));
  return {{}, false, true};
}

Outcome Receiver::Impl::chunk(Peer& peer, const wire::Chunk& c, ByteSpan stored) {
  Incoming* in = find(peer, c.snapshot());
  if (!in) return {};
  if (!in->open) return offence(Errc::bad_input, "a chunk out of turn");
  if (c.number() >= in->have.size())
    return offence(Errc::bad_input, "a chunk that the directory does not have", std::to_string(c.number()));
  const bundle::ChunkHeader& h = in->offer.directory.chunks[c.number()].header;
  if (c.id() != h.id || c.offset() != h.offset || c.payload().raw_bytes() != h.raw_bytes ||
      c.payload().checksum() != h.raw_checksum || c.payload().zstd() != ((h.flags & bundle::kZstd) != 0) ||
      stored.size() != h.stored_bytes)
    return bad_payload({Errc::bad_input, "a chunk that is not the one that the directory describes", {}, {}});
  if (in->have[c.number()]) {
    ++counters.duplicate_chunks;
    in->written.add_chunks(c.number());
    return {};
  }
  auto raw = decoder.decode(h, stored);
  if (!raw.ok()) {
    // Perhaps the host's disk; its other snapshots are not to suffer.
    ++counters.bad_payloads;
    refuse(peer, c.snapshot().incident(), raw.error(), 30000);
    return {};
  }
  in->have[c.number()] = true;
  StoreJob job;
  job.kind = StoreJob::Kind::write;
  job.handle = in->handle;
  job.number = c.number();
  job.stored.assign(stored.begin(), stored.end());
  job.raw = std::move(*raw);
  job.cost = cost_of(c.payload(), stored.size());
  store->push(std::move(job));
  return {{}, false, true};
}

void Receiver::Impl::answer(Peer& peer, const wire::Envelope& e) {
  const std::string& incident = e.has_frozen()    ? e.frozen().incident()
                                : e.has_durable() ? e.durable().incident()
                                                  : e.problem().incident();
  if (!is_name(incident)) {
    if (e.has_problem()) say("host " + peer.host + " says: " + error_of(e.problem()).what);
    return;
  }
  const auto order = orders.find({peer.host, incident});
  if (e.has_frozen()) {
    if (order != orders.end() && std::exchange(order->second.frozen, true)) return;  // told again after a new session
    std::vector<CpuCover> cpus;
    for (const wire::CpuRange& c : e.frozen().cpus())
      cpus.push_back({CpuId(c.cpu()), Tsc(c.from_tsc()), Tsc(c.to_tsc())});
    if (events.frozen) events.frozen(peer.host, incident, cpus);
  } else if (e.has_durable()) {
    if (order != orders.end()) orders.erase(order);
    if (events.durable) events.durable(peer.host, incident, e.durable().bytes());
  } else {
    if (order != orders.end()) orders.erase(order);
    if (events.freeze_failed) events.freeze_failed(peer.host, incident, error_of(e.problem()));
  }
}

void Receiver::Impl::status(Peer& peer, const wire::Status& s) {
  HostStatus& status = known[peer.host].status;
  status.state = s.state().substr(0, kMaxNameBytes);
  status.spool_bytes = s.spool_bytes();
  status.spool_limit_bytes = s.spool_limit_bytes();
  status.snapshots_waiting = s.snapshots_waiting();
  status.notes.clear();
  for (const std::string& n : s.notes())
    if (status.notes.size() < 64) status.notes.push_back(n.substr(0, 512));
  CreditAccount& credit = *peer.credit;
  credit.waiting = s.wants_credit();
  if (!s.wants_credit()) pool.give_back(credit);
  credit.epoch = s.epoch();
  send_credit(peer);  // the answer to the heartbeat, whether it grants anything or not
}

void Receiver::Impl::finished(StoreResult& r) {
  using Kind = StoreJob::Kind;
  const auto owner = owners.find(r.handle);
  HC_CHECK(owner != owners.end());
  pool.store(*owner->second.credit, r.cost);
  if (r.kind == Kind::close) {
    owners.erase(owner);
    return;
  }
  const std::string host = owner->second.host, incident = owner->second.incident;
  if (r.kind == Kind::write && r.outcome.ok()) {
    ++counters.chunks;
    counters.raw_bytes += r.raw_bytes;
    counters.stored_bytes += r.stored_bytes;
  }
  const bool committed = r.kind == Kind::commit && r.outcome.ok();
  if (committed) {
    ++counters.committed;
    if (events.committed) events.committed(host, incident);
  }
  const auto p = peers.find(owner->second.routing);
  Incoming* in = nullptr;
  if (p != peers.end() && !p->second.dead) {
    const auto it = p->second.incoming.find(incident);
    if (it != p->second.incoming.end() && it->second.handle == r.handle) in = &it->second;
  }
  if (!in) return;  // its session ended; the next one learns what was stored
  Peer& peer = p->second;
  if (!r.outcome.ok()) {
    const Error& e = r.outcome.error();
    const bool for_good =
        (r.kind == Kind::open && e.code == Errc::usage) || (r.kind == Kind::commit && e.code == Errc::corrupt);
    return refuse(peer, incident, e, for_good ? 0 : kRetryLater);
  }
  switch (r.kind) {
    case Kind::open:
      return opened(peer, *in, r);
    case Kind::write: {
      in->written.add_chunks(r.number);
      if (--in->to_write > 0) return;
      StoreJob job;
      job.kind = Kind::commit;
      job.handle = in->handle;
      return store->push(std::move(job));
    }
    case Kind::commit:
      return tell_committed(peer, *in);
    default:
      return;
  }
}

void Receiver::Impl::opened(Peer& peer, Incoming& in, StoreResult& r) {
  const std::string incident = in.offer.incident;
  if (r.committed) {
    ++counters.committed_before;
    tell_committed(peer, in);
    // The server may have been killed between the commit and the word about it.
    if (events.committed) events.committed(peer.host, incident);
    return;
  }
  in.open = true;
  in.have = std::move(r.have);
  wire::Envelope e;
  wire::Have& have = *e.mutable_have();
  have.mutable_snapshot()->set_incident(incident);
  have.mutable_snapshot()->set_host(peer.host);
  // What does not fit in one message is sent once more by the host, and found to be a duplicate.
  constexpr int kMostRanges = 16384;
  for (uint32_t i = 0; i < in.have.size() && have.first_size() < kMostRanges;) {
    uint32_t end = i;
    while (end < in.have.size() && in.have[end]) ++end;
    if (end > i) {
      have.add_first(i);
      have.add_count(end - i);
    }
    i = end + 1;
  }
  in.to_write = static_cast<uint32_t>(std::count(in.have.begin(), in.have.end(), false));
  send(peer, e);
  if (in.to_write > 0) return;
  StoreJob job;
  job.kind = StoreJob::Kind::commit;
  job.handle = in.handle;
  store->push(std::move(job));
}

void Receiver::Impl::tell_committed(Peer& peer, const Incoming& in) {
  wire::Envelope e;
  wire::Acknowledged& a = *e.mutable_acknowledged();
  a.mutable_snapshot()->set_incident(in.offer.incident);
  a.mutable_snapshot()->set_host(peer.host);
  a.set_committed(true);
  a.set_digest(std::string(in.offer.digest.begin(), in.offer.digest.end()));
  close(peer, a.snapshot().incident());
  send(peer, e);
}

/// retry_ms 0: for good.
void Receiver::Impl::refuse(Peer& peer, const std::string& incident, const Error& error, uint64_t retry_ms) {
  ++(retry_ms == 0 ? counters.refused_snapshots : counters.failed_snapshots);
  say("host " + peer.host + ", incident " + incident + ": " + error.what);
  wire::Envelope e;
  put_error(error, *e.mutable_problem());
  e.mutable_problem()->mutable_snapshot()->set_incident(incident);
  e.mutable_problem()->mutable_snapshot()->set_host(peer.host);
  e.mutable_problem()->set_retry_after_ms(retry_ms);
  const std::string name = incident;  // may be the closed one's own
  close(peer, name);
  send(peer, e);
  if (events.refused) events.refused(peer.host, name, error);
}

void Receiver::Impl::close(Peer& peer, const std::string& incident) {
  const auto it = peer.incoming.find(incident);
  if (it == peer.incoming.end()) return;
  directories -= it->second.taken;
  if (it->second.handle != 0) {
    StoreJob job;
    job.kind = StoreJob::Kind::close;
    job.handle = it->second.handle;
    store->push(std::move(job));
  }
  peer.incoming.erase(it);
}

void Receiver::Impl::send(Peer& peer, wire::Envelope& e) {
  e.set_session(peer.session);
  bool failed = false;
  send_to(peer.routing, e, &failed);
  if (failed) peer.dead = true;
}

/// Never waits: a host that does not read what it is told loses its session, not the server its time.
void Receiver::Impl::send_to(const std::string& routing, const wire::Envelope& e, bool* failed) {
  try {
    const auto sent = router.send(zmq::buffer(routing), zmq::send_flags::sndmore | zmq::send_flags::dontwait);
    if (sent) {
      const std::string frame = control_frame(e);
      router.send(zmq::buffer(frame), zmq::send_flags::dontwait);
    } else if (failed) {
      *failed = true;
    }
  } catch (const zmq::error_t&) {  // EHOSTUNREACH: the connection is gone
    if (failed) *failed = true;
  }
}

void Receiver::Impl::send_credit(Peer& peer) {
  if (peer.credit->waiting) pool.top_up(*peer.credit);
  wire::Envelope e;
  e.mutable_credit()->set_limit_bytes(peer.credit->granted);
  e.mutable_credit()->set_epoch(peer.credit->epoch);
  send(peer, e);
}

/// What became free goes round, beginning after the host that was served last.
void Receiver::Impl::share_credit() {
  if (peers.empty()) return;
  auto it = peers.upper_bound(last_served);
  for (size_t n = 0; n < peers.size(); ++n, ++it) {
    if (it == peers.end()) it = peers.begin();
    Peer& peer = it->second;
    if (peer.dead || !peer.credit->waiting || !pool.top_up(*peer.credit)) continue;
    last_served = it->first;
    send_credit(peer);
  }
}

void Receiver::Impl::tell_written(Peer& peer) {
  for (auto& [incident, in] : peer.incoming) {
    if (in.written.chunks_size() == 0) continue;
    wire::Envelope e;
    *e.mutable_acknowledged() = std::move(in.written);
    in.written.Clear();
    e.mutable_acknowledged()->mutable_snapshot()->set_incident(incident);
    e.mutable_acknowledged()->mutable_snapshot()->set_host(peer.host);
    send(peer, e);
  }
}

void Receiver::Impl::tell_orders_and_wants() {
  const auto now = Clock::now();
  for (auto& [routing, peer] : peers) {
    if (peer.dead) continue;
    for (auto it = orders.lower_bound({peer.host, ""}); it != orders.end() && it->first.first == peer.host; ++it) {
      Order& order = it->second;
      if (std::exchange(order.told_session, peer.session) == peer.session) continue;
      wire::Envelope e;
      e.mutable_freeze()->set_incident(it->first.second);
      e.mutable_freeze()->set_reason(order.reason);
      e.mutable_freeze()->set_age_ns(static_cast<uint64_t>(std::chrono::nanoseconds(now - order.given).count()));
      send(peer, e);
    }
    for (const Wanted& w : wanted) {
      if (w.host != peer.host) continue;
      wire::Envelope e;
      *e.mutable_want() = w.want;
      send(peer, e);
    }
  }
  wanted.clear();
}

/// Forgets sessions that ended.
void Receiver::Impl::bury() {
  for (auto it = peers.begin(); it != peers.end();) {
    Peer& peer = it->second;
    if (!peer.dead) {
      ++it;
      continue;
    }
    while (!peer.incoming.empty()) close(peer, std::string(peer.incoming.begin()->first));
    pool.give_back(*peer.credit);
    it = peers.erase(it);
  }
}

Receiver::Receiver(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Receiver::~Receiver() {
  {
    std::lock_guard lock(impl_->state);
    impl_->stop = true;
  }
  impl_->wake.wake();
  if (impl_->thread.joinable()) impl_->thread.join();
  impl_->store.reset();   // the sink is not called after this
  impl_->router.close();  // before the key check ends
  impl_->zap.reset();
}

Result<std::unique_ptr<Receiver>> Receiver::start(ReceiverConfig config, SnapshotSink& sink, ReceiverEvents events) {
  auto impl = std::make_unique<Impl>(std::move(config), std::move(events));
  std::unique_ptr<Receiver> receiver(new Receiver(std::move(impl)));
  HC_TRY_VOID(receiver->impl_->start(sink));
  return receiver;
}

std::string Receiver::endpoint() const { return impl_->endpoint; }

Result<void> Receiver::freeze(const std::string& host, const std::string& incident, const std::string& reason,
                              std::chrono::nanoseconds age) {
  if (!is_name(host) || !is_name(incident))
    return Error{Errc::usage, "cannot order a freeze: the host or the incident is not named as it should be",
                 "host '" + host.substr(0, kMaxNameBytes) + "', incident '" + incident.substr(0, kMaxNameBytes) + "'",
                 kNameRule};
  {
    std::lock_guard lock(impl_->state);
    size_t open = 0;
    for (auto it = impl_->orders.lower_bound({host, ""}); it != impl_->orders.end() && it->first.first == host; ++it)
      ++open;
    if (open >= kMaxOrders)
      return Error{Errc::too_large, "cannot order a freeze: host " + host + " has not answered those before",
                   std::to_string(open) + " orders are open", "see whether hindcastd runs there"};
    Order order;
    order.reason = reason.substr(0, 4096);
    order.given = Clock::now() - age;
    impl_->orders.emplace(std::pair{host, incident}, std::move(order));
  }
  impl_->wake.wake();
  return {};
}

void Receiver::cancel_freeze(const std::string& incident) {
  std::lock_guard lock(impl_->state);
  std::erase_if(impl_->orders, [&](const auto& o) { return o.first.second == incident; });
}

void Receiver::want(const std::string& host, const std::string& incident, uint32_t stream, uint32_t image,
                    uint64_t offset, uint64_t bytes) {
  Wanted w{host, {}};
  w.want.set_incident(incident);
  w.want.set_stream(stream);
  w.want.set_image(image);
  w.want.set_offset(offset);
  w.want.set_bytes(bytes);
  {
    std::lock_guard lock(impl_->state);
    impl_->wanted.push_back(std::move(w));
  }
  impl_->wake.wake();
}

bool Receiver::allow(const std::string& host, const std::string& key) { return impl_->allowed.add(host, key); }

bool Receiver::revoke(const std::string& key) {
  const bool was = impl_->allowed.revoke(key);
  std::lock_guard lock(impl_->state);
  for (auto& [routing, peer] : impl_->peers)
    if (peer.key == key) peer.dead = true;
  return was;
}

void Receiver::replace_allowed(AllowList list) {
  impl_->allowed.replace(std::move(list));
  std::lock_guard lock(impl_->state);
  for (auto& [routing, peer] : impl_->peers)
    if (impl_->allowed.host_of(peer.key) != peer.host) peer.dead = true;
}

ReceiverCounters Receiver::counters() const {
  std::lock_guard lock(impl_->state);
  ReceiverCounters c = impl_->counters;
  c.refused_keys = impl_->zap->refused();
  return c;
}

std::vector<HostView> Receiver::hosts() const {
  std::lock_guard lock(impl_->state);
  std::map<std::string, HostView> views;
  for (const auto& [host, k] : impl_->known) {
    HostView& v = views[host];
    v.program = k.program;
    v.capabilities = k.capabilities;
    v.status = k.status;
    v.heard_ago = Clock::now() - k.heard;
  }
  for (const auto& [key, order] : impl_->orders) views[key.first];
  for (const auto& [routing, peer] : impl_->peers) {
    if (peer.dead) continue;
    HostView& v = views[peer.host];
    v.connected = true;
    v.open_snapshots = static_cast<uint32_t>(peer.incoming.size());
    v.bytes_under_way = peer.credit->outstanding();
  }
  std::vector<HostView> out;
  for (auto& [host, v] : views) {
    v.host = host;
    out.push_back(std::move(v));
  }
  return out;
}

}  // namespace hindcast::transport
