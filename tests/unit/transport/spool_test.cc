// The spool: what is durable, what a crash or a cut leaves, what a full disk does.
#include "transport/spool.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "tests/support/run_program.h"
#include "tests/support/ship_kit.h"
#include "transport/bundle_reader.h"
#include "transport/spool_maps.h"

namespace hindcast::transport {
namespace {

namespace fs = std::filesystem;
using test::keep;
using test::make_snapshot;

std::unique_ptr<Spool> opened(const std::string& folder, uint64_t limit = uint64_t{1} << 30) {
  auto s = Spool::open({folder, limit});
  if (!s.ok()) {
    ADD_FAILURE() << s.error().text();
    std::abort();
  }
  return std::move(*s);
}

TEST(Spool, WhatIsKeptIsABundleThatOpensByItself) {
  test::TempFolder folder;
  auto spool = opened(folder / "s");
  const auto made = make_snapshot("a", "inc-1", 1, 300000);
  ASSERT_TRUE(keep(*spool, made).ok());
  EXPECT_EQ(test::difference(folder / "s/inc-1.hcb", made), "");
  EXPECT_EQ(spool->waiting(), std::vector<std::string>{"inc-1"});
}

TEST(Spool, IsFoundAgainAfterARestart) {
  test::TempFolder folder;
  std::vector<uint8_t> maps;
  {
    auto spool = opened(folder / "s");
    ASSERT_TRUE(keep(*spool, make_snapshot("a", "inc-1", 1, 300000)).ok());
    ASSERT_TRUE(keep(*spool, make_snapshot("a", "inc-2", 1, 1000)).ok());
    maps = spool_maps_bytes(spool->open_snapshot("inc-1")->maps);
  }
  auto spool = opened(folder / "s");
  EXPECT_EQ(spool->waiting(), (std::vector<std::string>{"inc-1", "inc-2"}));
  EXPECT_EQ(spool_maps_bytes(spool->open_snapshot("inc-1")->maps), maps);
}

TEST(Spool, BelongsToOneProcess) {
  test::TempFolder folder;
  auto spool = opened(folder / "s");
  auto second = Spool::open({folder / "s", 1 << 20});
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().code, Errc::usage);
}

TEST(Spool, MapsMadeWhileWritingEqualThoseMadeFromTheFile) {
  test::TempFolder folder;
  auto spool = opened(folder / "s");
  ASSERT_TRUE(keep(*spool, make_snapshot("a", "inc-1", 1, 300000)).ok());
  const auto written = spool->open_snapshot("inc-1");
  ASSERT_TRUE(written.ok());
  ASSERT_EQ(written->maps.streams.size(), 2u);
  EXPECT_EQ(written->maps.streams[0].map.entries.size(), 31u);
  const auto again = maps_of_bundle(folder / "s/inc-1.hcb");
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(spool_maps_bytes(written->maps), spool_maps_bytes(*again));
}

TEST(Spool, AnyCutOfAnyFileLosesNothingSilently) {
  test::TempFolder folder;
  Digest digest{};
  {
    auto spool = opened(folder / "s");
    ASSERT_TRUE(keep(*spool, make_snapshot("a", "inc-1", 1, 40000)).ok());
    digest = spool->open_snapshot("inc-1")->digest;
    ASSERT_TRUE(spool->mark_committed("inc-1", digest).ok());
  }
  for (const std::string name : {"inc-1.hcb", "inc-1.map", "inc-1.committed"}) {
    const auto whole = test::bytes_of_file(folder / ("s/" + name));
    ASSERT_FALSE(whole.empty());
    for (size_t cut = 0; cut < whole.size(); cut += 1 + whole.size() / 40) {
      std::ofstream(folder / ("s/" + name), std::ios::binary)
          .write(reinterpret_cast<const char*>(whole.data()), static_cast<std::streamsize>(cut));
      auto spool = opened(folder / "s");
      ASSERT_EQ(spool->entries().size(), 1u);
      if (name == "inc-1.hcb") {
        ASSERT_EQ(spool->damaged().size(), 1u) << cut;
        EXPECT_TRUE(spool->waiting().empty());
        EXPECT_FALSE(spool->open_snapshot("inc-1").ok());
      } else if (name == "inc-1.map") {
        EXPECT_TRUE(spool->entries()[0].committed);
        auto s = spool->open_snapshot("inc-1");
        ASSERT_TRUE(s.ok());
        EXPECT_EQ(s->digest, digest);
        EXPECT_EQ(s->maps.images.size(), 2u);
      } else {
        EXPECT_EQ(spool->waiting().size(), 1u) << cut;  // offered again; the server says that it has it
      }
    }
    std::ofstream(folder / ("s/" + name), std::ios::binary)
        .write(reinterpret_cast<const char*>(whole.data()), static_cast<std::streamsize>(whole.size()));
  }
  EXPECT_TRUE(opened(folder / "s")->entries()[0].committed);
}

TEST(Spool, KilledAnywhereItHoldsExactlyWhatItCalledDurable) {
  test::TempFolder folder;
  for (int round = 0; round < 25; ++round) {
    const std::string path = folder / ("s" + std::to_string(round));
    int pipe_fds[2];
    ASSERT_EQ(::pipe(pipe_fds), 0);
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      auto spool = opened(path);
      for (char i = 0; i < 20; ++i)
        if (keep(*spool, make_snapshot("a", "inc-" + std::to_string(i), 1, 60000)).ok())
          (void)!::write(pipe_fds[1], &i, 1);
      ::pause();
      ::_exit(0);
    }
    ::close(pipe_fds[1]);
    ::usleep(static_cast<useconds_t>(1000 + round * 1700));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    auto spool = opened(path);
    size_t promised = 0;
    for (char i; ::read(pipe_fds[0], &i, 1) == 1; ++promised)
      EXPECT_EQ(test::difference(path + "/inc-" + std::to_string(i) + ".hcb",
                                 make_snapshot("a", "inc-" + std::to_string(i), 1, 60000)),
                "");
    ::close(pipe_fds[0]);
    // One more may have become durable before it could say so; nothing half-written is left.
    EXPECT_GE(spool->waiting().size(), promised);
    EXPECT_LE(spool->waiting().size(), promised + 1);
    EXPECT_TRUE(spool->damaged().empty());
    for (const auto& file : fs::directory_iterator(path)) EXPECT_FALSE(file.path().string().ends_with(".partial"));
  }
}

TEST(Spool, WhenFullTheOldestCommittedGoesAndNeverAnother) {
  test::TempFolder folder;
  auto spool = opened(folder / "s", 6 << 20);
  for (const char* incident : {"inc-1", "inc-2", "inc-3"})
    ASSERT_TRUE(keep(*spool, make_snapshot("a", incident, 1, 1 << 20)).ok());
  auto full = keep(*spool, make_snapshot("a", "inc-4", 1, 1 << 20));
  ASSERT_FALSE(full.ok());
  EXPECT_EQ(full.error().code, Errc::too_large);
  EXPECT_NE(full.error().found.find("3 snapshots that the server has not committed"), std::string::npos)
      << full.error().found;
  EXPECT_EQ(spool->waiting().size(), 3u);
  ASSERT_TRUE(spool->mark_committed("inc-2", spool->open_snapshot("inc-2")->digest).ok());
  ASSERT_TRUE(keep(*spool, make_snapshot("a", "inc-4", 1, 1 << 20)).ok());
  EXPECT_EQ(spool->waiting(), (std::vector<std::string>{"inc-1", "inc-3", "inc-4"}));
  EXPECT_FALSE(spool->holds("inc-2"));
  EXPECT_EQ(spool->evicted(), 1u);
  EXPECT_FALSE(fs::exists(folder / "s/inc-2.hcb"));
}

TEST(Spool, ASnapshotThatOutgrowsTheLimitIsDiscardedWhole) {
  test::TempFolder folder;
  auto spool = opened(folder / "s", 4 << 20);
  {
    auto writer = spool->begin("inc-1", "a", 0);
    ASSERT_TRUE(writer.ok());
    const auto big = make_snapshot("a", "inc-1", 1, 8 << 20);
    Result<void> r;
    for (int i = 0; i < 8 && r.ok(); ++i)
      r = writer->append_stream(1, StreamKind::pt,
                                ByteSpan(big.streams[0]).subspan(static_cast<size_t>(i) << 19, 1 << 19));
    ASSERT_FALSE(r.ok());
    EXPECT_EQ(r.error().code, Errc::too_large);
  }
  EXPECT_TRUE(spool->entries().empty());
  EXPECT_EQ(spool->used_bytes(), 0u);
  EXPECT_FALSE(fs::exists(folder / "s/inc-1.hcb.partial"));
}

TEST(Spool, AnIncidentIsKeptOnce) {
  test::TempFolder folder;
  auto spool = opened(folder / "s");
  ASSERT_TRUE(keep(*spool, make_snapshot("a", "inc-1", 1, 1000)).ok());
  EXPECT_EQ(keep(*spool, make_snapshot("a", "inc-1", 2, 1000)).error().code, Errc::usage);
}

TEST(Spool, NamesThatArePathsAreRefused) {
  test::TempFolder folder;
  auto spool = opened(folder / "s");
  for (const char* name : {"../x", "/x", "", ".x", "a/b"}) {
    EXPECT_FALSE(spool->begin(name, "a", 0).ok()) << name;
    EXPECT_FALSE(spool->begin("inc", name, 0).ok()) << name;
  }
}

TEST(Spool, ACommitOfOtherContentIsRefused) {
  test::TempFolder folder;
  auto spool = opened(folder / "s");
  ASSERT_TRUE(keep(*spool, make_snapshot("a", "inc-1", 1, 1000)).ok());
  EXPECT_EQ(spool->mark_committed("inc-1", Digest{}).error().code, Errc::corrupt);
  EXPECT_EQ(spool->waiting().size(), 1u);
}

TEST(PsbMap, AnySplitOfAStreamGivesTheSameMap) {
  const auto bytes = make_snapshot("a", "inc-1", 3, 60000).streams[0];
  PsbScanner whole;
  whole.feed(bytes);
  const PsbMap expected = std::move(whole).finish();
  EXPECT_EQ(expected.mapped_bytes, bytes.size());
  EXPECT_EQ(expected.entries.size(), 7u);
  for (const size_t piece : {1, 7, 15, 16, 17, 79, 80, 81, 4999, 5000}) {
    PsbScanner s;
    for (size_t at = 0; at < bytes.size(); at += piece)
      s.feed(ByteSpan(bytes).subspan(at, std::min(piece, bytes.size() - at)));
    const PsbMap map = std::move(s).finish();
    ASSERT_EQ(map.entries.size(), expected.entries.size()) << piece;
    EXPECT_EQ(map.mapped_bytes, expected.mapped_bytes);
    EXPECT_EQ(std::memcmp(map.entries.data(), expected.entries.data(), map.entries.size() * sizeof(PsbEntry)), 0)
        << piece;
  }
}

TEST(PsbMap, EntriesHoldTheBytesAfterThePsbAndZerosBeyondTheEnd) {
  std::vector<uint8_t> bytes(40, 7);
  for (size_t i = 0; i < 16; ++i) bytes[20 + i] = i % 2 ? 0x82 : 2;
  PsbScanner s;
  s.feed(bytes);
  const PsbMap map = std::move(s).finish();
  ASSERT_EQ(map.entries.size(), 1u);
  EXPECT_EQ(map.entries[0].offset, 20u);
  EXPECT_EQ(map.entries[0].after[3], 7);
  EXPECT_EQ(map.entries[0].after[4], 0);
}

}  // namespace
}  // namespace hindcast::transport
