// Catalog and bundles made to agree, whatever a kill left of them.
#include "server/service/store_check.h"

#include "tests/unit/service/store_fixture.h"

namespace hindcast::server {
namespace {

namespace fs = std::filesystem;

using StoreCheckTest = StoreFixture;

TEST_F(StoreCheckTest, ALostCatalogIsMadeAgainFromTheBundles) {
  const auto bytes = bundle("a", "i1");
  put("a", "i1", bytes);
  put("b", "i1", bundle("b", "i1"));
  put("a", "up", bundle("web", "", 2));
  const StoreCheck check = must(check_store(*catalog_, bundles()));
  EXPECT_EQ(check.bundles, 3u);
  EXPECT_EQ(check.added, 3u);
  EXPECT_EQ(check.gone, 0u);
  EXPECT_TRUE(check.words.empty());
  const auto i1 = must(catalog_->incident("i1"));
  ASSERT_TRUE(i1);
  EXPECT_EQ(i1->created_ns, 1700000000000000001u);  // what the bundle says
  EXPECT_EQ(i1->trigger, "snapshot");
  ASSERT_EQ(i1->hosts.size(), 2u);
  EXPECT_EQ(i1->hosts[0].state, SnapshotState::committed);
  EXPECT_EQ(i1->hosts[0].bytes, bytes.size());
  EXPECT_GT(i1->hosts[0].committed_ns, 0u);
  EXPECT_EQ(must(catalog_->incident("up"))->trigger, "upload");
  EXPECT_EQ(must(check_store(*catalog_, bundles())).added, 0u);
}

TEST_F(StoreCheckTest, ACommitThatTheCatalogMissedIsAdded) {
  Incident i{"i1", 5, "alert", "alert", {{"f1", "2026-11-26T10:45:01Z", {}, {}}}, {}};
  i.hosts.resize(2);
  i.hosts[0].host = "a";
  i.hosts[1].host = "b";
  must_do(catalog_->add_incident(i));
  must(catalog_->advance({"i1", "a"}, SnapshotState::durable, 6));
  put("a", "i1", bundle("a", "i1"));
  put("a", "i2.hcb.partial", {1, 2, 3});
  EXPECT_EQ(must(check_store(*catalog_, bundles())).added, 1u);
  const auto found = must(catalog_->incident("i1"));
  EXPECT_EQ(found->reason, "alert");
  EXPECT_EQ(found->alerts.size(), 1u);
  EXPECT_EQ(found->hosts[0].state, SnapshotState::committed);
  EXPECT_EQ(found->hosts[0].durable_ns, 6u);
  EXPECT_EQ(found->hosts[1].state, SnapshotState::ordered);
}

TEST_F(StoreCheckTest, ABundleThatIsGoneIsSaidToBe) {
  const std::string path = put("a", "i1", bundle("a", "i1"));
  must(check_store(*catalog_, bundles()));
  fs::remove(path);
  EXPECT_EQ(must(check_store(*catalog_, bundles())).gone, 1u);
  EXPECT_EQ(state("i1"), SnapshotState::removed);
  EXPECT_NE(must(catalog_->incident("i1"))->hosts[0].error.find("not in the store"), std::string::npos);
  put("a", "i1", bundle("a", "i1"));
  EXPECT_EQ(must(check_store(*catalog_, bundles())).added, 1u);
  EXPECT_EQ(state("i1"), SnapshotState::committed);
}

TEST_F(StoreCheckTest, WhatIsNoBundleIsLeftAlone) {
  put("a", "i1", {1, 2, 3});
  put("a", "i2", bundle("a", "i2"));
  must(check_store(*catalog_, bundles()));
  put("a", "i2", {1});
  put(".hidden", "i3", bundle("a", "i3"));
  fs::create_directory(bundles() + "/a/folder.hcb");
  fs::create_symlink("/etc/passwd", bundles() + "/a/link.hcb");
  std::ofstream(bundles() + "/stray.hcb") << "x";
  const StoreCheck check = must(check_store(*catalog_, bundles()));
  EXPECT_EQ(check.bundles, 2u);
  EXPECT_EQ(check.added, 0u);
  ASSERT_EQ(check.words.size(), 2u);
  EXPECT_NE(check.words[0].find("left alone"), std::string::npos);
  EXPECT_NE(check.words[1].find("has 1 bytes; it had"), std::string::npos);
  EXPECT_EQ(must(catalog_->totals()).incidents, 1u);
}

TEST_F(StoreCheckTest, AStoreThatCannotBeListedIsAnError) {
  EXPECT_EQ(check_store(*catalog_, folder_ / "none").error().code, Errc::io);
}

}  // namespace
}  // namespace hindcast::server
