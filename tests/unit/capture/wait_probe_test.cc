// The BPF programs on the real kernel: what real programs do comes out as the records that it should.
#include "capture/wait_probe.h"

#include <arpa/inet.h>
#include <csignal>
#include <cstring>
#include <fstream>
#include <functional>
#include <map>
#include <optional>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/futex.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "capture/drop_watch.h"
#include "hindcast/wait_record.h"
#include "tests/unit/capture/scratch.h"

namespace hindcast::capture {
namespace {

/// Forks; the child stops itself, runs `body` when let go, and ends with what it returns.
class Program {
 public:
  explicit Program(const std::function<int()>& body) {
    pid_ = ::fork();
    HC_CHECK(pid_ >= 0);
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      ::raise(SIGSTOP);
      ::_exit(body());
    }
    int status = 0;
    HC_CHECK(::waitpid(pid_, &status, WUNTRACED) == pid_ && WIFSTOPPED(status));
    pidfd_ = Fd(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)));
  }
  ~Program() {
    if (!ended_) {
      ::kill(pid_, SIGKILL);
      wait();
    }
  }
  void let_go() { HC_CHECK(::kill(pid_, SIGCONT) == 0); }
  int wait() {
    int status = 0;
    HC_CHECK(::waitpid(pid_, &status, 0) == pid_);
    ended_ = true;
    return status;
  }
  pid_t pid() const { return pid_; }
  const Fd& pidfd() const { return pidfd_; }

 private:
  pid_t pid_ = -1;
  Fd pidfd_;
  bool ended_ = false;
};

/// All records of some run.
struct Seen {
  std::vector<std::vector<uint8_t>> bytes;

  template <class T>
  std::vector<T> all(pid_t tid = 0) const {
    std::vector<T> out;
    for (const auto& b : bytes) {
      wait::Reader reader(b);
      wait::Record record;
      EXPECT_TRUE(reader.next(record));
      const auto one = wait::as<T>(record);
      if (one && (tid == 0 || one->header.tid == tid)) out.push_back(*one);
    }
    return out;
  }
  std::vector<wait::Message> messages(wait::Action action) const {
    auto out = all<wait::Message>();
    std::erase_if(out, [&](const wait::Message& m) { return m.action != action; });
    return out;
  }
};

class WaitProbeTest : public ::testing::Test {
 protected:
  void open(const WaitProbeConfig& config = {}) {
    auto probe = WaitProbe::open(config);
    if (!probe && ::geteuid() != 0) GTEST_SKIP() << probe.error().text();
    ASSERT_TRUE(probe.ok()) << probe.error().text();
    probe_.emplace(std::move(*probe));
  }
  void drain() {
    probe_->drain([this](ByteSpan r) { seen_.bytes.emplace_back(r.begin(), r.end()); });
  }
  /// Runs it under the programs; its wait status.
  int run(const std::function<int()>& body) {
    Program program(body);
    begun_ = monotonic_ns();
    EXPECT_TRUE(probe_->follow(program.pidfd()).ok());
    program.let_go();
    pid_ = program.pid();
    const int status = program.wait();
    ended_ = monotonic_ns();
    drain();
    for (const uint64_t n : probe_->dropped()) EXPECT_EQ(n, 0u);
    return status;
  }
  void within(const wait::Header& h, uint64_t begun) const {
    EXPECT_GE(begun, begun_);
    EXPECT_GE(h.time, begun);
    EXPECT_LE(h.time, ended_);
  }

  std::optional<WaitProbe> probe_;
  Seen seen_;
  pid_t pid_ = 0;
  uint64_t begun_ = 0, ended_ = 0;
};

TEST_F(WaitProbeTest, APipeTellsWhoSleptOnItAndWhoWokeWhom) {
  open();
  if (!probe_) return;
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  struct stat inode {};
  ASSERT_EQ(::fstat(ends[0], &inode), 0);
  const int status = run([&] {
    const pid_t reader = ::fork();
    if (reader == 0) {
      char text[8];
      ::_exit(::read(ends[0], text, sizeof text) == 5 ? 0 : 1);
    }
    ::usleep(50000);
    if (::write(ends[1], "hello", 5) != 5) return 1;
    int end = 0;
    ::waitpid(reader, &end, 0);
    return end;
  });
  ASSERT_EQ(status, 0);
  const auto sent = seen_.messages(wait::kSend), received = seen_.messages(wait::kReceive);
  ASSERT_EQ(sent.size(), 1u);
  ASSERT_EQ(received.size(), 1u);
  const pid_t reader = received[0].header.tid;
  EXPECT_NE(reader, pid_);
  EXPECT_EQ(sent[0].header.tid, pid_);
  for (const wait::Message& m : {sent[0], received[0]}) {
    EXPECT_EQ(m.on.kind, wait::kPipeObject);
    EXPECT_EQ(m.on.id, inode.st_ino);
    EXPECT_EQ(m.result, 5);
    EXPECT_EQ(m.flags, 0);
    within(m.header, m.begun);
  }
  EXPECT_EQ(sent[0].fd, ends[1]);
  EXPECT_EQ(received[0].fd, ends[0]);
  EXPECT_LT(received[0].begun, sent[0].begun);
  EXPECT_GT(received[0].header.time, sent[0].begun);
  uint64_t slept = 0, woken = 0;
  for (const wait::Sleep& s : seen_.all<wait::Sleep>(reader))
    if (s.on.kind == wait::kPipeObject && s.on.id == inode.st_ino) {
      EXPECT_EQ(s.syscall, SYS_read);
      EXPECT_EQ(s.begun, received[0].begun);
      EXPECT_EQ(s.state & 3, 1u);
      slept = s.header.time;
    }
  for (const wait::Wake& w : seen_.all<wait::Wake>(pid_))
    if (w.woken_tid == reader && w.header.time > sent[0].begun && w.header.time < sent[0].header.time) {
      EXPECT_EQ(w.woken_pid, reader);
      EXPECT_EQ(w.flags, 0u) << "the writer itself woke it";
      woken = w.header.time;
    }
  EXPECT_GT(slept, received[0].begun);
  EXPECT_GT(woken, slept);
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST_F(WaitProbeTest, AFutexTellsItsAddressAndWhoHoldsItUp) {
  open();
  if (!probe_) return;
  auto* word =
      static_cast<uint32_t*>(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(word, MAP_FAILED);
  const int status = run([&] {
    std::thread sleeper([&] { ::syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, 0, nullptr, nullptr, 0); });
    ::usleep(50000);
    const long woken = ::syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 7, nullptr, nullptr, 0);
    sleeper.join();
    return woken == 1 ? 0 : 1;
  });
  ASSERT_EQ(status, 0);
  std::optional<wait::Futex> waited, woke;
  for (const wait::Futex& f : seen_.all<wait::Futex>()) {
    if (f.address != reinterpret_cast<uint64_t>(word)) continue;
    ((f.op & FUTEX_CMD_MASK) == FUTEX_WAIT ? waited : woke) = f;
    EXPECT_TRUE(f.op & FUTEX_PRIVATE_FLAG);
    EXPECT_EQ(f.header.pid, pid_);
    EXPECT_EQ(f.syscall, SYS_futex);
    within(f.header, f.begun);
  }
  ASSERT_TRUE(waited && woke);
  EXPECT_EQ(woke->result, 1);
  EXPECT_EQ(woke->value, 7u);
  EXPECT_EQ(woke->header.tid, pid_);
  EXPECT_EQ(waited->result, 0);
  EXPECT_NE(waited->header.tid, pid_);
  size_t slept = 0, woken = 0;
  for (const wait::Sleep& s : seen_.all<wait::Sleep>(waited->header.tid)) {
    if (s.on.kind != wait::kFutexObject || s.on.id != waited->address) continue;
    EXPECT_EQ(s.on.type, FUTEX_WAIT);
    EXPECT_EQ(s.on.family, 1);
    EXPECT_EQ(s.on.space, static_cast<uint32_t>(pid_));
    EXPECT_EQ(s.begun, waited->begun);
    ++slept;
  }
  for (const wait::Wake& w : seen_.all<wait::Wake>(pid_))
    woken += w.woken_tid == waited->header.tid && w.header.time > woke->begun && w.header.time < woke->header.time;
  EXPECT_GE(slept, 1u);
  EXPECT_EQ(woken, 1u);
  ::munmap(word, 4096);
}

sockaddr_in loopback(uint16_t port) {
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_port = htons(port);
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return a;
}

TEST_F(WaitProbeTest, TcpTellsBothEndsAndTheBytesThatPassed) {
  open();
  if (!probe_) return;
  const Fd listener(::socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in address = loopback(0);
  socklen_t length = sizeof address;
  ASSERT_EQ(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), length), 0);
  ASSERT_EQ(::listen(listener.get(), 1), 0);
  ASSERT_EQ(::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &length), 0);
  const uint16_t port = ntohs(address.sin_port);
  const int status = run([&] {
    const pid_t client = ::fork();
    if (client == 0) {
      const int s = ::socket(AF_INET, SOCK_STREAM, 0);
      if (::connect(s, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) ::_exit(1);
      if (::send(s, "0123456789", 10, 0) != 10 || ::write(s, "abc", 3) != 3) ::_exit(2);
      char text[4];
      if (::recv(s, text, 4, MSG_WAITALL) != 4) ::_exit(3);
      ::close(s);
      ::_exit(0);
    }
    const int s = ::accept(listener.get(), nullptr, nullptr);
    char text[13];
    if (::recv(s, text, 13, MSG_WAITALL) != 13) return 4;
    iovec part{text, 4};
    if (::writev(s, &part, 1) != 4) return 5;
    int end = 0;
    ::waitpid(client, &end, 0);
    return end == 0 ? 0 : 6;
  });
  ASSERT_EQ(status, 0);
  const auto sent = seen_.messages(wait::kSend), received = seen_.messages(wait::kReceive);
  const auto accepted = seen_.messages(wait::kAccept), connected = seen_.messages(wait::kConnect);
  ASSERT_EQ(accepted.size(), 1u);
  ASSERT_EQ(connected.size(), 1u);
  ASSERT_EQ(sent.size(), 3u);
  ASSERT_EQ(received.size(), 2u);
  // the connection by its two ends, seen from either side
  const wait::Object &server = accepted[0].on, &client = connected[0].on;
  EXPECT_EQ(server.local_port, port);
  EXPECT_EQ(client.remote_port, port);
  EXPECT_EQ(server.remote_port, client.local_port);
  EXPECT_EQ(server.family, AF_INET);
  EXPECT_EQ(server.type, SOCK_STREAM);
  EXPECT_EQ(server.protocol, static_cast<uint32_t>(IPPROTO_TCP));
  EXPECT_EQ(std::memcmp(server.local, &address.sin_addr, 4), 0);
  struct stat space {};
  ASSERT_EQ(::stat("/proc/self/ns/net", &space), 0);
  EXPECT_EQ(server.space, space.st_ino);
  EXPECT_NE(server.id, client.id);
  std::map<uint64_t, std::vector<wait::Message>> by_end;
  for (const auto& list : {sent, received})
    for (const wait::Message& m : list) {
      ASSERT_TRUE(m.flags & wait::kHasRange);
      EXPECT_EQ(m.after - m.before, static_cast<uint32_t>(m.result));
      within(m.header, m.begun);
    }
  // what one end sent is what the other received, by sequence numbers
  ASSERT_EQ(sent[0].on.id, client.id);
  EXPECT_EQ(sent[0].after, sent[1].before);
  const auto& at_server = received[0].on.id == server.id ? received[0] : received[1];
  const auto& at_client = received[0].on.id == server.id ? received[1] : received[0];
  EXPECT_EQ(at_server.before, sent[0].before);
  EXPECT_EQ(at_server.after, sent[1].after);
  EXPECT_EQ(at_server.result, 13);
  EXPECT_EQ(at_client.before, sent[2].before);
  EXPECT_EQ(at_client.after, sent[2].after);
  EXPECT_EQ(sent[2].on.id, server.id);
  EXPECT_EQ(sent[2].syscall, SYS_writev);
  EXPECT_GE(seen_.messages(wait::kClose).size(), 1u);
}

TEST_F(WaitProbeTest, AUnixSocketTellsItsOtherEnd) {
  open();
  if (!probe_) return;
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
  struct stat first {
  }, second{};
  ASSERT_EQ(::fstat(ends[0], &first), 0);
  ASSERT_EQ(::fstat(ends[1], &second), 0);
  ASSERT_EQ(run([&] {
              char text[3];
              return ::send(ends[0], "abc", 3, 0) == 3 && ::recv(ends[1], text, 3, 0) == 3 ? 0 : 1;
            }),
            0);
  const auto sent = seen_.messages(wait::kSend), received = seen_.messages(wait::kReceive);
  ASSERT_EQ(sent.size(), 1u);
  ASSERT_EQ(received.size(), 1u);
  EXPECT_EQ(sent[0].on.family, AF_UNIX);
  EXPECT_EQ(sent[0].on.id, first.st_ino);
  EXPECT_EQ(sent[0].on.peer, second.st_ino);
  EXPECT_EQ(received[0].on.id, second.st_ino);
  EXPECT_EQ(received[0].on.peer, first.st_ino);
  EXPECT_EQ(sent[0].flags & wait::kHasRange, 0);
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST_F(WaitProbeTest, CallsOnFilesAreNoMessages) {
  open();
  if (!probe_) return;
  Scratch scratch;
  const Fd file(::open(scratch.path("f").c_str(), O_RDWR | O_CREAT, 0600));
  ASSERT_EQ(run([&] { return ::write(file.get(), "abc", 3) == 3 && ::close(file.get()) == 0 ? 0 : 1; }), 0);
  EXPECT_TRUE(seen_.all<wait::Message>().empty());
  EXPECT_EQ(seen_.all<wait::Exit>().size(), 1u);
}

TEST_F(WaitProbeTest, SignalsTellWhoSentThemAndWhoTookThem) {
  open();
  if (!probe_) return;
  ASSERT_EQ(run([] {
              ::signal(SIGUSR1, [](int) {});
              ::kill(::getpid(), SIGUSR1);
              return 0;
            }),
            0);
  std::optional<wait::SignalSent> sent;
  for (const auto& s : seen_.all<wait::SignalSent>(pid_))
    if (s.signal == SIGUSR1) sent = s;
  ASSERT_TRUE(sent);
  EXPECT_EQ(sent->to_pid, pid_);
  EXPECT_EQ(sent->code, SI_USER);
  EXPECT_EQ(sent->result, 0);
  EXPECT_EQ(sent->flags, wait::kToProcess);
  const auto taken = seen_.all<wait::SignalTaken>(pid_);
  ASSERT_EQ(taken.size(), 1u);
  EXPECT_EQ(taken[0].signal, SIGUSR1);
  EXPECT_GT(taken[0].handler, 1u);
  EXPECT_GE(taken[0].header.time, sent->header.time);
  // and to its parent, which is out of scope: one side is enough
  size_t child_signals = 0;
  for (const auto& s : seen_.all<wait::SignalSent>(pid_))
    child_signals += s.signal == SIGCHLD && s.code == CLD_EXITED && s.to_pid == ::getpid();
  EXPECT_EQ(child_signals, 1u);
}

TEST_F(WaitProbeTest, AnExitTellsItsCodeOrItsFatalSignal) {
  open();
  if (!probe_) return;
  EXPECT_EQ(run([] { return 7; }), 7 << 8);
  auto exits = seen_.all<wait::Exit>(pid_);
  ASSERT_EQ(exits.size(), 1u);
  EXPECT_EQ(exits[0].status, 7 << 8);
  EXPECT_EQ(exits[0].last, 1u);
  seen_ = {};
  const int status = run([] {
    ::signal(SIGSEGV, SIG_DFL);
    std::thread([] { ::raise(SIGSEGV); }).join();
    return 0;
  });
  ASSERT_TRUE(WIFSIGNALED(status));
  exits = seen_.all<wait::Exit>();
  ASSERT_EQ(exits.size(), 2u);  // the thread and its process
  EXPECT_EQ(exits[0].last + exits[1].last, 1u);
  for (const wait::Exit& e : exits) {
    EXPECT_EQ(e.header.pid, pid_);
    EXPECT_EQ(e.status & 0x7f, SIGSEGV);
    EXPECT_EQ(e.group_status & 0x7f, SIGSEGV);
  }
}

TEST_F(WaitProbeTest, ATimerWakesFromAnInterrupt) {
  open();
  if (!probe_) return;
  ASSERT_EQ(run([] {
              ::usleep(20000);
              return 0;
            }),
            0);
  bool by_timer = false;
  std::optional<wait::Sleep> nap;
  for (const auto& s : seen_.all<wait::Sleep>(pid_))
    if (s.syscall == SYS_clock_nanosleep) nap = s;
  ASSERT_TRUE(nap) << "why it slept: by its system call";
  EXPECT_EQ(nap->on.kind, wait::kNoObject);
  EXPECT_EQ(nap->begun, 0u);
  for (const auto& w : seen_.all<wait::Wake>())
    if (w.woken_tid == pid_ && w.header.time > nap->header.time)
      by_timer = by_timer || (w.flags & (wait::kHardInterrupt | wait::kSoftInterrupt)) != 0;
  EXPECT_TRUE(by_timer);
}

TEST_F(WaitProbeTest, OthersStayOut) {
  open();
  if (!probe_) return;
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  char byte;
  std::thread other([&] { ASSERT_EQ(::read(ends[0], &byte, 1), 1); });
  ASSERT_EQ(run([] { return 0; }), 0);
  ASSERT_EQ(::write(ends[1], "x", 1), 1);
  other.join();
  drain();
  for (const auto& b : seen_.bytes) {
    wait::Reader reader(b);
    wait::Record record;
    ASSERT_TRUE(reader.next(record));
    const auto wake = wait::as<wait::Wake>(record);
    const auto sent = wait::as<wait::SignalSent>(record);
    EXPECT_TRUE(record.header.pid == pid_ || (wake && wake->woken_pid == pid_) || (sent && sent->to_pid == pid_));
  }
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST_F(WaitProbeTest, WhatFindsNoRoomIsCounted) {
  WaitProbeConfig config;
  config.ring_bytes = 4096;
  open(config);
  if (!probe_) return;
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  constexpr uint64_t kRounds = 1000;
  Program program([&] {
    char byte = 0;
    for (uint64_t i = 0; i < kRounds; ++i)
      if (::write(ends[1], &byte, 1) != 1 || ::read(ends[0], &byte, 1) != 1) return 1;
    return 0;
  });
  ASSERT_TRUE(probe_->follow(program.pidfd()).ok());
  program.let_go();
  ASSERT_EQ(program.wait(), 0);
  drain();
  uint64_t dropped = 0;
  for (const uint64_t n : probe_->dropped()) dropped += n;
  EXPECT_LT(seen_.messages(wait::kSend).size(), kRounds);
  EXPECT_GT(dropped, 2 * kRounds - seen_.bytes.size());
  const size_t messages = seen_.messages(wait::kSend).size() + seen_.messages(wait::kReceive).size();
  EXPECT_GE(messages + dropped, 2 * kRounds) << "each is there or counted";
  EXPECT_EQ(probe_->missed(), 0u);
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST_F(WaitProbeTest, AfterDetachingNothingComes) {
  // It is forked first: a copy of the descriptors would keep the programs attached.
  Program program([] {
    ::usleep(1000);
    return 0;
  });
  open();
  if (!probe_) return;
  ASSERT_TRUE(probe_->follow(program.pidfd()).ok());
  probe_->detach();
  drain();
  seen_ = {};
  program.let_go();
  ASSERT_EQ(program.wait(), 0);
  drain();
  EXPECT_TRUE(seen_.bytes.empty());
}

TEST_F(WaitProbeTest, ACgroupIsWatchedWithWhoIsInItAlready) {
  std::string path;
  for (const std::string top : {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"}) {
    if (::access((top + "/cgroup.controllers").c_str(), F_OK) != 0) continue;
    path = top + "/hindcast-waits-" + std::to_string(::getpid());
    if (::mkdir(path.c_str(), 0755) == 0) break;
    path.clear();
  }
  if (path.empty()) GTEST_SKIP() << "no cgroup of version 2 in which this user may make one";
  const auto join = [](const std::string& group, pid_t pid) {
    std::ofstream file(group + "/cgroup.procs");
    file << pid << std::flush;
    return file.good();
  };
  ASSERT_EQ(::mkdir((path + "/below").c_str(), 0755), 0);
  int ends[2], other[2];
  ASSERT_EQ(::pipe(ends), 0);
  ASSERT_EQ(::pipe(other), 0);
  {
    const auto reads = [](int fd) {
      return [fd] {
        char byte;
        return ::read(fd, &byte, 1) == 1 ? 0 : 1;
      };
    };
    Program inside(reads(ends[0])), outside(reads(other[0]));
    ASSERT_TRUE(join(path + "/below", inside.pid()));
    inside.let_go();
    outside.let_go();
    ::usleep(50000);  // it has begun to read
    const auto cgroup = Cgroup::open(path);
    ASSERT_TRUE(cgroup.ok()) << cgroup.error().text();
    WaitProbeConfig config;
    config.cgroup = &*cgroup;
    open(config);
    if (probe_) {
      EXPECT_EQ(::write(other[1], "x", 1), 1);
      EXPECT_EQ(outside.wait(), 0);
      EXPECT_EQ(::write(ends[1], "x", 1), 1);
      EXPECT_EQ(inside.wait(), 0);
      drain();
      const auto received = seen_.messages(wait::kReceive);
      ASSERT_EQ(received.size(), 1u);
      EXPECT_EQ(received[0].header.pid, inside.pid());
      EXPECT_EQ(received[0].flags, wait::kBeginUnseen);
      EXPECT_EQ(received[0].begun, 0u);
      EXPECT_EQ(received[0].on.kind, wait::kPipeObject);
      EXPECT_TRUE(seen_.messages(wait::kSend).empty()) << "the test is not in the cgroup";
      size_t woken = 0;
      for (const auto& w : seen_.all<wait::Wake>(::getpid())) woken += w.woken_tid == inside.pid();
      EXPECT_GE(woken, 1u) << "one side is enough";
      ASSERT_EQ(seen_.all<wait::Exit>().size(), 1u);
      EXPECT_EQ(seen_.all<wait::Exit>()[0].header.pid, inside.pid());
    }
  }
  ::rmdir((path + "/below").c_str());
  ::rmdir(path.c_str());
  for (const int fd : {ends[0], ends[1], other[0], other[1]}) ::close(fd);
}

TEST(WaitProbe, WithoutPrivilegeItSaysWhatIsMissing) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to give it up";
  const pid_t pid = ::fork();
  if (pid == 0) {
    if (::setgid(65534) != 0 || ::setuid(65534) != 0) ::_exit(9);
    const auto probe = WaitProbe::open({});
    if (probe.ok()) ::_exit(1);
    const Error& e = probe.error();
    std::fprintf(stderr, "%s\n", e.text().c_str());
    const bool good = e.code == Errc::permission && e.found.find("unprivileged_bpf_disabled = ") != std::string::npos &&
                      e.fix.find("cap_bpf") != std::string::npos;
    ::_exit(good ? 0 : 2);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(pid, &status, 0), pid);
  EXPECT_EQ(status, 0);
}

TEST(WaitProbe, WithoutBtfItSaysSo) {
  Scratch scratch;
  WaitProbeConfig config;
  config.sys = scratch.dir();
  const auto probe = WaitProbe::open(config);
  ASSERT_FALSE(probe.ok());
  EXPECT_EQ(probe.error().code, Errc::unavailable);
  EXPECT_NE(probe.error().found.find(scratch.path("kernel/btf/vmlinux")), std::string::npos);
}

}  // namespace
}  // namespace hindcast::capture
