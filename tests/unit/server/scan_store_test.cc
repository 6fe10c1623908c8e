#include "server/scan_store.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <chrono>
#include <filesystem>
#include <fstream>

#include "tests/support/run_program.h"

namespace hindcast::server {
namespace {

namespace fs = std::filesystem;
using Bytes = std::vector<uint8_t>;

constexpr uint64_t kMost = 1 << 20;

class ScanStoreTest : public testing::Test {
 protected:
  std::string path(const std::string& key) const { return place_ + "/" + key + ".scan"; }
  unsigned mode(const std::string& path) const {
    struct stat st {};
    return ::stat(path.c_str(), &st) == 0 ? st.st_mode & 0777 : 0;
  }
  /// As if it had been read last so long ago.
  void age(const std::string& key, int hours) const {
    fs::last_write_time(path(key), fs::file_time_type::clock::now() - std::chrono::hours(hours));
  }

  test::TempFolder folder_;
  const std::string place_ = folder_ / "cache/scans";
};

TEST_F(ScanStoreTest, KeepsScansByTheirKey) {
  const ScanStore store(place_, kMost);
  EXPECT_FALSE(store.read("a", kMost));
  EXPECT_FALSE(fs::exists(place_));
  store.write("a", Bytes(1000, 1));
  store.write("b", Bytes(2000, 2));
  EXPECT_EQ(store.read("a", kMost), Bytes(1000, 1));
  EXPECT_EQ(store.read("b", kMost), Bytes(2000, 2));
  EXPECT_FALSE(store.read("c", kMost));
  EXPECT_EQ(mode(place_), 0700u);
  EXPECT_EQ(mode(path("a")), 0600u);
}

TEST_F(ScanStoreTest, ADamagedOneIsNotReadAndGoes) {
  const ScanStore store(place_, kMost);
  store.write("a", Bytes(1000, 1));
  std::ofstream(path("a"), std::ios::trunc) << "something else";
  EXPECT_FALSE(store.read("a", kMost));
  EXPECT_FALSE(fs::exists(path("a")));
}

TEST_F(ScanStoreTest, OneThatIsTooLargeIsNotReadOrWritten) {
  const ScanStore store(place_, 5000);
  store.write("a", Bytes(1000, 1));
  EXPECT_FALSE(store.read("a", 999));
  store.write("b", Bytes(5001, 1));
  EXPECT_FALSE(store.read("b", kMost));
}

TEST_F(ScanStoreTest, ThoseThatNobodyReadGoFirst) {
  Bytes scan(4000);
  for (size_t i = 0; i < scan.size(); ++i)
    scan[i] = static_cast<uint8_t>((i * i * 2654435761u) >> 13);  // not to be packed
  const ScanStore store(place_, 13000);
  for (const char* key : {"a", "b", "c"}) store.write(key, scan);
  age("a", 3), age("b", 2), age("c", 1);
  EXPECT_TRUE(store.read("a", kMost));
  std::ofstream(place_ + "/another") << std::string(20000, 'x');  // no scan: nobody counts or removes it
  store.write("d", scan);
  EXPECT_FALSE(fs::exists(path("b")));
  for (const char* key : {"a", "c", "d"}) EXPECT_EQ(store.read(key, kMost), scan) << key;
  EXPECT_TRUE(fs::exists(place_ + "/another"));
}

TEST_F(ScanStoreTest, WhereNothingCanBeWrittenNothingIsKept) {
  std::ofstream(folder_ / "cache") << "a file where the folder should be";
  const ScanStore store(place_, kMost);
  store.write("a", Bytes(10, 1));
  EXPECT_FALSE(store.read("a", kMost));
}

}  // namespace
}  // namespace hindcast::server
