// Waits in the window: what is kept, what is said when something was lost, and what is left when a daemon dies.
#include "capture/waits.h"

#include <csignal>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <optional>
#include <set>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/bpf.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "capture/record_builder.h"
#include "capture/recorder.h"
#include "capture/sim/sim_source.h"
#include "capture/window.h"
#include "hindcast/clock_sample.h"
#include "hindcast/wait_record.h"
#include "tests/support/sim_run.h"
#include "tests/support/start_window.h"
#include "tests/support/wait_records.h"
#include "tests/unit/capture/fake_source.h"
#include "tests/unit/capture/scratch.h"
#include "transport/bundle_reader.h"

namespace hindcast::capture {
namespace {

using test::all;

using ::testing::Contains;
using ::testing::HasSubstr;
using Clock = std::chrono::steady_clock;

uint64_t nanoseconds(Clock::time_point t) {
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(t.time_since_epoch()).count());
}

/// Whether this machine lets a test load BPF programs.
Result<void> usable() {
  HC_TRY([[maybe_unused]] const WaitProbe probe, WaitProbe::open({}));
  return {};
}

const Cut* stream_of(const std::vector<Cut>& cuts, StreamKind kind) {
  for (const Cut& c : cuts)
    if (c.info.kind == kind) return &c;
  return nullptr;
}

std::vector<uint8_t> wake_at(uint64_t time) {
  wait::Wake w{};
  w.header = {sizeof w, wait::kWake, 0, 1, 1, time};
  const auto* bytes = reinterpret_cast<const uint8_t*>(&w);
  return {bytes, bytes + sizeof w};
}

TEST(WaitStore, KeepsTheNewestAndSaysThatOlderOnesWent) {
  WaitStore store(StreamKind::waits, 4096);
  for (uint64_t i = 1; i <= 30; ++i) store.add(wake_at(i));
  EXPECT_FALSE(store.stream().info.wrapped);
  for (uint64_t i = 31; i <= 1000; ++i) store.add(wake_at(i));
  const Cut cut = store.stream();
  EXPECT_TRUE(cut.info.wrapped);
  EXPECT_EQ(cut.info.kind, StreamKind::waits);
  EXPECT_LE(cut.bytes.size(), 4096u);
  const auto left = all<wait::Wake>(cut.bytes);
  ASSERT_FALSE(left.empty());
  EXPECT_EQ(left.back().header.time, 1000u);
  EXPECT_EQ(left.front().header.time, store.oldest());
  EXPECT_EQ(left.size() + store.evicted(), 1000u);
}

TEST(ClockLog, ForgetsWhatNoRecordNeeds) {
  ClockLog log;
  for (int i = 0; i < 3; ++i) {
    log.sample();
    ::usleep(1000);
  }
  const auto before = read_clock_samples(log.stream().bytes, CLOCK_MONOTONIC);
  ASSERT_EQ(before.size(), 3u);
  log.forget_before(before[1].ns + 1);
  const auto after = read_clock_samples(log.stream().bytes, CLOCK_MONOTONIC);
  ASSERT_EQ(after.size(), 2u);
  EXPECT_EQ(after[0].ns, before[1].ns);
  log.forget_before(UINT64_MAX);
  EXPECT_EQ(read_clock_samples(log.stream().bytes, CLOCK_MONOTONIC).size(), 1u);
}

TEST(ClockLog, TakesOneWhenItIsDue) {
  ClockLog log;
  const auto now = Clock::now();
  log.poll(now);
  log.poll(now + ClockLog::kEvery / 2);
  log.poll(now + ClockLog::kEvery);
  EXPECT_EQ(read_clock_samples(log.stream().bytes, CLOCK_MONOTONIC).size(), 2u);
}

/// A child that ping-pongs with itself over a pipe when it gets SIGCONT.
pid_t busy_child(int rounds) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::raise(SIGSTOP);
    int ends[2];
    char byte = 0;
    if (::pipe(ends) != 0) ::_exit(1);
    for (int i = 0; i < rounds; ++i)
      if (::write(ends[1], &byte, 1) != 1 || ::read(ends[0], &byte, 1) != 1) ::_exit(2);
    ::_exit(0);
  }
  int status = 0;
  EXPECT_EQ(::waitpid(pid, &status, WUNTRACED), pid);
  return pid;
}

TEST(Waits, WhatIsLostIsARecordWithTheTimeInWhichItWas) {
  if (const auto r = usable(); !r) GTEST_SKIP() << r.error().text();
  constexpr int kRounds = 2000;
  const pid_t pid = busy_child(kRounds);
  const Fd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  WaitProbeConfig config;
  config.ring_bytes = 4096;
  auto waits = Waits::open(config, 1 << 20);
  ASSERT_TRUE(waits.ok()) << waits.error().text();
  ASSERT_TRUE(waits->follow(pidfd).ok());
  waits->poll();
  const uint64_t begun = nanoseconds(Clock::now());
  ::kill(pid, SIGCONT);
  int status = 0;
  ASSERT_EQ(::waitpid(pid, &status, 0), pid);
  const uint64_t ended = nanoseconds(Clock::now());
  ASSERT_EQ(status, 0);
  waits->detach();
  waits->finish();
  waits->keep(Clock::time_point::max(), [](const wait::Record&, std::span<uint8_t>) { return RecordFate::keep; });
  const Cut stream = waits->stream();
  const auto lost = all<wait::Lost>(stream.bytes);
  ASSERT_FALSE(lost.empty());
  uint64_t count = 0;
  for (const wait::Lost& l : lost) {
    count += l.count;
    EXPECT_LE(l.from, begun);
    EXPECT_GE(l.header.time, ended);
    EXPECT_LT(l.header.cpu, 4096u);
  }
  EXPECT_EQ(count, waits->lost());
  EXPECT_GE(count + all<wait::Message>(stream.bytes).size(), 2u * kRounds);
}

TEST(Waits, RecordsWaitUntilTheirTimeAndGoThroughTheFilter) {
  if (const auto r = usable(); !r) GTEST_SKIP() << r.error().text();
  const pid_t pid = busy_child(5);
  const Fd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  auto waits = Waits::open({}, 1 << 20);
  ASSERT_TRUE(waits.ok()) << waits.error().text();
  ASSERT_TRUE(waits->follow(pidfd).ok());
  const auto begun = Clock::now();
  ::kill(pid, SIGCONT);
  int status = 0;
  ASSERT_EQ(::waitpid(pid, &status, 0), pid);
  waits->poll();
  uint64_t asked = 0;
  const auto no_futures = [&](const wait::Record& r, std::span<uint8_t> whole) {
    ++asked;
    EXPECT_EQ(whole.size(), r.header.size);
    return wait::as<wait::Message>(r) ? RecordFate::drop : RecordFate::keep;
  };
  waits->keep(begun, no_futures);
  EXPECT_EQ(asked, 0u);
  EXPECT_TRUE(waits->stream().bytes.empty());
  waits->keep(Clock::now(), no_futures);
  EXPECT_GT(asked, 10u);
  const Cut kept = waits->stream();
  EXPECT_TRUE(all<wait::Message>(kept.bytes).empty());
  EXPECT_EQ(all<wait::Exit>(kept.bytes).size(), 1u);
}

/// Ids of what a process holds, by the lines of its fdinfo.
std::set<uint32_t> ids_of(pid_t pid, const std::string& key) {
  std::set<uint32_t> ids;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/fdinfo")) {
    std::ifstream file(entry.path());
    for (std::string line; std::getline(file, line);)
      if (line.starts_with(key)) ids.insert(static_cast<uint32_t>(std::stoul(line.substr(key.size()))));
  }
  return ids;
}

bool exists(bpf_cmd command, uint32_t id) {
  bpf_attr attr{};
  attr.prog_id = id;  // map_id has the same place
  const Fd fd(static_cast<int>(::syscall(SYS_bpf, command, &attr, sizeof attr)));
  return fd.valid();
}

TEST(Waits, NothingOfADeadDaemonIsLeft) {
  if (const auto r = usable(); !r) GTEST_SKIP() << r.error().text();
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t daemon = ::fork();
  if (daemon == 0) {
    const auto waits = Waits::open({}, 1 << 20);
    (void)!::write(ready[1], waits.ok() ? "y" : "n", 1);
    for (;;) ::pause();
  }
  char word = 0;
  ASSERT_EQ(::read(ready[0], &word, 1), 1);
  ASSERT_EQ(word, 'y');
  const auto programs = ids_of(daemon, "prog_id:"), maps = ids_of(daemon, "map_id:");
  EXPECT_GE(programs.size(), 8u);
  EXPECT_GE(maps.size(), 3u);
  for (const uint32_t id : programs) EXPECT_TRUE(exists(BPF_PROG_GET_FD_BY_ID, id));
  ::kill(daemon, SIGKILL);
  ASSERT_EQ(::waitpid(daemon, nullptr, 0), daemon);
  // the kernel frees them when nobody can be running them any more
  const auto left = [&] {
    size_t n = 0;
    for (const uint32_t id : programs) n += exists(BPF_PROG_GET_FD_BY_ID, id);
    for (const uint32_t id : maps) n += exists(BPF_MAP_GET_FD_BY_ID, id);
    return n;
  };
  const auto end = Clock::now() + std::chrono::seconds(20);
  while (left() > 0 && Clock::now() < end) ::usleep(10000);
  EXPECT_EQ(left(), 0u);
  ::close(ready[0]);
  ::close(ready[1]);
}

class WaitsInWindow : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const auto r = SidebandProbe().usable(); !r) GTEST_SKIP() << r.error().text();
    if (const auto r = usable(); !r) GTEST_SKIP() << r.error().text();
  }
  void start(const std::string& script, Want want) {
    WindowConfig config;
    config.command = {"/bin/sh", "-c", script};
    config.ring_bytes = 1 << 20;
    config.waits = want;
    window_.emplace(source_, kernel_perf_calls(), config, [](const std::string&) {});
    test::start_window(*window_);
  }
  void step_to_the_end() {
    while (!window_->child().poll_end()) ASSERT_TRUE(window_->step({}).ok());
  }

  FakeSource source_{"simulated"};
  std::optional<Window> window_;
};

TEST_F(WaitsInWindow, ASnapshotHoldsAllUntilItWasAskedForAndTheWindowGoesOn) {
  start("echo a | cat > /dev/null; kill -STOP $$; echo b | cat > /dev/null; exit 7", Want::yes);
  siginfo_t end{};
  ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(window_->child().pid().value()), &end, WSTOPPED), 0);
  ASSERT_TRUE(window_->start_snapshot().ok());
  std::optional<Frozen> first;
  const auto patience = Clock::now() + std::chrono::seconds(30);
  while (!first && Clock::now() < patience) {
    ASSERT_TRUE(window_->step({}).ok());
    auto taken = window_->take_snapshot();
    ASSERT_TRUE(taken.ok());
    if (*taken) first = std::move(**taken);
  }
  ASSERT_TRUE(first);
  const Cut* before = stream_of(first->cuts, StreamKind::waits);
  ASSERT_TRUE(before);
  window_->child().send(SIGCONT);
  step_to_the_end();
  const auto last = window_->finish();
  ASSERT_TRUE(last.ok()) << last.error().text();
  const Cut* after = stream_of(last->cuts, StreamKind::waits);
  ASSERT_TRUE(after);
  const auto sent = [](const Cut& cut) {
    size_t n = 0;
    for (const wait::Message& m : all<wait::Message>(cut.bytes))
      n += m.action == wait::kSend && m.on.kind == wait::kPipeObject && m.result == 2;
    return n;
  };
  EXPECT_EQ(sent(*before), 1u);
  EXPECT_EQ(sent(*after), 2u);
  ASSERT_GE(after->bytes.size(), before->bytes.size());
  EXPECT_TRUE(std::equal(before->bytes.begin(), before->bytes.end(), after->bytes.begin()));
  bool ended = false;
  for (const wait::Exit& e : all<wait::Exit>(after->bytes))
    ended = ended || (Pid(e.header.pid) == window_->child().pid() && e.status == 7 << 8);
  EXPECT_TRUE(ended);
  // nobody else's
  const std::set<Pid> ours(last->info.root_pids.begin(), last->info.root_pids.end());
  for (const wait::Message& m : all<wait::Message>(after->bytes)) EXPECT_TRUE(ours.contains(Pid(m.header.pid)));
  EXPECT_TRUE(stream_of(last->cuts, StreamKind::clocks));
}

TEST_F(WaitsInWindow, OffMeansNone) {
  start("exit 0", Want::no);
  step_to_the_end();
  const auto frozen = window_->finish();
  ASSERT_TRUE(frozen.ok());
  EXPECT_FALSE(stream_of(frozen->cuts, StreamKind::waits));
  EXPECT_FALSE(stream_of(frozen->cuts, StreamKind::clocks));
  EXPECT_FALSE(window_->lost_waits());
}

TEST(WaitsRecording, OfASimulatedProgramAreItsOwn) {
  HC_REQUIRE_PLUGIN();
  if (const auto r = SidebandProbe().usable(); !r) GTEST_SKIP() << r.error().text();
  if (const auto r = usable(); !r) GTEST_SKIP() << r.error().text();
  Scratch scratch;
  sim::SimConfig sim;
  sim.plugin = test::plugin_path();
  RecordConfig config;
  config.output = scratch.path("out.hcb");
  config.window.command = {test::test_program("threads"), "4", "30"};
  config.window.ring_bytes = 64 << 20;
  config.window.waits = Want::yes;
  const auto source = sim::make_sim_source(sim);
  const auto recorded = record_command(*source, kernel_perf_calls(), config, [](const std::string&) {});
  ASSERT_TRUE(recorded.ok()) << recorded.error().text();
  const auto reader = transport::BundleReader::open(config.output);
  ASSERT_TRUE(reader.ok()) << reader.error().text();
  const SnapshotInfo info = reader->snapshot(0);
  std::set<int32_t> threads{info.root_pids.front().value()};  // by sideband, which hides QEMU's
  std::vector<uint8_t> waits;
  for (const StreamInfo& s : info.streams) {
    auto bytes = reader->read_stream(0, s.id);
    ASSERT_TRUE(bytes.ok());
    if (s.kind == StreamKind::waits) waits = *bytes;
    if (s.kind != StreamKind::sideband) continue;
    perf::RecordReader records(*bytes);
    perf::Record r;
    while (records.next(r)) {
      const auto task = read_task_record(r);
      if (task && r.type == perf::kFork && task->parent_pid == info.root_pids.front())
        threads.insert(task->tid.value());
    }
  }
  EXPECT_EQ(threads.size(), 5u);
  const auto futexes = all<wait::Futex>(waits);
  EXPECT_GT(futexes.size(), 20u) << "a lock and a condition, passed around";
  std::set<uint64_t> addresses;
  for (const wait::Futex& f : futexes) {
    EXPECT_TRUE(threads.contains(f.header.tid)) << f.header.tid;
    EXPECT_LT(f.address, uint64_t{1} << 47);
    addresses.insert(f.address);
  }
  EXPECT_LT(addresses.size(), 12u) << "the program's, not QEMU's";
  for (const wait::Sleep& s : all<wait::Sleep>(waits)) EXPECT_TRUE(threads.contains(s.header.tid)) << s.header.tid;
  size_t among = 0;
  for (const wait::Wake& w : all<wait::Wake>(waits))
    among += threads.contains(w.header.tid) && threads.contains(w.woken_tid) && w.flags == 0;
  EXPECT_GT(among, 20u);
  EXPECT_EQ(all<wait::Exit>(waits).size(), 5u);
}

}  // namespace
}  // namespace hindcast::capture
