#include "tests/support/net_pair.h"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <cstring>
#include <thread>

#include "tests/support/run_program.h"

namespace hindcast::test {

namespace {

constexpr const char* kIp = "/usr/sbin/ip";

/// A namespace without processes: its descriptor keeps it.
Fd new_namespace() {
  Fd out;
  std::thread([&] {
    if (::unshare(CLONE_NEWNET) == 0) out = Fd(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
  }).join();
  return out;
}

}  // namespace

NetPair::NetPair() : here_(new_namespace()), there_(new_namespace()) {
  if (!here_.valid() || !there_.valid())
    missing_ = std::string("cannot make network namespaces: ") + std::strerror(errno);
  else if (!make() && missing_.empty())
    missing_ = "cannot lay a cable between network namespaces (ip link add ... type veth)";
}

void NetPair::in(const Fd& space, const std::function<void()>& what) {
  std::thread([&] {
    HC_CHECK(::setns(space.get(), CLONE_NEWNET) == 0);
    what();
  }).join();
}

bool NetPair::make() {
  bool good = true;
  const auto ip = [&](const std::vector<std::string>& words) {
    if (!good) return;
    std::vector<std::string> command{kIp};
    command.insert(command.end(), words.begin(), words.end());
    const Ran ran = run_program(command);
    good = ran.code == 0;
    if (!good) missing_ = "ip " + words[0] + ": " + ran.err;
  };
  const std::string other = "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(there_.get());
  here([&] {
    ip({"link", "add", kHere, "type", "veth", "peer", "name", kThere, "netns", other});
    ip({"addr", "add", "10.77.0.1/24", "dev", kHere});
    ip({"addr", "add", "fd77::1/64", "dev", kHere, "nodad"});
    ip({"link", "set", kHere, "up"});
    ip({"link", "set", "lo", "up"});
  });
  there([&] {
    ip({"addr", "add", "10.77.0.2/24", "dev", kThere});
    ip({"addr", "add", "fd77::2/64", "dev", kThere, "nodad"});
    ip({"link", "set", kThere, "up"});
  });
  return good;
}

void NetPair::offload(bool on) const {
  const auto set = [on](const char* interface) {
    const Ran ran = run_program({kIp, "link", "set", interface, "gso_max_segs", on ? "65535" : "1"});
    HC_CHECK(ran.code == 0);
  };
  here([&] { set(kHere); });
  there([&] { set(kThere); });
}

}  // namespace hindcast::test
