// perf.data files: what perf writes is understood, and no length, offset or count is believed.
#include "server/import/perf_data.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zstd.h>

#include "tests/support/perf_file_bytes.h"
#include "tests/unit/server/import_support.h"
#include "transport/snapshot_rules.h"

namespace hindcast::server {
namespace {

using test::PerfFileBytes;
using testing::ElementsAre;
using testing::HasSubstr;
using Bytes = std::vector<uint8_t>;

constexpr uint32_t kExec = 4;

Result<Imported> read(const Bytes& file, const MemoryFolder& build_ids = {}, const MemoryFolder& root = {}) {
  return read_perf_data(file, build_ids, root);
}

/// Whole: two CPUs, their switches, one mapping.
PerfFileBytes whole() {
  PerfFileBytes f;
  f.info({{perf::kInfoTimeShift, 10},
          {perf::kInfoTimeMult, 3},
          {perf::kInfoTimeZero, 77},
          {perf::kInfoTimeKnown, 1},
          {perf::kInfoTscCtcNum, 84},
          {perf::kInfoTscCtcDen, 2},
          {perf::kInfoNominalRatio, 21}});
  f.trace(1, 0, {1, 2, 3}).switch_in(1, 50).mmap2("/bin/a", kExec).switch_in(0, 40).trace(0, 0, {9});
  f.text(perf::kFeatureHostname, "web7").text(perf::kFeatureCpuId, "GenuineIntel-6-55-4");
  return f;
}

Bytes with_u64(Bytes file, size_t at, uint64_t value) {
  std::memcpy(file.data() + at, &value, sizeof value);
  return file;
}

TEST(ImportPerfData, EachCpuGetsItsTraceAndItsRecords) {
  const auto r = read(whole().bytes());
  ASSERT_TRUE(r.ok()) << r.error().text();
  ASSERT_EQ(r->info.streams.size(), 4u);
  EXPECT_EQ(r->info.streams[0].cpu, CpuId(1));
  EXPECT_EQ(r->streams[0], (Bytes{1, 2, 3}));
  EXPECT_FALSE(r->info.streams[0].wrapped);
  EXPECT_EQ(r->streams[1], (Bytes{9}));
  EXPECT_EQ(r->info.streams[2].cpu, CpuId(0));
  EXPECT_EQ(r->info.streams[3].cpu, CpuId(1));
  EXPECT_EQ(r->info.streams[3].sample_type, perf::kOurSampleType);
  EXPECT_TRUE(transport::broken_rules(r->info).empty());
}

TEST(ImportPerfData, ClockOptionsAndCpuAreThoseOfTheFile) {
  const auto r = read(whole().bytes());
  ASSERT_TRUE(r.ok());
  EXPECT_TRUE(r->info.clock.known);
  EXPECT_EQ(r->info.clock.shift, 10);
  EXPECT_EQ(r->info.clock.mult, 3u);
  EXPECT_EQ(r->info.clock.zero, 77u);
  EXPECT_EQ(r->info.cpu.tsc_ctc_num, 84u);
  EXPECT_EQ(r->info.cpu.tsc_ctc_den, 2u);
  EXPECT_EQ(r->info.cpu.nominal_ratio, 21);
  EXPECT_EQ(r->info.cpu.model, 0x55);
  EXPECT_EQ(r->info.host, "web7");
  EXPECT_TRUE(r->info.user_only);
  EXPECT_TRUE(r->options_known);
  EXPECT_TRUE(r->info.pt.mtc && r->info.pt.tsc && r->info.pt.branch && !r->info.pt.cyc);
  EXPECT_EQ(r->info.pt.mtc_period, 3);
}

TEST(ImportPerfData, TimeConvIsUsedWhenTheTraceSaysNoConversion) {
  PerfFileBytes f;
  Bytes conv;
  ByteWriter w(conv);
  w.u64(5), w.u64(6), w.u64(7);
  f.info().event(perf::kTimeConv, conv);
  const auto r = read(f.bytes());
  ASSERT_TRUE(r.ok()) << r.error().text();
  EXPECT_TRUE(r->info.clock.known);
  EXPECT_EQ(r->info.clock.zero, 7u);
}

TEST(ImportPerfData, PiecesOfATraceAreJoinedWithoutPerfsPadding) {
  PerfFileBytes f;
  f.info().trace(1, 0, {1, 2, 3, 4, 5, 0, 0, 0}).trace(1, 5, {6, 7});
  const auto r = read(f.bytes());
  ASSERT_TRUE(r.ok()) << r.error().text();
  EXPECT_EQ(r->streams[0], (Bytes{1, 2, 3, 4, 5, 6, 7}));
  EXPECT_TRUE(r->info.streams[0].cuts.empty());
}

TEST(ImportPerfData, MissingBytesAreACutAndCounted) {
  PerfFileBytes f;
  f.info().trace(1, 0, {1, 2}).trace(1, 100, {3});
  const auto r = read(f.bytes());
  ASSERT_TRUE(r.ok()) << r.error().text();
  EXPECT_THAT(r->info.streams[0].cuts, ElementsAre(2));
  EXPECT_EQ(r->info.streams[0].lost_bytes, 98u);
}

TEST(ImportPerfData, SnapshotsOfARingAreCutAndWhatTheyShareIsTakenOnce) {
  PerfFileBytes f;
  f.info({{perf::kInfoSnapshotMode, 1}}).trace(1, 4096, {1, 2, 3, 4}).trace(1, 4098, {3, 4, 5}).trace(1, 4099, {4});
  const auto r = read(f.bytes());
  ASSERT_TRUE(r.ok()) << r.error().text();
  EXPECT_EQ(r->streams[0], (Bytes{1, 2, 3, 4, 5}));
  EXPECT_THAT(r->info.streams[0].cuts, ElementsAre(4));
  EXPECT_TRUE(r->info.streams[0].wrapped);
}

TEST(ImportPerfData, TraceOfAThreadIsItsOwnStream) {
  PerfFileBytes f;
  f.info().trace(0xffffffff, 0, {1}, 42).trace(0xffffffff, 0, {2}, 43);
  const auto r = read(f.bytes());
  ASSERT_TRUE(r.ok()) << r.error().text();
  EXPECT_EQ(r->info.streams[0].tid, Tid(42));
  EXPECT_EQ(r->info.streams[0].cpu, kNoCpu);
  EXPECT_EQ(r->info.streams[1].tid, Tid(43));
}

TEST(ImportPerfData, RecordsOfBeforeTheRecordingBelongToNoCpuAndComeFirst) {
  PerfFileBytes f;
  f.info().switch_in(3, 9).record(perf::kComm, Bytes(24), 0, 0, /*id=*/0);
  const auto r = read(f.bytes());
  ASSERT_TRUE(r.ok()) << r.error().text();
  ASSERT_EQ(r->info.streams.size(), 2u);
  EXPECT_EQ(r->info.streams[0].cpu, kNoCpu);
  EXPECT_EQ(r->info.streams[1].cpu, CpuId(3));
}

TEST(ImportPerfData, TrailersOfOtherEventsAreFoundByTheirIdentifier) {
  PerfFileBytes f;
  f.attr(0).sample_type = 0x10006;  // no CPU
  Bytes body;
  ByteWriter w(body);
  w.u32(5), w.u32(6), w.u64(33), w.u64(100);
  f.info().event(perf::kSwitch, body).switch_in(2, 44);
  const auto r = read(f.bytes());
  ASSERT_TRUE(r.ok()) << r.error().text();
  ASSERT_EQ(r->info.streams.size(), 2u);
  perf::RecordReader reader(r->streams[0]);
  perf::Record record;
  ASSERT_TRUE(reader.next(record));
  const auto id = perf::read_sample_id(record, perf::kOurSampleType);
  ASSERT_TRUE(id);
  EXPECT_EQ(id->tid, Tid(6));
  EXPECT_EQ(id->time, RecordTime(33));
  EXPECT_EQ(id->cpu, kNoCpu);
  EXPECT_EQ(r->info.streams[1].cpu, CpuId(2));
}

TEST(ImportPerfData, CodeComesFromTheBuildIdCacheThenFromThePath) {
  const Bytes id{0xab, 0xcd, 0xef};
  MemoryFolder cache, root;
  cache.files[".build-id/ab/cdef/elf"] = SmallElf().bytes();
  root.files["bin/b"] = SmallElf().bytes();
  PerfFileBytes f;
  f.info().mmap2("/bin/a", kExec, id).mmap2("/bin/b", kExec).mmap2("/bin/data", 1).mmap2("/bin/gone", kExec);
  const auto r = read(f.bytes(), cache, root);
  ASSERT_TRUE(r.ok()) << r.error().text();
  ASSERT_EQ(r->info.images.size(), 2u);
  EXPECT_EQ(r->info.images[0].path, "/bin/a");
  EXPECT_EQ(r->info.images[0].build_id, "abcdef");
  EXPECT_EQ(r->info.images[1].path, "/bin/b");
  EXPECT_THAT(r->info.notes, testing::Contains(HasSubstr("no code for /bin/gone")));
}

TEST(ImportPerfData, TheTableOfBuildIdsServesRecordsWithoutOne) {
  MemoryFolder cache;
  cache.files[".build-id/12/34" + std::string(36, '0')] = SmallElf().bytes();
  Bytes table;
  ByteWriter w(table);
  w.u32(perf::kBuildId), w.u16(0), w.u16(8 + sizeof(perf::BuildIdBody) + 8);
  perf::BuildIdBody body{};
  body.build_id[0] = 0x12, body.build_id[1] = 0x34;
  w.put(body);
  w.text(std::string_view("/bin/a\0\0", 8));
  PerfFileBytes f;
  f.info().mmap2("/bin/a", kExec).feature(perf::kFeatureBuildId, table);
  const auto r = read(f.bytes(), cache);
  ASSERT_TRUE(r.ok()) << r.error().text();
  EXPECT_EQ(r->info.images.size(), 1u);

  for (size_t n = 1; n < table.size(); ++n) {
    PerfFileBytes cut;
    cut.info().feature(perf::kFeatureBuildId, Bytes(table.begin(), table.begin() + static_cast<ptrdiff_t>(n)));
    EXPECT_EQ(read(cut.bytes()).ok() ? Errc::io : read(cut.bytes()).error().code, Errc::bad_input) << n;
  }
}

// ---- records packed by -z

/// Packs as perf does: one stream, flushed at the end of every piece.
class Packer {
 public:
  Packer() : context_(ZSTD_createCCtx()) {}
  ~Packer() { ZSTD_freeCCtx(context_); }
  Packer(const Packer&) = delete;
  Packer& operator=(const Packer&) = delete;
  Bytes piece(const Bytes& raw) {
    Bytes out(ZSTD_compressBound(raw.size()) + 64);
    ZSTD_inBuffer from{raw.data(), raw.size(), 0};
    ZSTD_outBuffer to{out.data(), out.size(), 0};
    EXPECT_EQ(ZSTD_compressStream2(context_, &to, &from, ZSTD_e_flush), 0u);
    EXPECT_EQ(from.pos, raw.size());
    out.resize(to.pos);
    return out;
  }

 private:
  ZSTD_CCtx* context_;
};

/// The kernel's records as they lie in a file.
Bytes some_records(int n) {
  PerfFileBytes f;
  for (int i = 0; i < n; ++i) f.switch_in(static_cast<uint32_t>(i % 3), static_cast<uint64_t>(100 + i));
  f.mmap2("/bin/a", kExec);
  const Bytes file = f.bytes();
  const size_t from = f.layout().data;
  return {file.begin() + static_cast<ptrdiff_t>(from), file.begin() + static_cast<ptrdiff_t>(f.layout().table)};
}

TEST(ImportPackedPerfData, RecordsCutAnywhereAreThoseOfAnUnpackedFile) {
  const Bytes records = some_records(500);
  const auto plain = read(PerfFileBytes().info().raw(records).bytes());
  ASSERT_TRUE(plain.ok()) << plain.error().text();
  for (const size_t step : {size_t{1}, size_t{7}, size_t{1000}, records.size()}) {
    for (const bool second_kind : {false, true}) {
      PerfFileBytes f;
      f.info().feature(perf::kFeatureCompressed, Bytes(20));
      Packer packer;
      for (size_t at = 0; at < records.size(); at += step) {
        const auto begin = records.begin() + static_cast<ptrdiff_t>(at);
        const Bytes piece = packer.piece({begin, begin + static_cast<ptrdiff_t>(std::min(step, records.size() - at))});
        Bytes body;
        ByteWriter w(body);
        if (second_kind) w.u64(piece.size());
        w.bytes(piece);
        while (second_kind && body.size() % 8) w.u8(0);
        f.event(second_kind ? perf::kCompressed2 : perf::kCompressed, body);
      }
      const auto packed = read(f.bytes());
      ASSERT_TRUE(packed.ok()) << packed.error().text() << " step " << step;
      EXPECT_EQ(packed->streams, plain->streams) << "step " << step;
      EXPECT_EQ(packed->info.notes, plain->info.notes) << "step " << step;
    }
  }
}

TEST(ImportPackedPerfData, ABombIsRefusedWithoutBeingUnpacked) {
  Packer packer;
  PerfFileBytes f;
  f.info();
  const Bytes sample = [] {  // left out on import: only unpacking it costs
    Bytes b;
    ByteWriter w(b);
    w.u32(perf::kSample), w.u16(0), w.u16(0xfff8);
    b.resize(0xfff8);
    return b;
  }();
  Bytes many;
  for (int i = 0; i < 100; ++i) many.insert(many.end(), sample.begin(), sample.end());
  for (int i = 0; i < 40; ++i) f.event(perf::kCompressed, packer.piece(many));
  const Bytes file = f.bytes();
  ASSERT_LT(file.size(), 100'000u) << "260 MB when unpacked";
  const auto r = read(file);
  ASSERT_FALSE(r.ok());
  EXPECT_EQ(r.error().code, Errc::too_large);
}

TEST(ImportPackedPerfData, DamageSaysWhere) {
  const Bytes good = Packer().piece(some_records(10));
  EXPECT_THAT(read(whole().event(perf::kCompressed, Bytes(16)).bytes()).error().what, HasSubstr("damaged"));
  for (size_t i = 0; i < good.size(); ++i) {
    Bytes bad = good;
    bad[i] ^= 0x41;
    const auto r = read(PerfFileBytes().info().event(perf::kCompressed, bad).bytes());
    EXPECT_TRUE(r.ok() || r.error().found.find("of the events") != std::string::npos) << r.error().text();
  }
  Bytes too_long;
  ByteWriter w(too_long);
  w.u64(good.size() + 1), w.bytes(good);
  EXPECT_THAT(read(whole().event(perf::kCompressed2, too_long).bytes()).error().what, HasSubstr("cut"));
  EXPECT_FALSE(read(whole().event(perf::kCompressed2, Bytes(4)).bytes()).ok());
}

TEST(ImportPackedPerfData, OnlyTheKernelsRecordsArePacked) {
  PerfFileBytes inner;
  inner.trace(0, 0, {1, 2, 3});
  const Bytes file = inner.bytes();
  const Bytes records(file.begin() + static_cast<ptrdiff_t>(inner.layout().data),
                      file.begin() + static_cast<ptrdiff_t>(inner.layout().table));
  EXPECT_THAT(read(whole().event(perf::kCompressed, Packer().piece(records)).bytes()).error().what,
              HasSubstr("perf's own"));
}

TEST(ImportPackedPerfData, AnEndInsideARecordIsANote) {
  Bytes records = some_records(3);
  records.pop_back();
  const auto r = read(whole().event(perf::kCompressed, Packer().piece(records)).bytes());
  ASSERT_TRUE(r.ok()) << r.error().text();
  EXPECT_THAT(r->info.notes, testing::Contains(HasSubstr("the last of the compressed records is cut")));
}

TEST(ImportPerfData, WhatCannotBeReadSaysWhy) {
  const Bytes good = whole().bytes();
  Bytes pipe = good;
  pipe = with_u64(pipe, 8, perf::kPipeHeaderBytes);
  EXPECT_THAT(read(pipe).error().what, HasSubstr("pipe"));
  EXPECT_EQ(read(with_u64(good, 0, perf::kSwappedMagic)).error().code, Errc::unsupported);
  EXPECT_EQ(read(with_u64(good, 0, perf::kOldFileMagic)).error().code, Errc::unsupported);
  EXPECT_EQ(read(with_u64(good, 0, 1)).error().code, Errc::bad_input);
  EXPECT_EQ(read(whole().feature(perf::kFeatureDirFormat, {}).bytes()).error().code, Errc::unsupported);
  EXPECT_EQ(read(PerfFileBytes().info({}, perf::kInfoWords, 2).bytes()).error().code, Errc::unsupported);
  EXPECT_EQ(read(PerfFileBytes().switch_in(1, 1).bytes()).error().code, Errc::unsupported);
  PerfFileBytes no_trailers;
  no_trailers.attr(1).sample_id_all = 0;
  EXPECT_EQ(read(no_trailers.info().bytes()).error().code, Errc::unsupported);
}

TEST(ImportPerfData, Malicious_HeaderFields) {
  const PerfFileBytes f = whole();
  const Bytes good = f.bytes();
  const auto at = f.layout();
  ASSERT_TRUE(read(good).ok());
  // size, attr_size; offset and size of attrs, data; ids of the first attr; the first feature
  const size_t ids = at.attrs + sizeof(perf_event_attr);
  for (const size_t field :
       {size_t{8}, size_t{16}, size_t{24}, size_t{32}, size_t{40}, size_t{48}, ids, ids + 8, at.table, at.table + 8}) {
    for (const uint64_t value : {~uint64_t{0}, uint64_t{1} << 63, uint64_t{good.size()} + 1}) {
      const auto r = read(with_u64(good, field, value));
      ASSERT_FALSE(r.ok()) << field << " " << value;
      EXPECT_TRUE(r.error().code == Errc::bad_input || r.error().code == Errc::unsupported) << r.error().text();
    }
  }
  EXPECT_EQ(read(with_u64(good, 16, 0)).error().code, Errc::bad_input);
  EXPECT_EQ(read(with_u64(good, 32, 0)).error().code, Errc::bad_input);
  EXPECT_EQ(read(with_u64(good, 48, 0)).error().code, Errc::bad_input);
  EXPECT_EQ(read(with_u64(good, ids + 8, 7)).error().code, Errc::bad_input);
}

TEST(ImportPerfData, Malicious_EveryShorterFileIsRefused) {
  const Bytes good = whole().bytes();
  for (size_t n = 0; n < good.size(); ++n)
    EXPECT_FALSE(read(Bytes(good.begin(), good.begin() + static_cast<ptrdiff_t>(n))).ok()) << n;
}

TEST(ImportPerfData, Malicious_RecordSizes) {
  const auto code = [](PerfFileBytes f) {
    const auto r = read(f.bytes());
    return r.ok() ? Errc::io : r.error().code;
  };
  EXPECT_EQ(code(whole().raw({1})), Errc::bad_input);                        // less than a header
  EXPECT_EQ(code(whole().raw({14, 0, 0, 0, 0, 0, 7, 0})), Errc::bad_input);  // shorter than its header
  EXPECT_EQ(code(whole().raw({14, 0, 0, 0, 0, 0, 9, 0})), Errc::bad_input);  // longer than what is left
  EXPECT_EQ(code(whole().event(perf::kSwitch, Bytes(8))), Errc::bad_input);  // no room for the trailer
  EXPECT_EQ(code(whole().event(perf::kTimeConv, Bytes(16))), Errc::bad_input);
  EXPECT_EQ(code(whole().event(perf::kAuxtrace, Bytes(39))), Errc::bad_input);
  EXPECT_EQ(code(whole().trace_of_size(1, 3, {1, 2}, 3)), Errc::bad_input);
  EXPECT_EQ(code(whole().trace_of_size(1, 3, {1, 2}, ~uint64_t{0})), Errc::bad_input);
  EXPECT_EQ(code(whole().info()), Errc::bad_input);  // twice
  EXPECT_EQ(code(PerfFileBytes().info({}, perf::kInfoPerCpu)), Errc::bad_input);
  EXPECT_EQ(code(PerfFileBytes().event(perf::kAuxtraceInfo, Bytes(4))), Errc::bad_input);
}

TEST(ImportPerfData, Malicious_Values) {
  const auto code = [](PerfFileBytes f) {
    const auto r = read(f.bytes());
    return r.ok() ? Errc::io : r.error().code;
  };
  const auto info = [](std::map<size_t, uint64_t> words) { return PerfFileBytes().info(std::move(words)); };
  EXPECT_EQ(code(info({{perf::kInfoTimeKnown, 1}, {perf::kInfoTimeMult, 0}})), Errc::bad_input);
  EXPECT_EQ(code(info({{perf::kInfoTimeKnown, 1}, {perf::kInfoTimeMult, uint64_t{1} << 32}})), Errc::bad_input);
  EXPECT_EQ(code(info({{perf::kInfoTimeKnown, 1}, {perf::kInfoTimeMult, 1}, {perf::kInfoTimeShift, 64}})),
            Errc::bad_input);
  EXPECT_EQ(code(info({{perf::kInfoTscCtcNum, uint64_t{1} << 32}})), Errc::bad_input);
  EXPECT_EQ(code(info({{perf::kInfoNominalRatio, 256}})), Errc::bad_input);
  EXPECT_EQ(code(info({{perf::kInfoPmuType, 12}})), Errc::bad_input);    // no attr is of it
  EXPECT_EQ(code(info({}).trace(0xffffffff, 0, {1})), Errc::bad_input);  // nobody's
  EXPECT_EQ(code(info({}).trace(1, 100, {1}).trace(1, 4, {1})), Errc::bad_input);
  EXPECT_EQ(code(info({}).trace(1, 0, Bytes(20)).trace(1, 4, {1})), Errc::bad_input);  // overlap without snapshots
  EXPECT_EQ(code(info({}).trace(1, ~uint64_t{0}, {1})), Errc::bad_input);
  PerfFileBytes stranger;
  stranger.attr(0).sample_type = 0x10006;
  EXPECT_EQ(code(stranger.info().record(perf::kSwitch, {}, 1, 1, /*id=*/999)), Errc::bad_input);
}

TEST(ImportPerfData, Malicious_NamesStayInTheirFolders) {
  const Bytes id{0xab, 0xcd};
  MemoryFolder root;
  PerfFileBytes f;
  f.info().mmap2("/../etc/passwd", kExec).mmap2("relative", kExec).mmap2("/bin/\x1b[2J", kExec, id);
  const auto r = read(f.bytes(), {}, root);
  ASSERT_TRUE(r.ok()) << r.error().text();
  EXPECT_TRUE(r->info.images.empty());
  for (const std::string& note : r->info.notes) EXPECT_EQ(note.find('\x1b'), std::string::npos);
}

TEST(ImportPerfData, Malicious_WhatOurExportAddsIsNotBelieved) {
  for (const char* text : {"{", "[]", "{\"root_pids\": 7, \"source\": []}", "{\"clock_error_ticks\": -1}",
                           "[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]"}) {
    const auto r = read(whole().text(perf::kFeatureHindcast, text).bytes());
    ASSERT_TRUE(r.ok()) << text;
    EXPECT_EQ(r->info.source, "import:perf");
    EXPECT_EQ(r->info.clock.error_ticks, 0u);
    EXPECT_TRUE(r->info.root_pids.empty());
  }
}

}  // namespace
}  // namespace hindcast::server
