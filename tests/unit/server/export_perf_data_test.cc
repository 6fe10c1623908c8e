// What is exported as perf.data and read back is what the bundle held: bytes, cuts, records, code.
#include "server/views/export/perf_data.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/import/elf_placement.h"
#include "server/import/perf_data.h"
#include "server/views/export/memory_elf.h"
#include "tests/support/run_program.h"
#include "tests/unit/server/import_support.h"
#include "transport/bundle_writer.h"

namespace hindcast::server {
namespace {

using Bytes = std::vector<uint8_t>;
using testing::ElementsAre;

/// A mapping that has no code of its own, with the trailer of TID and TIME only.
Bytes anonymous_mapping(uint64_t address, uint64_t length, uint64_t time) {
  Bytes body, out;
  ByteWriter w(body);
  w.u32(7), w.u32(7), w.u64(address), w.u64(length), w.u64(0);
  w.u32(0), w.u32(0), w.u64(0), w.u64(0), w.u32(5), w.u32(2);
  w.text(std::string_view("//anon\0\0", 8));
  w.u32(7), w.u32(7), w.u64(time);
  ByteWriter r(out);
  r.u32(perf::kMmap2), r.u16(0), r.u16(static_cast<uint16_t>(8 + body.size()));
  r.bytes(body);
  return out;
}

struct Sample {
  Imported bundle;
  test::TempFolder folder;

  Sample() {
    SnapshotInfo& info = bundle.info;
    info.source = "simulated";
    info.host = "web7";
    info.record_clock = "monotonic_raw";
    info.clock = {true, 10, 3, 77, 5};
    info.cpu.family = 6;
    info.cpu.model = 85;
    info.cpu.ctc_hz = 25000000;
    info.root_pids = {Pid(7)};
    StreamInfo pt;
    pt.cpu = CpuId(3);
    pt.wrapped = true;
    pt.ring_bytes = 4096;
    pt.cuts = {2, 5};
    bundle.add_stream(pt, {1, 2, 3, 4, 5, 6, 7});
    StreamInfo sideband;
    sideband.kind = StreamKind::sideband;
    sideband.cpu = CpuId(3);
    sideband.sample_type = perf::kSampleTid | perf::kSampleTime;
    bundle.add_stream(sideband, anonymous_mapping(0x7000, 0x2000, 50));
    sideband.cpu = kNoCpu;
    sideband.sample_type = perf::kOurSampleType;
    bundle.add_stream(sideband, RecordFile().mmap2("/bin/a", 4, 0xffffffff, 40).bytes());
    bundle.add_image(ImageKind::elf, "/bin/a", "", SmallElf().bytes());
    PlacementInfo jit;
    jit.pid = Pid(7);
    jit.address = 0x8000;
    jit.length = 4;
    jit.from = RecordTime(45);
    jit.image = bundle.add_image(ImageKind::memory, "//anon", "", {0x90, 0x90, 0x90, 0xc3});
    info.placements.push_back(jit);
  }

  std::unique_ptr<Query> open() {
    const std::string path = folder / "sample.hcb";
    auto w = transport::BundleWriter::create(path);
    HC_CHECK(w.ok());
    for (size_t i = 0; i < bundle.images.size(); ++i)
      HC_CHECK(w->append_image(bundle.info.images[i].id, bundle.images[i]).ok());
    for (size_t i = 0; i < bundle.streams.size(); ++i)
      HC_CHECK(w->append_stream(bundle.info.streams[i].id, bundle.streams[i]).ok());
    HC_CHECK(w->end_snapshot(bundle.info).ok() && w->finish().ok());
    auto q = open_query(path);
    HC_CHECK(q.ok());
    return std::move(q).value();
  }
  Result<Imported> read_back() {
    const auto file = read_input_file(folder / "out/perf.data");
    HC_CHECK(file.ok());
    return read_perf_data(*file, DiskFolder(folder / "out/buildid"), MemoryFolder());
  }
};

TEST(ExportPerfData, TraceClockAndWhatWasRecordedComeBack) {
  Sample s;
  const auto query = s.open();
  const auto done = views::export_perf_data(*query, 0, s.folder / "out");
  ASSERT_TRUE(done.ok()) << done.error().text();
  EXPECT_EQ(done->trace_bytes, 7u);
  const auto r = s.read_back();
  ASSERT_TRUE(r.ok()) << r.error().text();
  EXPECT_EQ(r->streams[0], s.bundle.streams[0]);
  EXPECT_EQ(r->info.streams[0].cpu, CpuId(3));
  EXPECT_TRUE(r->info.streams[0].wrapped);
  EXPECT_THAT(r->info.streams[0].cuts, ElementsAre(2, 5));
  EXPECT_EQ(r->info.pt, s.bundle.info.pt);
  EXPECT_EQ(r->info.clock.zero, 77u);
  EXPECT_EQ(r->info.clock.error_ticks, 5u);
  EXPECT_EQ(r->info.cpu.model, 85);
  EXPECT_EQ(r->info.cpu.ctc_hz, 25000000u);
  EXPECT_EQ(r->info.source, "simulated");
  EXPECT_EQ(r->info.host, "web7");
  EXPECT_EQ(r->info.record_clock, "monotonic_raw");
  EXPECT_THAT(r->info.root_pids, ElementsAre(Pid(7)));
  EXPECT_EQ(r->info.user_only, s.bundle.info.user_only);
}

TEST(ExportPerfData, CodeWithoutABuildIdGetsOneOfItsContent) {
  Sample s;
  const auto query = s.open();
  ASSERT_TRUE(views::export_perf_data(*query, 0, s.folder / "out").ok());
  const auto r = s.read_back();
  ASSERT_TRUE(r.ok()) << r.error().text();
  ASSERT_EQ(r->info.images.size(), 2u);
  EXPECT_EQ(r->info.images[0].path, "/bin/a");
  EXPECT_EQ(r->info.images[0].build_id.size(), 40u);
  EXPECT_EQ(r->images[0], s.bundle.images[0]);
}

// At 45 it is placed; the record at 50 covers it but has no code, so it is placed again.
TEST(ExportPerfData, MemoryCopiesAreMappedAgainAfterWhatCoversThem) {
  Sample s;
  const auto query = s.open();
  ASSERT_TRUE(views::export_perf_data(*query, 0, s.folder / "out").ok());
  const auto r = s.read_back();
  ASSERT_TRUE(r.ok()) << r.error().text();
  std::vector<std::pair<uint64_t, std::string>> seen;
  for (size_t i = 0; i < r->streams.size(); ++i) {
    if (r->info.streams[i].kind != StreamKind::sideband) continue;
    perf::RecordReader reader(r->streams[i]);
    perf::Record record;
    while (reader.next(record)) {
      ASSERT_EQ(record.type, perf::kMmap2);
      ByteReader body(record.body);
      body.skip(64);
      seen.emplace_back(perf::read_sample_id(record, perf::kOurSampleType)->time->value(),
                        std::string(body.c_string(100)));
    }
  }
  EXPECT_THAT(seen, testing::UnorderedElementsAre(std::pair{40ul, "/bin/a"}, std::pair{45ul, "/hindcast/memory-2"},
                                                  std::pair{50ul, "//anon"}, std::pair{50ul, "/hindcast/memory-2"}));
}

TEST(ExportPerfData, TraceOfNobodyIsRefused) {
  Sample s;
  s.bundle.info.streams[0].cpu = kNoCpu;
  const auto query = s.open();
  const auto done = views::export_perf_data(*query, 0, s.folder / "out");
  ASSERT_FALSE(done.ok());
  EXPECT_EQ(done.error().code, Errc::unsupported);
}

TEST(MemoryElf, IsAnElfFileWithItsCodeItsNameAndItsBuildId) {
  const Bytes code{0x90, 0x90, 0xc3};
  std::array<uint8_t, 20> id{};
  id[0] = 0xab;
  id[19] = 0xcd;
  const Bytes file = views::memory_elf(code, id, "jitted");
  const auto layout = read_elf_layout(file);
  ASSERT_TRUE(layout.ok()) << layout.error().text();
  EXPECT_EQ(layout->build_id, "ab" + std::string(36, '0') + "cd");
  ASSERT_EQ(layout->parts.size(), 1u);
  EXPECT_EQ(layout->parts[0].offset, views::kMemoryElfCode);
  EXPECT_EQ(layout->parts[0].length, code.size());
  EXPECT_EQ(Bytes(file.begin() + views::kMemoryElfCode, file.begin() + views::kMemoryElfCode + 3), code);
  const std::string name("jitted", 7);  // with its zero byte
  EXPECT_NE(std::search(file.begin(), file.end(), name.begin(), name.end()), file.end());
}

}  // namespace
}  // namespace hindcast::server
