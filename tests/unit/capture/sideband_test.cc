// Sideband rings, their order across CPUs, and the bounded window: on fake rings and on the real kernel.
#include "capture/sideband.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include "capture/record_builder.h"
#include "capture/sideband_state.h"
#include "capture/sideband_store.h"
#include "decode/sideband.h"
#include "tests/unit/capture/fake_perf.h"
#include "tests/unit/capture/scratch.h"

namespace hindcast::capture {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

std::vector<uint8_t> comm(uint64_t time, const std::string& name, int tid = 7) {
  std::vector<uint8_t> out;
  append_comm_record(out, {Pid(7), Tid(tid), name, false}, {RecordTime(time), CpuId(0), Pid(7), Tid(tid)});
  return out;
}
std::vector<uint8_t> switch_record(uint64_t time, int tid) {
  std::vector<uint8_t> out;
  const uint8_t body[8] = {};
  append_record(out, perf::kSwitchCpuWide, 0, body, {RecordTime(time), CpuId(0), Pid(tid), Tid(tid)});
  return out;
}
std::vector<uint8_t> map_record(uint64_t time, uint64_t start, uint64_t length, const std::string& path, int pid = 7) {
  std::vector<uint8_t> out;
  MapRecord m;
  m.pid = Pid(pid);
  m.tid = Tid(pid);
  m.start = start;
  m.length = length;
  m.prot = PROT_READ | PROT_EXEC;
  m.path = path;
  append_map_record(out, m, {RecordTime(time), CpuId(0), Pid(pid), Tid(pid)});
  return out;
}
perf::Record parsed(ByteSpan bytes) {
  perf::Record r;
  perf::RecordReader(bytes).next(r);
  return r;
}

TEST(SidebandRing, HandsOutWholeRecordsThatWrap) {
  FakePerf fake;
  auto ring = SidebandRing::open(fake, perf_event_attr{}, -1, 0, 4096, "test");
  ASSERT_TRUE(ring.ok()) << ring.error().text();
  FakeRing writer(ring->page());
  std::vector<std::string> got;
  for (int i = 0; i < 200; i++) {  // 200 * 56 bytes: the ring is passed almost three times
    writer.write(comm(static_cast<uint64_t>(i), "n" + std::to_string(i)));
    ring->drain([&](ByteSpan b) { got.push_back(read_comm_record(parsed(b))->comm); });
  }
  ASSERT_THAT(got, SizeIs(200));
  for (int i = 0; i < 200; i++) EXPECT_EQ(got[static_cast<size_t>(i)], "n" + std::to_string(i));
  EXPECT_EQ(ring->damaged(), 0u);
}

TEST(SidebandRing, GivesSpaceBackOnlyAfterReading) {
  FakePerf fake;
  auto ring = SidebandRing::open(fake, perf_event_attr{}, -1, 0, 4096, "test");
  ASSERT_TRUE(ring.ok());
  FakeRing writer(ring->page());
  writer.write(comm(1, "a"));
  ring->drain([&](ByteSpan) { EXPECT_EQ(ring->page()->data_tail, 0u); });
  EXPECT_EQ(ring->page()->data_tail, ring->page()->data_head);
}

TEST(SidebandRing, AnImpossibleSizeSkipsWhatIsLeftAndIsCounted) {
  FakePerf fake;
  auto ring = SidebandRing::open(fake, perf_event_attr{}, -1, 0, 4096, "test");
  ASSERT_TRUE(ring.ok());
  FakeRing writer(ring->page());
  std::vector<uint8_t> bad = comm(1, "a");
  bad[6] = 4;  // shorter than its own header
  bad[7] = 0;
  writer.write(bad);
  int n = 0;
  ring->drain([&](ByteSpan) { n++; });
  EXPECT_EQ(n, 0);
  EXPECT_EQ(ring->damaged(), 1u);
  writer.write(comm(2, "b"));
  ring->drain([&](ByteSpan) { n++; });
  EXPECT_EQ(n, 1);
}

TEST(SidebandRing, IsHalvedWhileTheKernelRefusesToLockIt) {
  FakePerf fake;
  fake.most_mapped = (size_t{256} << 10) + 4096;
  const auto ring = SidebandRing::open(fake, perf_event_attr{}, -1, 0, size_t{4} << 20, "test");
  ASSERT_TRUE(ring.ok()) << ring.error().text();
  EXPECT_EQ(ring->ring_bytes(), size_t{256} << 10);
  fake.most_mapped = 4096;
  const auto refused = SidebandRing::open(fake, perf_event_attr{}, -1, 0, size_t{4} << 20, "test");
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, Errc::permission);
  EXPECT_THAT(refused.error().fix, HasSubstr("CAP_IPC_LOCK"));
}

TEST(Negotiation, DropsOnlyWhatTheKernelRefusesAndNamesIt) {
  FakePerf fake;
  fake.refuse = [](const perf_event_attr& a) { return a.cgroup || a.build_id ? EINVAL : 0; };
  std::vector<std::string> notes;
  const auto attr = negotiate_sideband(fake, sideband_attr(RecordClock::monotonic_raw, 4096), 0, notes);
  ASSERT_TRUE(attr.ok());
  EXPECT_FALSE(attr->cgroup);
  EXPECT_FALSE(attr->build_id);
  EXPECT_TRUE(attr->ksymbol && attr->namespaces && attr->mmap_data && attr->context_switch);
  ASSERT_THAT(notes, SizeIs(2));
  EXPECT_THAT(notes[0], HasSubstr("cgroup"));
  EXPECT_THAT(notes[1], HasSubstr("build_id"));
}

TEST(Negotiation, WhatIsNotOptionalIsAnError) {
  FakePerf fake;
  fake.refuse = [](const perf_event_attr&) { return EACCES; };
  std::vector<std::string> notes;
  const auto attr = negotiate_sideband(fake, sideband_attr(RecordClock::perf_default, 4096), 0, notes);
  ASSERT_FALSE(attr.ok());
  EXPECT_EQ(attr.error().code, Errc::permission);
  EXPECT_THAT(attr.error().found, HasSubstr("perf_event_paranoid"));
}

class FakeSideband : public ::testing::Test {
 protected:
  void SetUp() override {
    SidebandConfig c;
    c.cpus = {CpuId(0), CpuId(1)};
    c.ring_bytes = 4096;
    auto opened = Sideband::open(fake_, c, notes_);
    ASSERT_TRUE(opened.ok());
    sideband_.emplace(std::move(opened).value());
    for (size_t i = 0; i < 2; i++) writers_.emplace_back(fake_.page(i));
  }
  std::vector<std::string> deliver(uint64_t until) {
    std::vector<std::string> got;
    sideband_->deliver(RecordTime(until), [&](Delivered& d) {
      const auto r = parsed(d.bytes);
      got.push_back(r.type == perf::kLost ? "lost" : read_comm_record(r)->comm);
    });
    return got;
  }
  FakePerf fake_;
  std::vector<std::string> notes_;
  std::optional<Sideband> sideband_;
  std::vector<FakeRing> writers_;
};

TEST_F(FakeSideband, DeliversInOrderOfTimeAcrossCpus) {
  writers_[0].write(comm(10, "a"));
  writers_[0].write(comm(30, "c"));
  writers_[1].write(comm(20, "b"));
  writers_[1].write(comm(40, "d"));
  sideband_->drain();
  EXPECT_THAT(deliver(100), ElementsAre("a", "b", "c", "d"));
}

TEST_F(FakeSideband, HoldsBackWhatIsLaterThanAsked) {
  writers_[0].write(comm(10, "a"));
  writers_[1].write(comm(20, "b"));
  sideband_->drain();
  EXPECT_THAT(deliver(19), ElementsAre("a"));
  writers_[0].write(comm(20, "c"));
  sideband_->drain();
  EXPECT_THAT(deliver(20), ElementsAre("b", "c"));
  EXPECT_EQ(sideband_->late_records(), 0u);
}

TEST_F(FakeSideband, ARecordThatComesTooLateIsCounted) {
  writers_[0].write(comm(10, "a"));
  sideband_->drain();
  deliver(15);
  writers_[1].write(comm(12, "late"));
  sideband_->drain();
  EXPECT_THAT(deliver(20), ElementsAre("late"));
  EXPECT_EQ(sideband_->late_records(), 1u);
}

TEST_F(FakeSideband, ALostRecordStaysBeforeTheRecordItPrecededInItsRing) {
  // the kernel stamps LOST later than the record that made room for it
  std::vector<uint8_t> lost;
  append_lost_record(lost, 0, 3, {RecordTime(21), CpuId(0), Pid(0), Tid(0)});
  writers_[0].write(lost);
  writers_[0].write(comm(20, "after"));
  sideband_->drain();
  EXPECT_THAT(deliver(100), ElementsAre("lost", "after"));
}

TEST_F(FakeSideband, ACpuThatCameIsFollowedAndOneThatCameBackKeepsItsRecords) {
  writers_[1].write(comm(10, "before"));
  ASSERT_TRUE(sideband_->add_cpu(CpuId(1)).ok());
  ASSERT_TRUE(sideband_->add_cpu(CpuId(2)).ok());
  EXPECT_THAT(fake_.controls, ElementsAre(PERF_EVENT_IOC_DISABLE, PERF_EVENT_IOC_ENABLE, PERF_EVENT_IOC_ENABLE));
  FakeRing again(fake_.page(2)), third(fake_.page(3));
  again.write(comm(30, "after"));
  third.write(comm(20, "new"));
  sideband_->drain();
  EXPECT_THAT(deliver(100), ElementsAre("before", "new", "after"));
  EXPECT_EQ(sideband_->wakeup_fds().size(), 3u);
  fake_.refuse = [](const perf_event_attr&) { return ENODEV; };
  EXPECT_FALSE(sideband_->add_cpu(CpuId(3)).ok());
}

TEST_F(FakeSideband, ADamagedRingShowsAsALostRecord) {
  std::vector<uint8_t> bad = comm(1, "a");
  bad[6] = 0;
  bad[7] = 0;
  writers_[0].write(bad);
  sideband_->drain();
  EXPECT_THAT(deliver(100), ElementsAre("lost"));
}

TEST(SidebandState, ExecDropsMappingsAndForkCopiesThem) {
  SidebandState s;
  s.fold(parsed(map_record(1, 0x1000, 0x1000, "/a")));
  std::vector<uint8_t> fork;
  append_task_record(fork, perf::kFork, {Pid(8), Pid(7), Tid(8), Tid(7)}, {RecordTime(2)});
  s.fold(parsed(fork));
  EXPECT_EQ(s.map_count(), 2u);
  std::vector<uint8_t> exec;
  append_comm_record(exec, {Pid(7), Tid(7), "new", true}, {RecordTime(3)});
  s.fold(parsed(exec));
  EXPECT_EQ(s.map_count(), 1u);
}

TEST(SidebandState, AProcessGoesWithItsLastThread) {
  SidebandState s;
  s.set_comm(Pid(7), Tid(7), "main");
  s.set_comm(Pid(7), Tid(9), "worker");
  const auto exit_of = [&](int tid) {
    std::vector<uint8_t> out;
    append_task_record(out, perf::kExit, {Pid(7), Pid(1), Tid(tid), Tid(1)}, {RecordTime(1)});
    s.fold(parsed(out));
  };
  exit_of(7);
  EXPECT_EQ(s.process_count(), 1u);
  exit_of(9);
  EXPECT_EQ(s.process_count(), 0u);
  EXPECT_EQ(s.thread_count(), 0u);
}

TEST(SidebandState, AMappingOverAnotherCutsItAndKeepsFileOffsets) {
  SidebandState s;
  s.fold(parsed(map_record(1, 0x1000, 0x3000, "/a")));
  s.fold(parsed(map_record(2, 0x2000, 0x1000, "/b")));
  const std::vector<uint8_t> records = s.to_records(RecordTime(9));
  perf::RecordReader reader(records);
  perf::Record r;
  std::vector<std::tuple<uint64_t, uint64_t, uint64_t, std::string>> maps;
  while (reader.next(r))
    if (const auto m = read_map_record(r, perf::kOurSampleType))
      maps.emplace_back(m->start, m->length, m->file_offset, m->path);
  EXPECT_THAT(maps, ElementsAre(std::make_tuple(0x1000, 0x1000, 0, "/a"), std::make_tuple(0x2000, 0x1000, 0, "/b"),
                                std::make_tuple(0x3000, 0x1000, 0x2000, "/a")));
}

TEST(SidebandState, KeepsTheNamespacesOfEachThread) {
  SidebandState s;
  const auto fold = [&s](int tid, uint64_t network) {
    std::vector<uint8_t> body, record;
    ByteWriter w(body);
    w.put<int32_t>(7);
    w.put<int32_t>(tid);
    w.u64(1);
    w.u64(4);
    w.u64(network);
    append_record(record, perf::kNamespaces, 0, body, {RecordTime(1), CpuId(0), Pid(7), Tid(tid)});
    s.fold(parsed(record));
  };
  fold(7, 100);
  fold(8, 100);
  fold(8, 200);  // one thread may go elsewhere without the others
  const std::vector<uint8_t> records = s.to_records(RecordTime(9));
  StreamInfo info;
  info.sample_type = perf::kOurSampleType;
  perf::RecordReader reader(records);
  perf::Record r;
  std::map<Tid, uint64_t> networks;
  while (reader.next(r)) {
    decode::SidebandRecord read;
    ASSERT_EQ(decode::parse_sideband(r, info, read), decode::SidebandParse::ok);
    if (const auto* n = std::get_if<decode::NamespacesRecord>(&read.body)) {
      networks[n->tid] = n->namespaces[identity::kNet].inode;
      EXPECT_FALSE(n->namespaces[identity::kUts].known());
    }
  }
  EXPECT_EQ(networks, (std::map<Tid, uint64_t>{{Tid(7), 100}, {Tid(8), 200}}));
}

TEST(SidebandState, RecordsThatAreCutShortChangeNothing) {
  const std::vector<uint8_t> whole = map_record(1, 0x1000, 0x1000, "/a");
  for (size_t n = 8; n < whole.size(); n += 8) {
    std::vector<uint8_t> cut(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(n));
    cut[6] = static_cast<uint8_t>(n);
    SidebandState s;
    s.fold(parsed(cut));
    EXPECT_LE(s.map_count(), 1u);
  }
}

TEST(MapRecord, SurvivesWritingAndReading) {
  MapRecord m;
  m.pid = Pid(1);
  m.tid = Tid(2);
  m.start = 0x400000;
  m.length = 0x1000;
  m.file_offset = 0x2000;
  m.prot = PROT_READ;
  m.flags = MAP_PRIVATE;
  m.path = "/usr/bin/with space";
  for (const bool with_id : {false, true}) {
    if (with_id)
      m.build_id = std::string("\x01\x02\xff", 3);
    else
      m.inode = 77;
    if (with_id) m.inode = 0;
    std::vector<uint8_t> out;
    append_map_record(out, m, {RecordTime(5), CpuId(1), Pid(1), Tid(2)});
    EXPECT_EQ(read_map_record(parsed(out), perf::kOurSampleType), m);
    EXPECT_EQ(record_time(parsed(out), perf::kOurSampleType), RecordTime(5));
  }
}

std::vector<Cut> streams_of(SidebandStore& store) { return store.streams({CpuId(0), CpuId(1)}, {}); }
uint64_t count_of(const Cut& cut, uint32_t type) {
  perf::RecordReader reader(cut.bytes);
  perf::Record r;
  uint64_t n = 0;
  while (reader.next(r)) n += r.type == type;
  EXPECT_FALSE(reader.malformed());
  return n;
}

TEST(SidebandStore, KeepsEverythingWithinItsBudget) {
  SidebandStore store({}, RecordTime(1));
  for (uint64_t i = 0; i < 100; i++) {
    store.add(CpuId(0), {i, i}, switch_record(i, 5));
    store.add(CpuId(0), {i, i}, comm(i, "x"));
  }
  const auto cuts = streams_of(store);
  ASSERT_THAT(cuts, SizeIs(3));
  EXPECT_EQ(cuts[0].info.cpu, kNoCpu);
  EXPECT_EQ(count_of(cuts[1], perf::kSwitchCpuWide), 100u);
  EXPECT_EQ(count_of(cuts[1], perf::kComm), 100u);
  EXPECT_FALSE(cuts[1].info.wrapped);
  EXPECT_TRUE(cuts[2].bytes.empty());
}

TEST(SidebandStore, ABusyCpuDoesNotEvictTheSwitchesOfAnIdleOne) {
  SidebandBudget budget;
  budget.switch_bytes_per_cpu = 4096;
  SidebandStore store(budget, RecordTime(1));
  store.add(CpuId(1), {1, 1}, switch_record(1, 5));
  for (uint64_t i = 2; i < 1000; i++) store.add(CpuId(0), {i, i}, switch_record(i, static_cast<int>(i)));
  const auto cuts = streams_of(store);
  EXPECT_TRUE(cuts[1].info.wrapped);
  EXPECT_LE(cuts[1].bytes.size(), 4096u);
  EXPECT_EQ(count_of(cuts[2], perf::kSwitchCpuWide), 1u);
  EXPECT_FALSE(cuts[2].info.wrapped);
  EXPECT_GT(store.evicted_switches(), 900u);
}

TEST(SidebandStore, AShortenedWindowStillBeginsWithWhoRuns) {
  SidebandBudget budget;
  budget.switch_bytes_per_cpu = 4096;
  SidebandStore store(budget, RecordTime(1));
  for (uint64_t i = 1; i < 1000; i++) store.add(CpuId(0), {i, i}, switch_record(i, static_cast<int>(i)));
  const auto cuts = streams_of(store);
  perf::RecordReader reader(cuts[1].bytes);
  perf::Record r;
  uint64_t expected = 0;
  while (reader.next(r)) {
    const auto id = perf::read_sample_id(r, perf::kOurSampleType);
    if (expected) {
      EXPECT_EQ(id->time->value(), expected) << "no hole between the kept switch and the window";
    }
    expected = id->time->value() + 1;
  }
  EXPECT_EQ(expected, 1000u);
}

TEST(SidebandStore, RecordsOfProcessesOlderThanTheWindowOfSwitchesStayBeforeIt) {
  SidebandBudget budget;
  budget.switch_bytes_per_cpu = 4096;
  SidebandStore store(budget, RecordTime(1));
  for (uint64_t i = 1; i < 1000; i++)
    store.add(CpuId(0), {i, i}, i % 100 == 0 ? comm(i, "x") : switch_record(i, static_cast<int>(i)));
  ASSERT_GT(store.evicted_switches(), 800u);
  const auto cuts = streams_of(store);
  EXPECT_EQ(count_of(cuts[1], perf::kComm), 9u);
  perf::RecordReader reader(cuts[1].bytes);
  perf::Record r;
  uint64_t before = 0;
  while (reader.next(r)) {
    const uint64_t time = record_time(r, perf::kOurSampleType)->value();
    EXPECT_GT(time, before);
    before = time;
  }
}

TEST(SidebandStore, OldRecordsOfProcessesLiveOnInTheCheckpoint) {
  SidebandBudget budget;
  budget.process_bytes = 8192;
  SidebandStore store(budget, RecordTime(1));
  store.add(CpuId(0), {2, 2}, map_record(2, 0x1000, 0x1000, "/first"));
  for (uint64_t i = 3; i < 1000; i++) store.add(CpuId(i % 2), {i, i}, comm(i, "n" + std::to_string(i)));
  EXPECT_GT(store.folded_records(), 800u);
  const auto cuts = streams_of(store);
  EXPECT_EQ(count_of(cuts[0], perf::kMmap2), 1u);
  EXPECT_EQ(count_of(cuts[0], perf::kComm), 1u);
  // the checkpoint's time lies before every record that follows it
  perf::RecordReader reader(cuts[0].bytes);
  perf::Record r;
  ASSERT_TRUE(reader.next(r));
  const uint64_t at = record_time(r, perf::kOurSampleType)->value();
  for (size_t i = 1; i <= 2; i++) {
    perf::RecordReader later(cuts[i].bytes);
    while (later.next(r)) EXPECT_GT(record_time(r, perf::kOurSampleType)->value(), at);
  }
}

TEST(SidebandStore, MergesOtherStreamsOfACpuByTime) {
  SidebandStore store({}, RecordTime(1));
  store.add(CpuId(0), {10, 1}, comm(10, "a"));
  store.add(CpuId(0), {30, 2}, comm(30, "c"));
  Cut extra;
  extra.info.cpu = CpuId(0);
  extra.info.sample_type = perf::kOurSampleType;
  const uint8_t aux[24] = {};
  append_record(extra.bytes, perf::kAux, 0, aux, {RecordTime(20), CpuId(0), Pid(0), Tid(0)});
  std::vector<Cut> more;
  more.push_back(std::move(extra));
  const auto cuts = store.streams({CpuId(0)}, more);
  perf::RecordReader reader(cuts[1].bytes);
  perf::Record r;
  std::vector<uint32_t> types;
  while (reader.next(r)) types.push_back(r.type);
  EXPECT_THAT(types, ElementsAre(perf::kComm, perf::kAux, perf::kComm));
}

TEST(SidebandStore, AddsUpWhatTheKernelSaysItDropped) {
  SidebandStore store({}, RecordTime(1));
  for (const uint64_t n : {uint64_t{3}, uint64_t{4}}) {
    std::vector<uint8_t> lost;
    append_lost_record(lost, 0, n, {RecordTime(n), CpuId(0), Pid(0), Tid(0)});
    store.add(CpuId(0), {n, n}, lost);
  }
  EXPECT_EQ(store.lost_records(), 7u);
}

TEST(RealSideband, ShowsAChildFromForkToExit) {
  if (const auto usable = SidebandProbe().usable(); !usable) GTEST_SKIP() << usable.error().text();
  SidebandConfig c;
  c.cpus = online_cpus().value();
  c.clock = RecordClock::monotonic_raw;
  std::vector<std::string> notes;
  auto s = Sideband::open(kernel_perf_calls(), c, notes);
  ASSERT_TRUE(s.ok()) << s.error().text();
  const auto before = s->now();
  ASSERT_TRUE(s->enable().ok());
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::execl("/bin/true", "true", nullptr);
    ::_exit(1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(pid, &status, 0), pid);
  ASSERT_TRUE(s->disable().ok());
  const auto after = s->now();
  s->drain();
  bool forked = false, executed = false, mapped = false, exited = false;
  uint64_t switches = 0;
  s->deliver(RecordTime::max(), [&](Delivered& d) {
    const auto r = parsed(d.bytes);
    const auto id = perf::read_sample_id(r, perf::kOurSampleType);
    ASSERT_TRUE(id && id->time);
    EXPECT_GE(*id->time, *before);
    EXPECT_LE(*id->time, *after);
    if (const auto t = read_task_record(r); t && t->pid.value() == pid)
      (r.type == perf::kFork ? forked : exited) = true;
    if (const auto n = read_comm_record(r); n && n->pid.value() == pid && n->exec) executed = n->comm == "true";
    if (const auto m = read_map_record(r, perf::kOurSampleType); m && m->pid.value() == pid)
      mapped |= m->path.ends_with("/true") && (m->prot & PROT_EXEC);
    switches += r.type == perf::kSwitchCpuWide && id->tid.value() == pid;
  });
  EXPECT_TRUE(forked && executed && mapped && exited);
  EXPECT_GE(switches, 2u);
}

}  // namespace
}  // namespace hindcast::capture
