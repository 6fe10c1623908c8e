// Seeded bad days: the network cuts, delays, drops, repeats, reorders and flips; sender and receiver are killed; spool and
// store run full. Whatever was called durable arrives whole, byte for byte, and is committed once.
//
// A slice of about 20 s by default; HINDCAST_LONG=1: 1,000 schedules. HINDCAST_SEED=N runs that schedule alone.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>

#include "tests/support/long_run.h"
#include "tests/support/run_program.h"
#include "tests/support/ship_kit.h"
#include "tests/support/tcp_proxy.h"

namespace hindcast::transport {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

/// A child whose words go to a file; killed without warning.
class Peer {
 public:
  void start(const std::vector<std::string>& argv, const std::string& log) {
    std::vector<char*> args;
    for (const auto& a : argv) args.push_back(const_cast<char*>(a.c_str()));
    args.push_back(nullptr);
    pid_ = ::fork();
    if (pid_ != 0) return;
    const int fd = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    ::dup2(fd, 1);
    ::dup2(fd, 2);
    ::execv(args[0], args.data());
    ::_exit(127);
  }
  void kill() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }
  ~Peer() { kill(); }

 private:
  pid_t pid_ = -1;
};

std::vector<std::string> lines_of(const std::string& path) {
  std::ifstream in(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

struct Totals {
  uint64_t kills = 0, harmed = 0, snapshots = 0;
};

void run_schedule(uint32_t seed, Totals& totals) {
  SCOPED_TRACE("HINDCAST_SEED=" + std::to_string(seed));
  std::mt19937 random(seed);
  test::TempFolder folder;
  const std::string peer = std::string(HC_BIN_DIR) + "/ship_peer";
  const KeyPair server = make_key_pair(), host = make_key_pair();
  ASSERT_TRUE(write_key_files(folder / "server", server).ok());
  ASSERT_TRUE(write_key_files(folder / "host", host).ok());
  std::ofstream(folder / "hosts") << "h " << host.public_key << "\n";

  const int count = 2 + static_cast<int>(random() % 5);
  const size_t pt_bytes = 20000 + random() % (random() % 3 == 0 ? 4000000 : 400000);
  // Room for one or two at a time, or for all.
  const uint64_t spool_limit = (uint64_t{5} << 20) + 2 * pt_bytes + (random() % 2 ? uint64_t{1} << 30 : 0);
  const uint16_t port = test::free_port();
  test::TcpProxy proxy(port, seed);
  Peer sender, receiver;
  const auto start_receiver = [&](bool little_disk) {
    receiver.start(
        {peer, "receive", folder.path(), std::to_string(port), std::to_string(little_disk ? 100000 : UINT64_MAX)},
        folder / "receiver.err");
  };
  const auto start_sender = [&](uint64_t rate) {
    sender.start({peer, "send", folder.path(), std::to_string(proxy.port()), std::to_string(spool_limit),
                  std::to_string(seed), std::to_string(count), std::to_string(pt_bytes), std::to_string(rate)},
                 folder / "sender.err");
  };
  // Slow enough, in two of three, that most kills come while a snapshot is on its way.
  const uint64_t rate = random() % 3 == 0 ? 0 : pt_bytes * 8;
  start_receiver(false);
  start_sender(rate);
  const int events = 3 + static_cast<int>(random() % 8);
  for (int i = 0; i < events; ++i) {
    const double level = random() % 4 == 0 ? 0 : random() % 2 ? 0.03 : 0.2;
    proxy.set({random() % 2 * level, random() % 2 * level, random() % 2 * level, random() % 2 * level,
               random() % 2 * level, random() % 2 * level});
    std::this_thread::sleep_for(milliseconds(2 + random() % (random() % 2 ? 40 : 200)));
    const unsigned what = random() % 8;
    if (what < 3) {
      sender.kill();
      start_sender(rate);
      ++totals.kills;
    } else if (what < 6) {
      receiver.kill();
      start_receiver(random() % 6 == 0);
      ++totals.kills;
    }
  }
  // Fair weather: now everything must arrive.
  proxy.set({});
  receiver.kill();
  sender.kill();
  fs::remove(folder / "done");
  start_receiver(false);
  start_sender(0);
  const bool done = test::wait_for([&] { return fs::exists(folder / "done"); }, 60);
  sender.kill();
  receiver.kill();
  totals.harmed += proxy.harmed();
  const auto words = [&] {
    std::string s;
    for (const char* log : {"sender.err", "receiver.err"})
      for (const auto& line : lines_of(folder / log)) s += std::string(log) + ": " + line + "\n";
    return s;
  };
  ASSERT_TRUE(done) << words();
  std::map<std::string, int> commits;
  for (const auto& line : lines_of(folder / "commits.log")) ++commits[line];
  for (const auto& [what, times] : commits) EXPECT_EQ(times, 1) << what << "\n" << words();
  const auto durable = lines_of(folder / "durable.log");
  EXPECT_GE(durable.size(), static_cast<size_t>(count));
  for (const std::string& incident : durable)
    EXPECT_EQ(
        test::difference(folder / ("store/h/" + incident + ".hcb"), test::make_snapshot("h", incident, seed, pt_bytes)),
        "")
        << incident << "\n"
        << words();
  for (const auto& file : fs::directory_iterator(folder / "store/h"))
    EXPECT_TRUE(file.path().string().ends_with(".hcb")) << file.path();
  totals.snapshots += durable.size();
}

TEST(ShipCampaign, WhatWasDurableArrivesWholeAndOnce) {
  Totals totals;
  if (const char* seed = std::getenv("HINDCAST_SEED"))
    return run_schedule(static_cast<uint32_t>(std::atoi(seed)), totals);
  const bool all = test::long_run();
  const auto end = Clock::now() + std::chrono::seconds(20);
  uint32_t schedules = 0;
  while (schedules < (all ? 1000u : 200u) && (all || schedules < 3 || Clock::now() < end) && !HasFailure())
    run_schedule(++schedules, totals);
  EXPECT_GT(totals.kills, 0u);
  EXPECT_GT(totals.harmed, 0u);
  std::printf("%u schedules, %llu kills, %llu pieces harmed on the wire, %llu snapshots\n", schedules,
              static_cast<unsigned long long>(totals.kills), static_cast<unsigned long long>(totals.harmed),
              static_cast<unsigned long long>(totals.snapshots));
}

}  // namespace
}  // namespace hindcast::transport
