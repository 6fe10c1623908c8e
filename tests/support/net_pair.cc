#include "tests/support/net_pair.h"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <cstring>
#include <thread>

namespace hindcast::test {

namespace {

/// A namespace without processes: its descriptor keeps it.
Fd new_namespace() {
  Fd out;
  std::thread([&] {
    if (::unshare(CLONE_NEWNET) == 0) out = Fd(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
  }).join();
  return out;
}

}  // namespace

Ran ip(const std::vector<std::string>& words) {
  std::vector<std::string> command{"/usr/sbin/ip"};
  command.insert(command.end(), words.begin(), words.end());
  return run_program(command);
}

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
  const auto set_up = [&](const std::vector<std::string>& words) {
    if (!good) return;
    const Ran ran = ip(words);
    good = ran.code == 0;
    if (!good) missing_ = "ip " + words[0] + ": " + ran.err;
  };
  const std::string other = "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(there_.get());
  here([&] {
    set_up({"link", "add", kHere, "type", "veth", "peer", "name", kThere, "netns", other});
    set_up({"addr", "add", "10.77.0.1/24", "dev", kHere});
    set_up({"addr", "add", "fd77::1/64", "dev", kHere, "nodad"});
    set_up({"link", "set", kHere, "up"});
    set_up({"link", "set", "lo", "up"});
  });
  there([&] {
    set_up({"addr", "add", "10.77.0.2/24", "dev", kThere});
    set_up({"addr", "add", "fd77::2/64", "dev", kThere, "nodad"});
    set_up({"link", "set", kThere, "up"});
  });
  return good;
}

void NetPair::offload(bool on) const {
  const auto set = [on](const char* interface) {
    const Ran ran = ip({"link", "set", interface, "gso_max_segs", on ? "65535" : "1"});
    HC_CHECK(ran.code == 0);
  };
  here([&] { set(kHere); });
  there([&] { set(kThere); });
}

}  // namespace hindcast::test
