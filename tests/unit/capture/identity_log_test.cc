// What an identity log keeps of an invented /proc, as its reader understands it.
#include "capture/identity_log.h"

#include <gtest/gtest.h>

#include "capture/record_builder.h"
#include "decode/identity.h"
#include "decode/sideband.h"
#include "tests/unit/capture/scratch.h"

namespace hindcast::capture {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class IdentityLogTest : public ::testing::Test {
 protected:
  void make_log(IdentityConfig config = {}) {
    config.proc = proc_.dir();
    log_.emplace(config, [this] { return RecordTime(now_++); });
  }
  void put(int pid, int tid, const std::string& path) {
    const std::string folder = std::to_string(pid) + "/task/" + std::to_string(tid) + "/";
    proc_.write(folder + "cgroup", "0::" + path + "\n");
    proc_.write(folder + "status", "NStgid:\t" + std::to_string(pid) + "\nNSpid:\t" + std::to_string(tid) + "\n");
    proc_.write(folder + "ns/net", "");
  }
  void remove(int pid) { std::filesystem::remove_all(proc_.path(std::to_string(pid))); }
  void look_at_all() {
    log_->look_at_all([](Pid) { return false; }, [] {});
  }
  void see(uint32_t type, const TaskRecord& task, uint64_t time) {
    with(type, task, time, [&](const perf::Record& r) { log_->see(r, RecordTime(time)); });
  }
  void expect_fork(int parent, int pid, bool traced = false) {
    with(perf::kFork, {Pid(pid), Pid(parent), Tid(pid), Tid(parent)}, now_,
         [&](const perf::Record& r) { log_->expect(r, traced); });
  }
  template <class Then>
  static void with(uint32_t type, const TaskRecord& task, uint64_t time, const Then& then) {
    std::vector<uint8_t> bytes;
    append_task_record(bytes, type, task, {RecordTime(time), CpuId(0), task.pid, task.tid});
    perf::RecordReader reader(bytes);
    perf::Record record;
    ASSERT_TRUE(reader.next(record));
    then(record);
  }
  decode::IdentityBook book() {
    const std::vector<uint8_t> bytes = log_->records(RecordTime(1));
    StreamInfo info;
    info.id = 1;
    info.kind = StreamKind::sideband;
    info.sample_type = perf::kOurSampleType;
    decode::IdentityBook book;
    perf::RecordReader reader(bytes);
    perf::Record record;
    while (reader.next(record)) {
      decode::SidebandRecord r;
      EXPECT_EQ(decode::parse_sideband(record, info, r), decode::SidebandParse::ok);
      EXPECT_EQ(r.time, RecordTime(1));
      if (const auto* text = std::get_if<identity::CgroupText>(&r.body)) book.add_text(1, *text);
      if (const auto* look = std::get_if<identity::ThreadCgroup>(&r.body)) book.add_look(1, *look);
      if (const auto* look = std::get_if<identity::ThreadNamespaces>(&r.body)) book.add_look(*look);
    }
    EXPECT_FALSE(reader.malformed());
    book.finish();
    return book;
  }
  /// The paths that a thread was in, surely or not, each once, in the order of time.
  std::string seen(int tid) {
    const decode::IdentityBook all = book();
    const decode::ThreadIdentity* t = all.find(Tid(tid));
    std::string s;
    for (const decode::CgroupSpan& span : t ? t->cgroups : std::vector<decode::CgroupSpan>())
      for (const uint32_t number : span.texts) {
        const std::string text = all.text(number), path = text.substr(3, text.size() - 4);
        if (s.find(path) == std::string::npos) s += path;
      }
    return s;
  }

  Scratch proc_;
  uint64_t now_ = 100;
  std::optional<IdentityLog> log_;
  IdentityLog::Clock::time_point wall_ = IdentityLog::Clock::now();
};

TEST_F(IdentityLogTest, KeepsWhatEachLookTold) {
  make_log();
  put(7, 7, "/a");
  put(7, 8, "/b");  // threads of one process may be in different cgroups
  look_at_all();
  put(7, 7, "/c");
  look_at_all();
  EXPECT_EQ(seen(7), "/a/c");
  EXPECT_EQ(seen(8), "/b");
  const decode::IdentityBook all = book();
  EXPECT_EQ(all.texts(), 3u);
  ASSERT_EQ(all.find(Tid(8))->levels.size(), 1u);
  EXPECT_EQ(all.find(Tid(8))->levels[0].ids, (std::vector<identity::Ids>{{7, 8}}));
  EXPECT_TRUE(all.find(Tid(8))->namespaces.back().kinds[identity::kNet].any_of.size() == 1);
}

TEST_F(IdentityLogTest, NewProcessesAreLookedAtNoFasterThanTheRateAllowsTracedOnesFirst) {
  IdentityConfig config;
  config.looks_per_second = 8;
  make_log(config);
  for (int pid = 10; pid < 20; ++pid) {
    put(pid, pid, "/p" + std::to_string(pid));
    expect_fork(1, pid, pid == 19);
  }
  const auto nobody = [](Pid) { return false; };
  log_->poll(wall_, nobody);
  log_->poll(wall_ + milliseconds(1), nobody);
  EXPECT_EQ(seen(19), "/p19");
  EXPECT_EQ(seen(10), "/p10");
  EXPECT_EQ(seen(11), "");
  for (int i = 1; i <= 5; ++i) log_->poll(wall_ + i * milliseconds(250), nobody);
  EXPECT_EQ(seen(18), "/p18");
  EXPECT_EQ(log_->passed_over(), 0u);
}

TEST_F(IdentityLogTest, WhatFindsNoRoomToWaitIsCounted) {
  IdentityConfig config;
  config.most_waiting = 2;
  make_log(config);
  for (int pid = 10; pid < 15; ++pid) expect_fork(1, pid);
  EXPECT_EQ(log_->passed_over(), 3u);
}

TEST_F(IdentityLogTest, TracedThreadsAreLookedAtAgainNowAndThen) {
  make_log();
  put(7, 7, "/a");
  put(8, 8, "/a");
  look_at_all();
  put(7, 7, "/b");
  put(8, 8, "/b");
  const auto traced = [](Pid pid) { return pid == Pid(7); };
  log_->poll(wall_, traced);
  EXPECT_EQ(seen(7), "/a") << "it was looked at just now";
  log_->poll(wall_ + seconds(2), traced);
  EXPECT_EQ(seen(7), "/a/b");
  EXPECT_EQ(seen(8), "/a");
}

TEST_F(IdentityLogTest, AThreadThatEndedIsKeptAndItsIdMayBeAnothers) {
  make_log();
  put(7, 7, "/a");
  look_at_all();
  const uint64_t ended = now_;
  see(perf::kExit, {Pid(7), Pid(1), Tid(7), Tid(1)}, ended);
  see(perf::kFork, {Pid(7), Pid(1), Tid(7), Tid(1)}, ended + 1);
  now_ = ended + 2;
  put(7, 7, "/b");
  look_at_all();
  EXPECT_EQ(seen(7), "/a/b");
}

TEST_F(IdentityLogTest, ALookThatWasQuickerThanItsForkIsOfTheNewThread) {
  make_log();
  put(7, 7, "/a");
  expect_fork(1, 7);
  log_->poll(wall_, [](Pid) { return false; });
  see(perf::kFork, {Pid(7), Pid(1), Tid(7), Tid(1)}, 50);  // before the look, told after it
  see(perf::kExit, {Pid(7), Pid(1), Tid(7), Tid(1)}, now_);
  EXPECT_EQ(seen(7), "/a");
  EXPECT_EQ(log_->forgotten(), 0u);
}

TEST_F(IdentityLogTest, OfThoseThatEndedTheOldestGoFirstAndAreCounted) {
  IdentityConfig config;
  config.most_ended = 2;
  make_log(config);
  for (int pid = 10; pid < 13; ++pid) put(pid, pid, "/a");
  put(7, 7, "/alive");
  look_at_all();
  for (int pid = 10; pid < 13; ++pid) see(perf::kExit, {Pid(pid), Pid(1), Tid(pid), Tid(1)}, now_);
  EXPECT_EQ(log_->forgotten(), 1u);
  EXPECT_EQ(seen(10), "");
  EXPECT_EQ(seen(12), "/a");
  EXPECT_EQ(seen(7), "/alive");
}

TEST_F(IdentityLogTest, ThreadsWhoseExitWasLostAreEndedByTheNextLookAtAll) {
  make_log();
  put(7, 7, "/a");
  look_at_all();
  remove(7);
  look_at_all();
  EXPECT_EQ(seen(7), "/a");
  put(7, 7, "/b");
  look_at_all();
  EXPECT_EQ(seen(7), "/a/b");
}

TEST_F(IdentityLogTest, ManyMovesOfOneThreadDropTheFirstAndSaySo) {
  make_log();
  for (int i = 0; i < 70; ++i) {
    put(7, 7, "/" + std::to_string(i));
    look_at_all();
  }
  const decode::IdentityBook all = book();
  const auto& spans = all.find(Tid(7))->cgroups;
  EXPECT_EQ(spans.front().sure, decode::Sure::unknown);
  EXPECT_EQ(all.texts(), 64u);
}

TEST_F(IdentityLogTest, TextsTakeNoMoreRoomThanAllowed) {
  IdentityConfig config;
  config.most_text_bytes = 1000;
  make_log(config);
  put(7, 7, "/" + std::string(600, 'a'));
  put(8, 8, "/" + std::string(600, 'b'));
  look_at_all();
  EXPECT_EQ(log_->passed_over(), 1u);
  see(perf::kExit, {Pid(7), Pid(1), Tid(7), Tid(1)}, now_);
  EXPECT_EQ(book().texts(), 1u);
}

}  // namespace
}  // namespace hindcast::capture
