#include "capture/sim/channel_server.h"

#include <cstdlib>
#include <vector>

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

namespace hindcast::sim {

Result<ChannelServer> ChannelServer::listen() {
  ChannelServer s;
  const char* tmp = std::getenv("TMPDIR");
  std::string pattern = std::string(tmp && *tmp ? tmp : "/tmp") + "/hindcast-sim-XXXXXX";
  if (pattern.size() > 80) pattern = "/tmp/hindcast-sim-XXXXXX";  // a socket's path is limited to 107 characters
  if (!::mkdtemp(pattern.data())) return errno_error("cannot make a directory for the simulator's channel", pattern);
  s.directory_ = pattern;
  s.path_ = pattern + "/channel";
  s.socket_ = Fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_un a{};
  a.sun_family = AF_UNIX;
  std::memcpy(a.sun_path, s.path_.c_str(), s.path_.size() + 1);
  if (!s.socket_.valid() || ::bind(s.socket_.get(), reinterpret_cast<const sockaddr*>(&a), sizeof a) != 0 ||
      ::listen(s.socket_.get(), 256) != 0)
    return errno_error("cannot make the simulator's channel", s.path_);
  return s;
}

ChannelServer& ChannelServer::operator=(ChannelServer&& o) noexcept {
  remove_files();
  directory_ = std::exchange(o.directory_, {});
  path_ = std::exchange(o.path_, {});
  socket_ = std::move(o.socket_);
  peers_ = std::move(o.peers_);
  next_id_ = o.next_id_;
  refused_ = o.refused_;
  return *this;
}

ChannelServer::~ChannelServer() { remove_files(); }

void ChannelServer::remove_files() {
  if (directory_.empty()) return;
  ::unlink(path_.c_str());
  ::rmdir(directory_.c_str());
  directory_.clear();
}

void ChannelServer::accept_all() {
  for (;;) {
    Fd fd(::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!fd.valid()) return;
    ucred who{};
    socklen_t size = sizeof who;
    if (peers_.size() >= kMaxConnections || ::getsockopt(fd.get(), SOL_SOCKET, SO_PEERCRED, &who, &size) != 0) {
      ++refused_;
      continue;
    }
    peers_.emplace(next_id_++, Peer{std::move(fd), who.pid});
  }
}

/// False when the connection has ended, by either side.
bool ChannelServer::read_all(uint64_t id, Peer& peer, const std::function<void(Incoming&)>& sink) {
  for (;;) {
    Incoming in;
    in.connection = id;
    iovec io{&in.message, sizeof in.message};
    alignas(cmsghdr) char control[CMSG_SPACE(4 * sizeof(int))];
    msghdr m{};
    m.msg_iov = &io;
    m.msg_iovlen = 1;
    m.msg_control = control;
    m.msg_controllen = sizeof control;
    const ssize_t n = ::recvmsg(peer.fd.get(), &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (n < 0) return errno == EAGAIN || errno == EINTR;
    if (n == 0) return false;
    size_t fds = 0;
    for (cmsghdr* c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
      if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
      for (size_t i = 0; i < (c->cmsg_len - CMSG_LEN(0)) / sizeof(int); ++i) {
        int fd;
        std::memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
        in.fd = Fd(fd);
        ++fds;
      }
    }
    const Message& g = in.message;
    const bool wants_fd = g.kind == MessageKind::process || g.kind == MessageKind::thread;
    const bool good = n == static_cast<ssize_t>(sizeof g) && !(m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) &&
                      g.magic == kChannelMagic && g.version == kChannelVersion && g.kind >= MessageKind::process &&
                      g.kind <= MessageKind::mapping && g.pid == peer.pid && fds == (wants_fd ? 1u : 0u) &&
                      // what is mapped here must not be taken away: reading it would kill us
                      (!wants_fd || ::fcntl(in.fd.get(), F_ADD_SEALS, F_SEAL_SHRINK) == 0);
    if (!good) {
      ++refused_;
      return false;
    }
    sink(in);
  }
}

void ChannelServer::poll(int timeout_ms, const std::function<void(Incoming&)>& sink) {
  std::vector<pollfd> fds{{socket_.get(), POLLIN, 0}};
  for (const auto& [id, peer] : peers_) fds.push_back({peer.fd.get(), POLLIN, 0});
  if (::poll(fds.data(), fds.size(), timeout_ms) <= 0) return;
  accept_all();
  for (auto it = peers_.begin(); it != peers_.end();) {
    if (read_all(it->first, it->second, sink)) {
      ++it;
      continue;
    }
    Incoming end;
    end.connection = it->first;
    end.ended = true;
    it = peers_.erase(it);
    sink(end);
  }
}

}  // namespace hindcast::sim
