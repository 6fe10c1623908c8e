#include "server/service/retention.h"

#include "tests/unit/service/store_fixture.h"

namespace hindcast::server {
namespace {

namespace fs = std::filesystem;
constexpr uint64_t kSecond = 1'000'000'000;

class RetentionTest : public StoreFixture {
 protected:
  /// Incident iN of 1,000 bytes, committed N seconds after the beginning.
  void fill(int n) {
    for (int i = 1; i <= n; ++i) {
      const std::string id = "i" + std::to_string(i);
      put("a", id, std::vector<uint8_t>(1000));
      must(catalog_->committed({id, 1, "r", "snapshot", {}, {}}, committed("a", i * kSecond, 1000)));
    }
    open();
  }
  std::vector<std::string> left() {
    std::vector<std::string> names;
    for (const auto& s : must(catalog_->stored())) {
      names.push_back(s.key.incident);
      EXPECT_TRUE(fs::exists(sink_->path_of("a", s.key.incident)));
    }
    return names;
  }
};

TEST_F(RetentionTest, NothingGoesByDefault) {
  fill(3);
  EXPECT_EQ(must(remove_old({}, UINT64_MAX, *catalog_, *sink_, log_)).bundles, 0u);
  EXPECT_EQ(left().size(), 3u);
}

TEST_F(RetentionTest, TheOldestGoUntilTheRestFits) {
  fill(5);
  const Removed removed = must(remove_old({2500, {}}, 100 * kSecond, *catalog_, *sink_, log_));
  EXPECT_EQ(removed.bundles, 3u);
  EXPECT_EQ(removed.bytes, 3000u);
  EXPECT_EQ(left(), (std::vector<std::string>{"i4", "i5"}));
  EXPECT_EQ(sink_->used(), 2000u);
  EXPECT_FALSE(fs::exists(sink_->path_of("a", "i1")));
  const auto gone = must(catalog_->incident("i1"))->hosts.at(0);
  EXPECT_EQ(gone.state, SnapshotState::removed);
  EXPECT_EQ(gone.error, "removed: bundles took more than the 2500 bytes that are kept");
  EXPECT_EQ(must(remove_old({2500, {}}, 100 * kSecond, *catalog_, *sink_, log_)).bundles, 0u);
}

TEST_F(RetentionTest, WhatIsTooOldGoes) {
  fill(5);
  EXPECT_EQ(must(remove_old({0, std::chrono::seconds(10)}, 13 * kSecond, *catalog_, *sink_, log_)).bundles, 2u);
  EXPECT_EQ(left(), (std::vector<std::string>{"i3", "i4", "i5"}));
  EXPECT_EQ(must(remove_old({0, std::chrono::seconds(10)}, 0, *catalog_, *sink_, log_)).bundles, 0u);  // clock set back
}

TEST_F(RetentionTest, AFileThatIsGoneAlreadyIsNoTrouble) {
  fill(2);
  fs::remove(sink_->path_of("a", "i1"));
  EXPECT_EQ(must(remove_old({1000, {}}, 10 * kSecond, *catalog_, *sink_, log_)).bundles, 1u);
  EXPECT_EQ(left(), (std::vector<std::string>{"i2"}));
}

TEST_F(RetentionTest, NotesOfImagesGoWithTheirBundle) {
  fill(1);
  fs::create_directories(bundles() + "/images");
  std::ofstream(bundles() + "/images/aa") << "a/i1 1\n";
  std::ofstream(bundles() + "/images/bb") << "a/i11 1\n";
  must_do(sink_->remove("a", "i1"));
  EXPECT_FALSE(fs::exists(bundles() + "/images/aa"));
  EXPECT_TRUE(fs::exists(bundles() + "/images/bb"));
  EXPECT_EQ(sink_->remove("a", "i1").error().code, Errc::not_found);
}

}  // namespace
}  // namespace hindcast::server
