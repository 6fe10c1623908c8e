// The sample bundle, and the round trip that everything else stands on.
#include "tests/unit/transport/sample_bundle.h"

#include <gtest/gtest.h>
#include <sys/file.h>

#include <filesystem>
#include <fstream>
#include <random>

#include "hindcast/fd.h"
#include "transport/bundle_reader.h"
#include "transport/bundle_writer.h"
#include "transport/manifest.h"

namespace hindcast::transport {

std::string scratch_path(const std::string& name) {
  static const std::string folder = [] {
    std::string f = testing::TempDir() + "hindcast_bundle_XXXXXX";
    HC_CHECK(mkdtemp(f.data()) != nullptr);
    return f;
  }();
  static const struct Remover {
    ~Remover() { std::filesystem::remove_all(folder); }
  } remover;
  return folder + "/" + name;
}

SampleBundle sample_snapshot(uint32_t salt) {
  std::mt19937 random(salt + 1);
  const auto bytes = [&](size_t n) {
    std::vector<uint8_t> v(n);
    for (auto& b : v) b = static_cast<uint8_t>(random() % 7 ? 0 : random());
    return v;
  };
  SampleBundle s;
  SnapshotInfo& i = s.info;
  i.host = "pc\xff\x01\"";  // not UTF-8, a control character, a quote
  i.source = "simulated";
  i.command = "sort -n \xc3\xa4.txt";
  i.created_unix_ns = 1700000000000000000u + salt;
  i.pt.cyc = true;
  i.pt.mtc = false;
  i.pt.mtc_period = 9;
  i.cpu = {true, 6, 85, 4, 308, 2, 25000000, 37};
  i.clock = {true, 31, 581029125, 18444502336406842448u, 12};
  i.record_clock = "monotonic_raw";
  i.user_only = false;
  i.root_pids = {Pid(4711), kNoPid};
  i.notes = {"ring of CPU 3 was halved", ""};
  s.streams = {bytes(700), bytes(300), {}};
  i.streams.resize(3);
  i.streams[0] = {7, StreamKind::pt, CpuId(3), kNoTid, 700, 4096, true, {0, 10, 10, 700}, 0, 99};
  i.streams[1] = {2, StreamKind::sideband, kNoCpu, kNoTid, 300, 0, false, {}, 0x10086, 0};
  i.streams[2] = {9, StreamKind::pt, kNoCpu, Tid(815), 0, 0, false, {}, 0, 0};
  s.images = {bytes(200), bytes(64)};
  i.images = {{1, ImageKind::elf, "00ff", "/usr/bin/sort (deleted)", 200}, {5, ImageKind::memory, "", "[vdso]", 64}};
  i.placements = {{Pid(4711), 0xffffffffffffffc0u, 64, 0, 5, RecordTime(5), RecordTime(6)},
                  {kNoPid, 0x400000, 100, 100, 1, {}, RecordTime::max()}};
  return s;
}

std::vector<uint8_t> written(const std::vector<SampleBundle>& snapshots, bool preliminary) {
  const std::string path = scratch_path("written.hcb");
  auto w = BundleWriter::create(path);
  EXPECT_TRUE(w.ok()) << w.error().text();
  const auto good = [](const Result<void>& r) { EXPECT_TRUE(r.ok()) << r.error().text(); };
  for (const SampleBundle& s : snapshots) {
    if (preliminary) good(w->begin_snapshot(s.info));
    for (size_t i = 0; i < s.images.size(); ++i) good(w->append_image(s.info.images[i].id, s.images[i]));
    for (size_t i = 0; i < s.streams.size(); ++i) good(w->append_stream(s.info.streams[i].id, s.streams[i]));
    good(w->end_snapshot(s.info));
  }
  good(w->finish());
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

namespace {

TEST(Bundle, WhatIsWrittenIsRead) {
  for (const bool preliminary : {false, true}) {
    const std::vector<SampleBundle> snapshots{sample_snapshot(0), sample_snapshot(1), sample_snapshot(2)};
    const auto file = written(snapshots, preliminary);
    auto r = BundleReader::from_bytes(file);
    ASSERT_TRUE(r.ok()) << r.error().text();
    EXPECT_TRUE(r->damage().empty());
    EXPECT_TRUE(r->scrub().empty());
    EXPECT_EQ(r->stored_bytes(), file.size());
    EXPECT_EQ(r->raw_bytes(), 3u * (700 + 300 + 200 + 64));
    ASSERT_EQ(r->snapshot_count(), 3u);
    for (size_t i = 0; i < 3; ++i) {
      EXPECT_EQ(manifest_text(r->snapshot(i)), manifest_text(snapshots[i].info));
      for (size_t k = 0; k < snapshots[i].streams.size(); ++k) {
        auto b = r->read_stream(i, snapshots[i].info.streams[k].id);
        ASSERT_TRUE(b.ok()) << b.error().text();
        EXPECT_EQ(*b, snapshots[i].streams[k]);
      }
      for (size_t k = 0; k < snapshots[i].images.size(); ++k) {
        auto b = r->read_image(i, snapshots[i].info.images[k].id);
        ASSERT_TRUE(b.ok()) << b.error().text();
        EXPECT_EQ(*b, snapshots[i].images[k]);
      }
    }
  }
}

TEST(Bundle, OpensFromDiskAsFromMemory) {
  const auto file = written({sample_snapshot()}, true);
  auto r = BundleReader::open(scratch_path("written.hcb"));
  ASSERT_TRUE(r.ok()) << r.error().text();
  EXPECT_EQ(*r->read_stream(0, 7), sample_snapshot().streams[0]);
  EXPECT_EQ(r->stored_bytes(), file.size());
}

TEST(Bundle, AnyRangeOfALongStreamEqualsTheSameRangeOfItsBytes) {
  // Longer than two chunks, appended in uneven pieces and interleaved with another stream.
  std::mt19937 random(1);
  std::vector<uint8_t> data((size_t{5} << 20) / 2);
  for (auto& b : data) b = static_cast<uint8_t>(random() & 15);
  SnapshotInfo info;
  info.streams.resize(2);
  info.streams[0].id = 1;
  info.streams[0].bytes = data.size();
  info.streams[1].id = 2;
  auto w = BundleWriter::create(scratch_path("long.hcb"));
  ASSERT_TRUE(w.ok());
  uint64_t other = 0;
  for (size_t at = 0; at < data.size();) {
    const size_t n = std::min<size_t>(data.size() - at, random() % 300000);
    ASSERT_TRUE(w->append_stream(1, ByteSpan(data).subspan(at, n)).ok());
    at += n;
    if (random() % 3 == 0) {
      ASSERT_TRUE(w->append_stream(2, ByteSpan(data).first(10)).ok());
      other += 10;
    }
  }
  info.streams[1].bytes = other;
  ASSERT_TRUE(w->end_snapshot(info).ok());
  ASSERT_TRUE(w->finish().ok());

  auto r = BundleReader::open(scratch_path("long.hcb"));
  ASSERT_TRUE(r.ok()) << r.error().text();
  EXPECT_EQ(*r->read_stream(0, 1), data);
  for (int i = 0; i < 50; ++i) {
    const size_t at = random() % (data.size() + 1), n = random() % (data.size() - at + 1);
    auto b = r->read_stream(0, 1, at, n);
    ASSERT_TRUE(b.ok());
    ASSERT_TRUE(std::equal(b->begin(), b->end(), data.begin() + static_cast<ptrdiff_t>(at)) && b->size() == n);
  }
}

TEST(Bundle, ReadsBeyondAStreamAreNotFound) {
  const auto file = written({sample_snapshot()}, false);
  auto r = BundleReader::from_bytes(file);
  ASSERT_TRUE(r.ok());
  EXPECT_TRUE(r->read_stream(0, 7, 700, 0).ok());
  for (auto [at, n] : {std::pair<uint64_t, uint64_t>{700, 1}, {701, 0}, {0, 701}, {UINT64_MAX, 1}, {1, UINT64_MAX}}) {
    auto b = r->read_stream(0, 7, at, n);
    ASSERT_FALSE(b.ok()) << at << " " << n;
    EXPECT_EQ(b.error().code, Errc::not_found);
  }
  EXPECT_EQ(r->read_stream(0, 8).error().code, Errc::not_found);
  EXPECT_EQ(r->read_stream(1, 7).error().code, Errc::not_found);
  EXPECT_EQ(r->read_image(0, 7).error().code, Errc::not_found);
}

TEST(BundleWriter, TheNameAppearsOnlyWithTheWholeFile) {
  const std::string path = scratch_path("atomic.hcb");
  {
    auto w = BundleWriter::create(path);
    ASSERT_TRUE(w.ok());
    ASSERT_TRUE(w->append_stream(1, std::vector<uint8_t>(10)).ok());
    EXPECT_FALSE(std::filesystem::exists(path));
    EXPECT_TRUE(std::filesystem::exists(path + ".partial"));
  }
  EXPECT_FALSE(std::filesystem::exists(path));
  EXPECT_FALSE(std::filesystem::exists(path + ".partial"));
}

TEST(BundleWriter, TwoWritersOfOnePathDoNotMix) {
  const std::string path = scratch_path("two.hcb");
  auto first = BundleWriter::create(path);
  ASSERT_TRUE(first.ok());
  EXPECT_FALSE(BundleWriter::create(path).ok());
  SnapshotInfo info;
  ASSERT_TRUE(first->end_snapshot(info).ok());
  ASSERT_TRUE(first->finish().ok());
  EXPECT_TRUE(BundleReader::open(path).ok());
  EXPECT_TRUE(BundleWriter::create(path).ok());
}

TEST(BundleWriter, AFileLeftByACrashIsTakenOver) {
  const std::string path = scratch_path("crashed.hcb");
  std::ofstream(path + ".partial") << std::string(100000, 'x');
  auto w = BundleWriter::create(path);
  ASSERT_TRUE(w.ok()) << w.error().text();
  ASSERT_TRUE(w->end_snapshot({}).ok());
  ASSERT_TRUE(w->finish().ok());
  auto r = BundleReader::open(path);
  ASSERT_TRUE(r.ok()) << r.error().text();
  EXPECT_TRUE(r->damage().empty());
}

TEST(BundleWriter, OnlyTheOwnerMayReadABundle) {
  (void)written({sample_snapshot()}, false);
  struct stat st {};
  ASSERT_EQ(stat(scratch_path("written.hcb").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0600u);
}

TEST(BundleWriter, SizesThatDisagreeAreRefusedAndTheBundleCannotBeFinished) {
  auto w = BundleWriter::create(scratch_path("sizes.hcb"));
  ASSERT_TRUE(w.ok());
  SnapshotInfo info;
  info.streams.resize(1);
  info.streams[0].id = 1;
  info.streams[0].bytes = 11;
  ASSERT_TRUE(w->append_stream(1, std::vector<uint8_t>(10)).ok());
  EXPECT_EQ(w->end_snapshot(info).error().code, Errc::usage);
  EXPECT_FALSE(w->finish().ok());
}

TEST(BundleWriter, BytesOfAnUnlistedStreamAreRefused) {
  auto w = BundleWriter::create(scratch_path("unlisted.hcb"));
  ASSERT_TRUE(w.ok());
  ASSERT_TRUE(w->append_stream(3, std::vector<uint8_t>(10)).ok());
  EXPECT_FALSE(w->end_snapshot({}).ok());
}

TEST(BundleWriter, ASnapshotThatBreaksARuleIsRefused) {
  SnapshotInfo info;
  info.streams.resize(2);  // both with id 0
  info.clock.shift = 33;
  auto w = BundleWriter::create(scratch_path("rules.hcb"));
  ASSERT_TRUE(w.ok());
  auto r = w->end_snapshot(info);
  ASSERT_FALSE(r.ok());
  EXPECT_NE(r.error().what.find("id 0"), std::string::npos);
  EXPECT_NE(r.error().what.find("time shift"), std::string::npos);
}

TEST(BundleWriter, AFolderThatIsNotThereIsAnErrorWithAWayOut) {
  auto w = BundleWriter::create("/nonexistent/folder/x.hcb");
  ASSERT_FALSE(w.ok());
  EXPECT_EQ(w.error().code, Errc::not_found);
  EXPECT_FALSE(w.error().fix.empty());
}

}  // namespace
}  // namespace hindcast::transport
