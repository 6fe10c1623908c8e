// The whole record path on the real kernel, with a source that needs no PT.
#include "capture/recorder.h"
#include "capture/words.h"

#include <csignal>
#include <cstring>
#include <optional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/wait.h>

#include "capture/record_builder.h"
#include "tests/support/sim_run.h"
#include "tests/unit/capture/fake_source.h"
#include "tests/unit/capture/scratch.h"
#include "transport/bundle_reader.h"

namespace hindcast::capture {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;

struct Recorded {
  RecordSummary summary;
  SnapshotInfo info;
  std::vector<std::string> said;
  std::map<uint32_t, std::vector<uint8_t>> streams, images;

  template <class Visit>
  void each_record(Visit visit) const {
    for (const StreamInfo& s : info.streams) {
      if (s.kind != StreamKind::sideband) continue;
      perf::RecordReader reader(streams.at(s.id));
      perf::Record r;
      while (reader.next(r)) visit(s, r);
      EXPECT_FALSE(reader.malformed());
    }
  }
  uint64_t count(uint32_t type) const {
    uint64_t n = 0;
    each_record([&](const StreamInfo&, const perf::Record& r) { n += r.type == type; });
    return n;
  }
};

Result<Recorded> record(FakeSource& source, RecordConfig config) {
  Scratch scratch;
  config.output = scratch.path("out.hcb");
  Recorded out;
  HC_TRY(out.summary,
         record_command(source, kernel_perf_calls(), config, [&](const std::string& s) { out.said.push_back(s); }));
  HC_TRY(const transport::BundleReader reader, transport::BundleReader::open(config.output));
  EXPECT_TRUE(reader.scrub().empty());
  out.info = reader.snapshot(0);
  for (const StreamInfo& s : out.info.streams) {
    HC_TRY(out.streams[s.id], reader.read_stream(0, s.id));
  }
  for (const ImageInfo& i : out.info.images) {
    HC_TRY(out.images[i.id], reader.read_image(0, i.id));
  }
  return out;
}

RecordConfig shell(const std::string& script) {
  RecordConfig c;
  c.window.command = {"/bin/sh", "-c", script};
  c.window.ring_bytes = 1 << 20;
  return c;
}

/// Where a script says kill -STOP $$: the recorder reads nothing from its next poll until the script has come there; then
/// it empties the rings once, `act` runs, and the script goes on. So tests do not depend on who is how fast.
constexpr const char* kStop = "kill -STOP $$; ";
void at_stop(FakeSource& source, std::function<Result<void>()> act) {
  source.on_poll = [&source, act = std::move(act), polls = 0]() mutable -> Result<void> {
    if (++polls > 2) return {};
    if (polls == 1) {
      siginfo_t end{};  // left to be collected: the recorder wants to know how its command ended
      EXPECT_EQ(::waitid(P_PID, static_cast<id_t>(source.started.value()), &end, WSTOPPED | WEXITED | WNOWAIT), 0);
      EXPECT_EQ(end.si_code, CLD_STOPPED);
      return {};
    }
    const auto result = act();
    ::kill(source.started.value(), SIGCONT);
    return result;
  };
}

/// Keeps this thread, and what it forks, on one CPU.
class OnOneCpu {
 public:
  OnOneCpu() {
    EXPECT_EQ(::sched_getaffinity(0, sizeof before_, &before_), 0);
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(static_cast<size_t>(::sched_getcpu()), &one);
    EXPECT_EQ(::sched_setaffinity(0, sizeof one, &one), 0);
  }
  ~OnOneCpu() { ::sched_setaffinity(0, sizeof before_, &before_); }
  OnOneCpu(const OnOneCpu&) = delete;

 private:
  cpu_set_t before_;
};

class RecorderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::vector<std::string> notes;
    SidebandProbe probe;
    if (const auto r = probe.usable(); !r) GTEST_SKIP() << r.error().text();
  }
};

TEST_F(RecorderTest, WritesOnePtAndOneSidebandStreamPerCpuAndACheckpoint) {
  FakeSource source("simulated");
  const auto r = record(source, shell("exit 0"));
  ASSERT_TRUE(r.ok()) << r.error().text();
  size_t pt = 0, sideband = 0, checkpoint = 0;
  for (const StreamInfo& s : r->info.streams) {
    if (s.kind == StreamKind::pt) {
      pt++;
      EXPECT_EQ(r->streams.at(s.id), (std::vector<uint8_t>{1, 2, 3, static_cast<uint8_t>(s.cpu.value())}));
    } else if (s.kind == StreamKind::sideband) {
      (s.cpu == kNoCpu ? checkpoint : sideband)++;
    }
  }
  EXPECT_EQ(pt, sideband);
  EXPECT_GE(pt, 1u);
  EXPECT_EQ(checkpoint, 1u);
  EXPECT_EQ(r->info.source, "simulated");
  EXPECT_EQ(r->info.record_clock, "monotonic_raw");
  EXPECT_EQ(r->info.root_pids.front(), source.started);
  EXPECT_EQ(r->info.command, "/bin/sh -c 'exit 0'");
  EXPECT_THAT(r->info.notes, Contains("a fake source"));
  EXPECT_THAT(r->info.notes, Contains("the command exited with status 0"));
}

TEST_F(RecorderTest, HoldsForkExecAndExitOfEveryDescendant) {
  FakeSource source("simulated");
  const auto r = record(source, shell("/bin/true; /bin/true & wait"));
  ASSERT_TRUE(r.ok()) << r.error().text();
  EXPECT_EQ(r->info.root_pids.size(), 3u);
  std::map<Pid, int> forks, execs, exits;
  r->each_record([&](const StreamInfo&, const perf::Record& record) {
    // Main threads: a sanitizer's fork may bring a thread of its own along.
    if (const auto t = read_task_record(record); t && t->tid.value() == t->pid.value())
      (record.type == perf::kFork ? forks : exits)[t->pid]++;
    if (const auto c = read_comm_record(record); c && c->exec) execs[c->pid]++;
  });
  for (const Pid pid : r->info.root_pids) {
    EXPECT_EQ(execs[pid], 1) << pid.value();
    EXPECT_EQ(exits[pid], 1) << pid.value();
  }
  EXPECT_EQ(forks[r->info.root_pids[1]], 1);
  EXPECT_EQ(forks[r->info.root_pids[2]], 1);
}

TEST_F(RecorderTest, HoldsTheContextSwitchesOfTheCommand) {
  FakeSource source("simulated");
  const auto r = record(source, shell("for i in 1 2 3 4 5; do sleep 0.01; done"));
  ASSERT_TRUE(r.ok()) << r.error().text();
  uint64_t of_the_tree = 0;
  r->each_record([&](const StreamInfo& s, const perf::Record& record) {
    if (record.type != perf::kSwitchCpuWide) return;
    const auto id = perf::read_sample_id(record, s.sample_type);
    ASSERT_TRUE(id.has_value());
    EXPECT_EQ(id->cpu, s.cpu);
    for (const Pid pid : r->info.root_pids) of_the_tree += id->pid == pid;
  });
  EXPECT_GE(of_the_tree, 10u);
}

TEST_F(RecorderTest, SimulatedModeKeepsMappingsOfTheTreeOnly) {
  FakeSource source("simulated");
  at_stop(source, []() -> Result<void> {
    EXPECT_EQ(std::system("/bin/true"), 0);
    return {};
  });
  const auto r = record(source, shell(kStop + std::string("/bin/true")));
  ASSERT_TRUE(r.ok()) << r.error().text();
  EXPECT_GT(r->count(perf::kMmap2), 5u);
  r->each_record([&](const StreamInfo& s, const perf::Record& record) {
    const auto m = read_map_record(record, s.sample_type);
    if (m) {
      EXPECT_THAT(r->info.root_pids, Contains(m->pid)) << m->path;
    }
  });
}

TEST_F(RecorderTest, TheSourceSeesRecordsInOrderAndNothingAfterItWasComplete) {
  FakeSource source("simulated");
  const auto r = record(source, shell("for i in 1 2 3 4 5 6 7 8 9 10; do /bin/true; done; sleep 0.05"));
  ASSERT_TRUE(r.ok()) << r.error().text();
  EXPECT_GT(source.types[perf::kSwitchCpuWide], 20u);
  EXPECT_GT(source.types[perf::kSample], 100u) << "page faults";
  EXPECT_EQ(source.out_of_order, 0u);
  uint64_t late = 0;  // when a CPU stood still for long while it wrote a record, the recording says so
  for (const std::string& note : r->info.notes)
    if (note.find("records arrived late") != std::string::npos) late = std::stoull(note);
  EXPECT_LE(source.after_complete, late);
  EXPECT_EQ(r->count(perf::kSample), 0u) << "page faults are for the source only";
}

TEST_F(RecorderTest, WhatTheSourceDropsIsNotStored) {
  FakeSource source("simulated");
  source.drop_type = perf::kMmap2;
  const auto r = record(source, shell("exit 0"));
  ASSERT_TRUE(r.ok()) << r.error().text();
  EXPECT_GT(source.types[perf::kMmap2], 0u);
  EXPECT_EQ(r->count(perf::kMmap2), 0u);
  EXPECT_TRUE(r->info.images.empty()) << "nor are its files";
}

TEST_F(RecorderTest, ADeletedProgramIsStillAnImage) {
  Scratch scratch;
  const std::string copy = scratch.path("gone");
  FakeSource source("simulated");
  at_stop(source, []() -> Result<void> { return {}; });  // how soon the recorder must look is code_bytes_test's matter
  const auto r = record(source, shell("cp /bin/true " + copy + "; " + copy + "; " + kStop + "rm " + copy));
  ASSERT_TRUE(r.ok()) << r.error().text();
  const auto image =
      std::find_if(r->info.images.begin(), r->info.images.end(), [&](const ImageInfo& i) { return i.path == copy; });
  ASSERT_NE(image, r->info.images.end());
  EXPECT_EQ(r->images.at(image->id), read_file("/bin/true"));
  EXPECT_FALSE(image->build_id.empty());
}

TEST_F(RecorderTest, EachMappedFileIsStoredOnce) {
  FakeSource source("perf");
  const auto r = record(source, shell("/bin/true; /bin/true; /bin/true"));
  ASSERT_TRUE(r.ok()) << r.error().text();
  std::set<std::string> paths;
  for (const ImageInfo& i : r->info.images) EXPECT_TRUE(paths.insert(i.path).second) << i.path;
  EXPECT_GE(paths.size(), 3u) << "sh, true, libc, ld.so";
  EXPECT_EQ(r->info.record_clock, "perf");
}

TEST_F(RecorderTest, TheExitStatusIsReported) {
  FakeSource source("simulated");
  const auto r = record(source, shell("exit 7"));
  ASSERT_TRUE(r.ok()) << r.error().text();
  EXPECT_TRUE(r->summary.command_ended);
  EXPECT_EQ(r->summary.command.shell_status(), 7);
  const auto killed = record(source, shell("kill -9 $$"));
  ASSERT_TRUE(killed.ok());
  EXPECT_EQ(killed->summary.command.shell_status(), 128 + 9);
  EXPECT_THAT(killed->summary.command.text(), HasSubstr("signal 9"));
}

TEST_F(RecorderTest, ACommandThatCannotBeExecutedIsAnErrorAndLeavesNoFile) {
  Scratch scratch;
  FakeSource source("simulated");
  RecordConfig c;
  c.window.command = {"/no/such/program"};
  c.output = scratch.path("out.hcb");
  const auto r = record_command(source, kernel_perf_calls(), c, [](const std::string&) {});
  ASSERT_FALSE(r.ok());
  EXPECT_EQ(r.error().code, Errc::not_found);
  EXPECT_THAT(r.error().what, HasSubstr("/no/such/program"));
  EXPECT_TRUE(scratch.names().empty());
}

TEST_F(RecorderTest, AProcessThatOutlivesTheCommandIsWaitedForAndThenNamed) {
  FakeSource source("simulated");
  RecordConfig c = shell("sleep 0.2 & exit 0");
  c.linger = std::chrono::minutes(2);
  const auto waited = record(source, c);
  ASSERT_TRUE(waited.ok()) << waited.error().text();
  std::map<Pid, int> exits;
  waited->each_record([&](const StreamInfo&, const perf::Record& record) {
    const auto t = read_task_record(record);
    if (t && record.type == perf::kExit) exits[t->pid]++;
  });
  EXPECT_EQ(exits.size(), 2u) << "both ended within the recording";
  c = shell("sleep 120 >/dev/null 2>&1 & exit 0");
  c.linger = std::chrono::milliseconds(50);
  const auto cut = record(source, c);
  ASSERT_TRUE(cut.ok()) << cut.error().text();
  EXPECT_THAT(cut->said, Contains(HasSubstr("1 of its processes still run")));
  for (const Pid pid : cut->info.root_pids) ::kill(pid.value(), SIGKILL);
}

TEST_F(RecorderTest, ASignalGoesToTheCommandAndTheRecordingIsFinished) {
  FakeSource source("simulated");
  at_stop(source, []() -> Result<void> {
    ::kill(::getpid(), SIGTERM);
    return {};
  });
  const auto r = record(source, shell(std::string("trap 'exit 5' TERM; ") + kStop + "while true; do sleep 0.01; done"));
  ASSERT_TRUE(r.ok()) << r.error().text();
  EXPECT_EQ(r->summary.command.shell_status(), 5);
}

TEST_F(RecorderTest, ASourceThatBreaksEndsTheRecordingWithWhatThereIs) {
  FakeSource source("simulated");
  at_stop(source, []() -> Result<void> { return Error{Errc::io, "the ring broke", {}, {}}; });
  const auto r = record(source, shell(kStop + std::string("exec sleep 120")));
  ::kill(source.started.value(), SIGKILL);
  ASSERT_TRUE(r.ok()) << r.error().text();
  EXPECT_FALSE(r->summary.command_ended);
  EXPECT_THAT(r->info.notes, Contains(HasSubstr("the ring broke")));
  EXPECT_GT(r->count(perf::kMmap2), 0u);
}

TEST_F(RecorderTest, ATinyRingLosesRecordsAndSaysSo) {
  FakeSource source("simulated");
  // While nobody reads, 300 processes come and go on one CPU. The kernel admits the loss in front of the next record that
  // finds room, so more of them follow.
  const std::string come_and_go = "i=0; while [ $i -lt 300 ]; do i=$((i+1)); (exit 0); done; ";
  at_stop(source, []() -> Result<void> { return {}; });
  const OnOneCpu pinned;
  RecordConfig c = shell(come_and_go + kStop + "(exit 0)");
  c.window.sideband_ring_bytes = 4096;
  const auto r = record(source, c);
  ASSERT_TRUE(r.ok()) << r.error().text();
  ASSERT_GT(r->summary.lost_records, 0u);
  EXPECT_GT(r->count(perf::kLost), 0u);
  EXPECT_THAT(r->info.notes, Contains(HasSubstr("dropped " + std::to_string(r->summary.lost_records))));
}

TEST_F(RecorderTest, ASmallWindowKeepsTheNewestSwitchesAndSaysSo) {
  FakeSource source("simulated");
  RecordConfig c = shell("i=0; while [ $i -lt 300 ]; do i=$((i+1)); (exit 0); done");
  c.window.sideband.switch_bytes_per_cpu = 8192;
  c.window.sideband.process_bytes = 8192;
  const auto r = record(source, c);
  ASSERT_TRUE(r.ok()) << r.error().text();
  for (const StreamInfo& s : r->info.streams)
    if (s.kind == StreamKind::sideband && s.cpu != kNoCpu) {
      EXPECT_LE(s.bytes, 3u * 8192);
    }
  EXPECT_THAT(r->info.notes, Contains(HasSubstr("window is full")));
}

TEST_F(RecorderTest, MemoryOfTheSourceBecomesAnImageWithItsPlace) {
  FakeSource source("simulated");
  MemoryCopy m;
  m.placements.resize(1);
  m.placements[0].pid = Pid(42);
  m.placements[0].address = 0x7000;
  m.placements[0].length = 3;
  m.path = "//anon";
  m.bytes = {0x90, 0x90, 0xc3};
  source.copies.push_back(m);
  const auto r = record(source, shell("exit 0"));
  ASSERT_TRUE(r.ok()) << r.error().text();
  ASSERT_EQ(r->info.placements.size(), 1u);
  const PlacementInfo& p = r->info.placements[0];
  EXPECT_EQ(p.address, 0x7000u);
  EXPECT_EQ(r->images.at(p.image), m.bytes);
}

/// Of a program that runs natively and rewrites a function again and again (tests/programs/rewrite.cc).
void expect_versions_of_rewritten_code(const std::string& memory) {
  if (test::test_program("rewrite").empty()) GTEST_SKIP() << test::kNoPluginText;
  FakeSource source("perf");
  Scratch dumps;
  RecordConfig c = shell("");
  c.window.command = {test::test_program("rewrite"), memory, "2", "300", dumps.path("")};
  const auto r = record(source, c);
  ASSERT_TRUE(r.ok()) << r.error().text();

  std::set<ImageKind> kinds;
  for (const ImageInfo& i : r->info.images) {
    if (i.kind != ImageKind::jitdump && i.kind != ImageKind::perf_map) continue;
    kinds.insert(i.kind);
    EXPECT_EQ(i.pid, source.started);
    const std::vector<uint8_t>& bytes = r->images.at(i.id);
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    EXPECT_NE(text.find(i.kind == ImageKind::jitdump ? "made_in_round_299" : "steady_function"), text.npos);
  }
  EXPECT_TRUE(kinds.count(ImageKind::jitdump));
  EXPECT_TRUE(kinds.count(ImageKind::perf_map));

  // All that is said of the page, in order of time: one thing at a time, and each version is one that the program wrote.
  struct Said {
    RecordTime from, to;
    int round;  // the factor of its multiplication; -1: unknown
  };
  std::vector<Said> said;
  uint64_t page = r->info.unknown_code.empty() ? 0 : r->info.unknown_code.front().address;
  for (const PlacementInfo& p : r->info.placements) {
    const std::vector<uint8_t>& bytes = r->images.at(p.image);
    const uint8_t begin[] = {0x31, 0xc0, 0x48, 0x85, 0xff, 0x74};
    if (p.length < 128 || std::memcmp(bytes.data() + 64, begin, sizeof begin) != 0) continue;
    page = p.address;
    const bool jump = bytes[64 + 19] == 0x85;
    EXPECT_EQ(bytes[64 + (jump ? 27 : 22)], 0xc3);
    said.push_back({p.from, p.to, bytes[64 + (jump ? 26 : 21)]});
    EXPECT_EQ(jump, said.back().round % 2 == 0) << "half of one version and half of another";
  }
  // Memory that stays writable may change faster than it is looked at: then no version is sure.
  if (memory == "sealed") {
    EXPECT_GE(said.size(), 2u);
  }
  for (const UnknownCode& u : r->info.unknown_code)
    if (u.address <= page && page < u.address + u.length) said.push_back({u.from, u.to, -1});
  EXPECT_FALSE(said.empty());
  std::sort(said.begin(), said.end(),
            [](const Said& a, const Said& b) { return std::pair(a.from, a.to) < std::pair(b.from, b.to); });
  for (size_t i = 1; i < said.size(); ++i) EXPECT_LE(said[i - 1].to, said[i].from) << i;
}

TEST_F(RecorderTest, CodeThatIsNeverWritableIsKeptInVersions) { expect_versions_of_rewritten_code("sealed"); }

TEST_F(RecorderTest, CodeThatIsAlwaysWritableIsKeptInVersions) { expect_versions_of_rewritten_code("open"); }

TEST(ShellQuoted, IsReadBackByTheShell) {
  EXPECT_EQ(shell_quoted({"ls", "-l", "a b", "it's", ""}), "ls -l 'a b' 'it'\\''s' ''");
}

TEST(HumanBytes, NamesUnits) {
  EXPECT_EQ(human_bytes(12), "12 B");
  EXPECT_EQ(human_bytes(1536), "1.5 KiB");
  EXPECT_EQ(human_bytes(uint64_t{64} << 20), "64.0 MiB");
}

}  // namespace
}  // namespace hindcast::capture
