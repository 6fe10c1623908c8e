#include "tests/support/channel_drain.h"

#include <algorithm>
#include <cstring>

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

namespace hindcast::test {

using sim::Word;

Result<std::unique_ptr<ChannelDrain>> ChannelDrain::start(const std::string& path, bool keep_words) {
  auto drain = std::make_unique<ChannelDrain>();
  drain->path_ = path;
  drain->keep_ = keep_words;
  drain->listener_ = Fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return Error{Errc::usage, "socket path too long: " + path, {}, {}};
  std::memcpy(address.sun_path, path.c_str(), path.size());
  unlink(path.c_str());
  if (bind(drain->listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      listen(drain->listener_.get(), 128) != 0)
    return errno_error("cannot listen at", path);
  drain->thread_ = std::thread([d = drain.get()] { d->loop(); });
  return drain;
}

ChannelDrain::~ChannelDrain() {
  finish();
  unlink(path_.c_str());
}

std::vector<std::unique_ptr<ChannelDrain::Process>>& ChannelDrain::finish() {
  stop_ = true;
  if (thread_.joinable()) thread_.join();
  return processes_;
}

void ChannelDrain::loop() {
  for (bool last_round = false;;) {
    const bool stopping = stop_;
    for (;;) {
      Fd fd(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
      if (!fd.valid()) break;
      processes_.push_back(std::make_unique<Process>());
      processes_.back()->socket = std::move(fd);
    }
    for (auto& p : processes_) {
      bool gone = !p->socket.valid();
      while (!gone && read_message(*p)) {
      }
      if (gone) continue;
      gone = !p->socket.valid();
      for (auto& t : p->threads) take(*p, *t, gone);
      if (gone) read_defs(*p);
    }
    if (last_round) return;
    last_round = stopping;
    if (!last_round) usleep(200);
  }
}

// False when there is none now; closes the socket at the connection's end.
bool ChannelDrain::read_message(Process& process) {
  sim::Message m;
  iovec part{&m, sizeof m};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  const ssize_t n = recvmsg(process.socket.get(), &header, MSG_CMSG_CLOEXEC);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return false;
  if (n != static_cast<ssize_t>(sizeof m) || m.magic != sim::kChannelMagic) {
    process.socket = Fd();
    return false;
  }
  Fd fd;
  if (const cmsghdr* c = CMSG_FIRSTHDR(&header)) {
    int raw;
    std::memcpy(&raw, CMSG_DATA(c), sizeof raw);
    fd = Fd(raw);
  }
  const auto map = [&](Mapping& to, int prot) {
    struct stat st {};
    fstat(fd.get(), &st);
    auto mapped = Mapping::map(fd, static_cast<size_t>(st.st_size), prot, MAP_SHARED);
    HC_CHECK(mapped.ok());
    to = std::move(mapped).value();
  };
  switch (m.kind) {
    case sim::MessageKind::process:
      process.hello = m;
      map(process.defs_map, PROT_READ);
      process.first_id = static_cast<const sim::DefsHeader*>(process.defs_map.data())->first_id;
      for (const auto& other : processes_) {
        if (other.get() != &process && other->hello.pid == m.pid) ++process.image;
      }
      for (auto other = processes_.rbegin(); m.value != 0 && other != processes_.rend(); ++other) {
        if (static_cast<uint64_t>((*other)->hello.pid) != m.value || other->get() == &process) continue;
        read_defs(**other);
        process.defs = (*other)->defs;
        break;
      }
      break;
    case sim::MessageKind::thread:
      process.threads.push_back(std::make_unique<Thread>());
      process.threads.back()->tid = m.tid;
      map(process.threads.back()->ring, PROT_READ | PROT_WRITE);
      break;
    case sim::MessageKind::code:
    case sim::MessageKind::mapping:
      process.code_messages.push_back(m);
      break;
    case sim::MessageKind::exec:
      process.exec_announced = true;
      process.exec_followed = m.value == 0;
      break;
  }
  return true;
}

void ChannelDrain::take(Process&, Thread& t, bool process_gone) {
  if (!t.ring.data()) return;
  auto* h = static_cast<sim::RingHeader*>(t.ring.data());
  const auto* words = reinterpret_cast<const uint32_t*>(t.ring.bytes().data() + sim::kPageBytes);
  const bool closed = h->closed.load(std::memory_order_acquire) != 0;
  uint64_t to = h->written.load(std::memory_order_acquire);
  if (process_gone && !closed) to = h->position.load(std::memory_order_acquire);
  uint64_t from = h->taken.load(std::memory_order_relaxed);
  t.words_seen += to - from;
  for (; keep_ && from < to; ++from) t.words.push_back(words[from & (h->capacity - 1)]);
  h->taken.store(to, std::memory_order_release);
  t.closed = closed;
  if (closed || process_gone) t.ring = Mapping();
}

void ChannelDrain::read_defs(Process& p) {
  if (!p.defs_map.data()) return;
  const auto* h = static_cast<const sim::DefsHeader*>(p.defs_map.data());
  const uint8_t* at = p.defs_map.bytes().data() + sim::kPageBytes;
  const uint8_t* end = at + h->used.load(std::memory_order_acquire);
  while (at < end) {
    sim::BlockDef def;
    std::memcpy(&def, at, sizeof def);
    const uint8_t* bytes = at + sizeof def;
    p.defs[def.id] = {def.ip, {bytes, bytes + def.bytes}, {bytes + def.bytes, bytes + def.bytes + def.instructions}};
    at += sizeof def + (size_t{def.bytes} + def.instructions + 7) / 8 * 8;
  }
}

std::string ChannelDrain::expand(const Process& process, const Thread& thread,
                                 const std::function<void(uint64_t ip)>& ran) {
  const auto& w = thread.words;
  uint64_t tsc = 0;
  size_t untimed = 0;
  for (size_t i = 0; i < w.size(); ++i) {
    if (sim::is_special(w[i])) {
      const Word type = sim::special_type(w[i]);
      if (type == Word::cut) return "a cut that follows no block, at word " + std::to_string(i);
      if (type == Word::lost) return "words were lost at word " + std::to_string(i);
      const uint32_t more = sim::words_after(type);
      if (w.size() - i <= more) return "the stream ends inside a word";
      const uint64_t t = w[i + 1] | uint64_t{w[i + 2]} << 32;
      if (t < tsc) return "time goes backwards at word " + std::to_string(i);
      tsc = t;
      untimed = 0;
      i += more;
      continue;
    }
    if (++untimed > sim::kMaxUntimedWords) return "too long without a time";
    const auto def = process.defs.find(w[i]);
    if (def == process.defs.end()) return "unknown block " + std::to_string(w[i]);
    size_t n = def->second.lengths.size();
    if (i + 1 == w.size()) {
      if (!thread.closed) break;  // killed: how far it ran is not known
      return "a block after the end";
    }
    if (sim::is_special(w[i + 1]) && sim::special_type(w[i + 1]) == Word::cut) {
      const uint32_t cut = sim::special_low(w[++i]);
      if (cut >= n) return "a cut of nothing";
      n = cut;
    }
    uint64_t ip = def->second.ip;
    for (size_t k = 0; k < n; ++k) {
      ran(ip);
      ip += def->second.lengths[k];
    }
  }
  return {};
}

}  // namespace hindcast::test
