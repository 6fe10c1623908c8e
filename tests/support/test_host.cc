#include "tests/support/test_host.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

#include "tests/support/net_pair.h"

namespace hindcast::test {

namespace {

constexpr const char* kSwitch = "hcsw";

int64_t wall_now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

void on_thread_in(int space, int kind, const std::function<void()>& what) {
  std::thread([&] {
    HC_CHECK(::setns(space, kind) == 0);
    what();
  }).join();
}

/// Of process 1: what it could not do; error 0: nothing.
struct Report {
  char failed[64] = {};
  int error = 0;
};

/// Process 1 of a host: makes its namespaces, says so, and waits until `life` is closed by everybody.
[[noreturn]] void be_init(const std::string& name, const std::string& cgroup, int life, int answer) {
  Report report;
  const auto must = [&](bool good, const char* what) {
    if (good || report.error) return;
    report.error = errno ? errno : EIO;
    std::strncpy(report.failed, what, sizeof report.failed - 1);
  };
  ::dup2(life, 0);
  ::dup2(answer, 1);
  ::close_range(3, ~0u, 0);
  ::signal(SIGCHLD, SIG_IGN);  // whoever is orphaned here is nobody's to wait for
  const int members = ::open((cgroup + "/cgroup.procs").c_str(), O_WRONLY | O_CLOEXEC);
  must(members >= 0 && ::write(members, "0", 1) == 1, "joining its cgroup");
  must(::unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWCGROUP) == 0, "unshare");
  must(::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0, "making its mounts private");
  must(::mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) == 0, "mounting its /proc");
  must(::sethostname(name.data(), name.size()) == 0, "sethostname");
  if (::write(1, &report, sizeof report) != sizeof report) ::_exit(1);
  ::close(1);
  char end;
  while (::read(0, &end, 1) < 0 && errno == EINTR) {
  }
  ::_exit(0);
}

}  // namespace

TestNetwork::TestNetwork() {
  std::thread([this] {
    if (::unshare(CLONE_NEWNET) != 0) {
      missing_ = std::string("cannot make a network namespace: ") + std::strerror(errno);
      return;
    }
    space_ = Fd(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
    for (const std::vector<std::string>& words :
         {std::vector<std::string>{"link", "add", kSwitch, "type", "bridge"}, {"link", "set", kSwitch, "up"}}) {
      const Ran ran = ip(words);
      if (ran.code != 0 && missing_.empty()) missing_ = "cannot make a switch: ip: " + ran.err;
    }
  }).join();
}

TestHost::TestHost(TestNetwork& network, const std::string& name, const HostClock& clock)
    : network_(network),
      name_(name),
      clock_(clock),
      anchor_ns_(wall_now()),
      cgroup_("hindcast-host-" + name),
      number_(++network.hosts_) {
  address_ = "10.78.0." + std::to_string(number_);
  missing_ = !network.missing().empty() ? network.missing() : cgroup_.missing();
#ifndef HC_FAKE_CLOCK_LIBRARY
  if (clock.wall_offset_ns != 0 || clock.wall_ppm != 0) missing_ = "sanitizer builds cannot fake a wall clock";
#endif
  if (missing_.empty() && begin()) lay_cable();
}

bool TestHost::begin() {
  int life[2], answer[2];
  HC_CHECK(::pipe2(life, O_CLOEXEC) == 0 && ::pipe2(answer, O_CLOEXEC) == 0);
  life_ = Fd(life[1]);
  const Fd its_life(life[0]), from(answer[0]);
  Fd its_answer(answer[1]);
  std::thread([&] {
    if (::unshare(CLONE_NEWPID | CLONE_NEWTIME) != 0) {
      missing_ = std::string("cannot make pid and time namespaces: ") + std::strerror(errno);
      return;
    }
    if (clock_.uptime_offset_s != 0) {
      const std::string offset = std::to_string(clock_.uptime_offset_s);
      const std::string text = "monotonic " + offset + " 0\nboottime " + offset + " 0\n";
      const std::string file = "/proc/" + std::to_string(::gettid()) + "/timens_offsets";
      const Fd offsets(::open(file.c_str(), O_WRONLY | O_CLOEXEC));
      if (::write(offsets.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
        missing_ = std::string("cannot shift the clocks of a time namespace: ") + std::strerror(errno);
        return;
      }
    }
    init_ = ::fork();
    if (init_ == 0) be_init(name_, cgroup_.folder(), life[0], answer[1]);
  }).join();
  if (!missing_.empty()) return false;
  HC_CHECK(init_ > 0);
  pidfd_ = Fd(static_cast<int>(::syscall(SYS_pidfd_open, init_, 0)));
  its_answer = Fd();  // or its death would not be noticed
  Report report;
  if (::read(from.get(), &report, sizeof report) != sizeof report)
    missing_ = "process 1 of host " + name_ + " ended";
  else if (report.error)
    missing_ = std::string("cannot make host ") + name_ + ": " + report.failed + ": " + std::strerror(report.error);
  return missing_.empty();
}

bool TestHost::lay_cable() {
  const std::string plug = "h" + std::to_string(number_);
  const auto must = [&](const std::vector<std::string>& words) {
    if (!missing_.empty()) return;
    const Ran ran = ip(words);
    if (ran.code != 0) missing_ = "cannot lay a cable to host " + name_ + ": ip " + words[0] + ": " + ran.err;
  };
  on_thread_in(network_.space_.get(), CLONE_NEWNET, [&] {
    must({"link", "add", plug, "type", "veth", "peer", "name", "eth0", "netns", std::to_string(init_)});
    must({"link", "set", plug, "master", kSwitch});
    must({"link", "set", plug, "up"});
  });
  in_network([&] {
    must({"addr", "add", address_ + "/24", "dev", "eth0"});
    must({"link", "set", "eth0", "up"});
    must({"link", "set", "lo", "up"});
  });
  return missing_.empty();
}

TestHost::~TestHost() {
  life_ = Fd();
  if (init_ <= 0) return;
  ::kill(init_, SIGKILL);  // and with process 1 the kernel kills all others of its pid namespace
  // It is gone when all these are, and some may be children of ours that their owners will only wait for later.
  std::thread([init = init_] {
    while (::waitpid(init, nullptr, 0) < 0 && errno == EINTR) {
    }
  }).detach();
}

Place TestHost::place(const std::string& within) const {
  Place place;
  place.pidfd = pidfd_.get();
  place.cgroup = within.empty() ? cgroup_.folder() : cgroup_.inside(within);
#ifdef HC_FAKE_CLOCK_LIBRARY
  if (clock_.wall_offset_ns != 0 || clock_.wall_ppm != 0)
    place.env = {std::string("LD_PRELOAD=") + HC_FAKE_CLOCK_LIBRARY, "HC_FAKE_CLOCK=" + std::to_string(anchor_ns_) +
                                                                         " " + std::to_string(clock_.wall_offset_ns) +
                                                                         " " + std::to_string(clock_.wall_ppm)};
#endif
  return place;
}

Ran TestHost::run(const std::vector<std::string>& argv, const std::string& within) const {
  return run_program(argv, {}, place(within));
}

void TestHost::in_network(const std::function<void()>& what) const { on_thread_in(pidfd_.get(), CLONE_NEWNET, what); }

int64_t TestHost::wall_ns(int64_t ns) const {
  return ns + clock_.wall_offset_ns +
         static_cast<int64_t>(static_cast<double>(ns - anchor_ns_) * clock_.wall_ppm / 1e6);
}

}  // namespace hindcast::test
