// SPDX-License-Identifier: MIT
#include "capture/sim/plugin/courier.h"

#include <cerrno>
#include <csignal>
#include <cstring>
#include <thread>

#include <linux/close_range.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

namespace hindcast::sim {
namespace {

int connect_to(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return -1;
  std::memcpy(address.sun_path, path.c_str(), path.size());
  const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0) return fd;
  close(fd);
  return -1;
}

}  // namespace

bool Courier::start(const std::string& socket_path) {
  path_ = socket_path;
  // The thread must never take a signal that is meant for the program.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_t thread;
  const auto entry = [](void* self) -> void* {
    static_cast<Courier*>(self)->thread_main();
    return nullptr;
  };
  const bool made = pthread_create(&thread, nullptr, entry, this) == 0;
  if (made) pthread_detach(thread);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (!made) return false;
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return started_; });
  return socket_ >= 0;
}

void Courier::thread_main() {
  pthread_setname_np(pthread_self(), "hindcast-sim");
  const bool apart = close_range(0, ~0u, CLOSE_RANGE_UNSHARE) == 0;
  if (apart) socket_ = connect_to(path_);
  std::unique_lock lock(mutex_);
  started_ = true;
  changed_.notify_all();
  if (socket_ < 0) return;
  for (;;) {
    changed_.wait(lock, [&] { return errand_ != nullptr; });
    (*errand_)();
    errand_ = nullptr;
    done_ = true;
    changed_.notify_all();
  }
}

void Courier::run(const std::function<void()>& errand) {
  std::lock_guard one(callers_);
  std::unique_lock lock(mutex_);
  done_ = false;
  errand_ = &errand;
  changed_.notify_all();
  changed_.wait(lock, [&] { return done_; });
}

bool Courier::send_now(const Message& message, int fd) {
  iovec part{const_cast<Message*>(&message), sizeof message};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  if (fd >= 0) {
    header.msg_control = control;
    header.msg_controllen = sizeof control;
    cmsghdr* c = CMSG_FIRSTHDR(&header);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(c), &fd, sizeof fd);
  }
  ssize_t sent;
  do {
    sent = sendmsg(socket_, &header, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  return sent == static_cast<ssize_t>(sizeof message);
}

void* Courier::send_shared(const Message& message, size_t bytes, const std::function<void(void*)>& fill) {
  void* mapping = nullptr;
  run([&] {
    const int fd = memfd_create("hindcast-sim", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) return;
    void* p = MAP_FAILED;
    if (ftruncate(fd, static_cast<off_t>(bytes)) == 0) {
      p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    }
    if (p != MAP_FAILED) {
      fill(p);
      if (send_now(message, fd)) {
        mapping = p;
      } else {
        munmap(p, bytes);
      }
    }
    close(fd);
  });
  return mapping;
}

bool Courier::send(const Message& message) {
  bool sent = false;
  run([&] { sent = send_now(message, -1); });
  return sent;
}

bool Courier::alive() {
  bool alive = false;
  run([&] {
    pollfd p{socket_, POLLIN, 0};
    alive = poll(&p, 1, 0) >= 0 && (p.revents & (POLLHUP | POLLERR | POLLNVAL)) == 0;
  });
  return alive;
}

}  // namespace hindcast::sim
