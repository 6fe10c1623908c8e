#include "decode/sideband.h"

#include <gtest/gtest.h>

#include "tests/support/perf_bytes.h"

namespace hindcast::decode {
namespace {

using test::PerfBytes;

StreamInfo stream(uint32_t id, CpuId cpu) {
  StreamInfo s;
  s.id = id;
  s.kind = StreamKind::sideband;
  s.cpu = cpu;
  s.sample_type = perf::kOurSampleType;
  return s;
}

struct Parsed {
  explicit Parsed(const PerfBytes& b, CpuId cpu = CpuId(0)) : bytes(b.bytes()) {
    sideband.add(stream(1, cpu), {nullptr, bytes});
    sideband.finish();
  }
  template <class T>
  const T& body(size_t i) {
    last = sideband.record(i);
    return std::get<T>(last.body);
  }
  std::vector<uint8_t> bytes;
  Sideband sideband;
  SidebandRecord last;
};

TEST(Sideband, CommSaysWhetherItWasAnExec) {
  Parsed p(PerfBytes(3).at(10, 5, 6).comm(5, 6, "sh").at(20, 5, 6).comm(5, 6, "cat", true));
  ASSERT_EQ(p.sideband.size(), 2u);
  EXPECT_EQ(p.body<CommRecord>(0).comm, "sh");
  EXPECT_FALSE(p.body<CommRecord>(0).exec);
  EXPECT_TRUE(p.body<CommRecord>(1).exec);
  EXPECT_EQ(p.last.time, RecordTime(20));
  EXPECT_EQ(p.last.cpu, CpuId(3));
  EXPECT_EQ(p.last.tid, Tid(6));
  EXPECT_EQ(p.last.pid, Pid(5));
}

TEST(Sideband, Mmap2WithBuildIdAndWithInode) {
  Parsed p(PerfBytes()
               .at(1)
               .mmap2(7, 7, 0x1000, 0x2000, 0x3000, "/bin/x", {0xab, 0xcd})
               .at(2)
               .mmap2(7, 7, 1, 2, 3, "/bin/y"));
  const MapRecord m = p.body<MapRecord>(0);
  EXPECT_EQ(m.address, 0x1000u);
  EXPECT_EQ(m.length, 0x2000u);
  EXPECT_EQ(m.file_offset, 0x3000u);
  EXPECT_EQ(m.path, "/bin/x");
  EXPECT_EQ(m.prot, 5u);
  ASSERT_EQ(m.build_id.size(), 2u);
  EXPECT_EQ(m.build_id[1], 0xcd);
  EXPECT_TRUE(p.body<MapRecord>(1).build_id.empty());
  EXPECT_EQ(p.body<MapRecord>(1).path, "/bin/y");
}

TEST(Sideband, SwitchTakesItsTaskFromTheTrailer) {
  Parsed p(PerfBytes().switch_in(5, 100, 101, 0, 0).switch_out(9, 100, 101, 200, 201));
  EXPECT_EQ(p.body<SwitchRecord>(0).tid, Tid(101));
  EXPECT_FALSE(p.body<SwitchRecord>(0).out);
  EXPECT_TRUE(p.body<SwitchRecord>(1).out);
  EXPECT_EQ(p.body<SwitchRecord>(1).other_tid, Tid(201));
}

TEST(Sideband, ForkAndExitKnowTheirParents) {
  Parsed p(PerfBytes().at(1).fork(20, 10, 20, 11).at(2).exit(20, 10, 20, 11));
  EXPECT_EQ(p.body<TaskRecord>(0).parent_pid, Pid(10));
  EXPECT_EQ(p.body<TaskRecord>(0).parent_tid, Tid(11));
  EXPECT_FALSE(p.body<TaskRecord>(0).exit);
  EXPECT_TRUE(p.body<TaskRecord>(1).exit);
}

TEST(Sideband, StreamsAreMergedByTimeAndEqualTimesKeepTheirOrder) {
  const auto a = PerfBytes(0).at(10).comm(1, 1, "a").at(30).comm(1, 1, "b").bytes();
  const auto b = PerfBytes(1).at(20).comm(2, 2, "c").at(30).comm(2, 2, "d").bytes();
  Sideband s;
  s.add(stream(1, CpuId(0)), {nullptr, a});
  s.add(stream(2, CpuId(1)), {nullptr, b});
  s.finish();
  std::string order;
  for (size_t i = 0; i < s.size(); ++i) order += std::get<CommRecord>(s.record(i).body).comm;
  EXPECT_EQ(order, "acbd");
}

TEST(Sideband, TimeThatGoesBackInAStreamIsRaised) {
  Parsed p(PerfBytes().at(10).comm(1, 1, "a").at(5).comm(1, 1, "b").at(20).comm(1, 1, "c"));
  EXPECT_EQ(p.body<CommRecord>(1).comm, "b");
  EXPECT_EQ(p.last.time, RecordTime(10));
}

TEST(Sideband, UnknownTypesAreCountedAndSkipped) {
  Parsed p(PerfBytes().at(1).record(999, 0, PerfBytes::Body().u64(1)).comm(1, 1, "x"));
  EXPECT_EQ(p.sideband.size(), 1u);
  EXPECT_EQ(p.sideband.unknown(), 1u);
}

TEST(Sideband, RecordTooShortForItsBodyIsMalformedAndTheNextIsRead) {
  Parsed p(PerfBytes().at(1).record(perf::kMmap2, 0, PerfBytes::Body().u64(1)).comm(1, 1, "x"));
  EXPECT_EQ(p.sideband.size(), 1u);
  EXPECT_EQ(p.sideband.malformed(), 1u);
}

TEST(Sideband, NameWithoutAnEndIsMalformed) {
  PerfBytes::Body b;
  b.i32(1).i32(1).u64(0x6161616161616161);
  Parsed p(PerfBytes().at(1).record(perf::kComm, 0, b));
  EXPECT_EQ(p.sideband.malformed(), 1u);
}

TEST(Sideband, RecordLongerThanTheStreamEndsItAndSaysWhere) {
  auto bytes = PerfBytes().at(7).comm(1, 1, "x").comm(1, 1, "y").bytes();
  const size_t half = bytes.size() / 2;
  bytes.resize(bytes.size() - 1);
  Sideband s;
  s.add(stream(4, CpuId(0)), {nullptr, bytes});
  s.finish();
  EXPECT_EQ(s.size(), 1u);
  ASSERT_EQ(s.damage().size(), 1u);
  EXPECT_EQ(s.damage()[0].stream, 4u);
  EXPECT_EQ(s.damage()[0].offset, half);
  EXPECT_EQ(s.damage()[0].after, RecordTime(7));
}

}  // namespace
}  // namespace hindcast::decode
