// What the catalog keeps, in which order things may happen, and what it does with files that are not its own.
#include "server/service/catalog.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <random>

#include "tests/support/run_program.h"
#include "tests/unit/service/must.h"

namespace hindcast::server {
namespace {

namespace fs = std::filesystem;

class CatalogTest : public testing::Test {
 protected:
  std::unique_ptr<Catalog> open() {
    auto opened = must(Catalog::open(path_));
    moved_aside_ = opened.moved_aside;
    return std::move(opened.catalog);
  }
  static Incident incident(const std::string& id, uint64_t created, std::vector<std::string> hosts = {"a"}) {
    Incident i{id, created, "because", "snapshot", {}, {}};
    for (const auto& host : hosts) {
      HostSnapshot h;
      h.host = host;
      h.ordered_ns = created;
      i.hosts.push_back(h);
    }
    return i;
  }
  static Alert alert(const std::string& fingerprint, const std::string& starts = "2026-11-26T10:45:01Z") {
    return {fingerprint, starts, {{"alertname", "Slow"}, {"job", "a\"b\\c\n"}}, {{"summary", "it is slow"}}};
  }

  test::TempFolder folder_;
  std::string path_ = folder_ / "catalog.sqlite";
  std::string moved_aside_;
};

TEST_F(CatalogTest, GivesBackWhatItWasGivenAfterItWasOpenedAgain) {
  Incident i = incident("i1", 1700000000000000000, {"b", "a"});
  i.alerts = {alert("f1"), alert("f2")};
  must_do(open()->add_incident(i));
  auto catalog = open();
  const auto found = must(catalog->incident("i1"));
  ASSERT_TRUE(found);
  EXPECT_EQ(found->created_ns, i.created_ns);
  EXPECT_EQ(found->reason, "because");
  EXPECT_EQ(found->trigger, "snapshot");
  ASSERT_EQ(found->alerts.size(), 2u);
  EXPECT_EQ(found->alerts[1].fingerprint, "f2");
  EXPECT_EQ(found->alerts[1].labels, alert("f2").labels);
  EXPECT_EQ(found->alerts[1].annotations, alert("f2").annotations);
  ASSERT_EQ(found->hosts.size(), 2u);
  EXPECT_EQ(found->hosts[0].host, "a");
  EXPECT_EQ(found->hosts[0].ordered_ns, i.created_ns);
  EXPECT_EQ(found->hosts[0].state, SnapshotState::ordered);
  EXPECT_FALSE(must(catalog->incident("i2")));
  EXPECT_EQ(must(catalog->totals()).alerts, 2u);
  EXPECT_EQ(catalog->add_incident(i).error().code, Errc::usage);
  EXPECT_EQ(must(catalog->incidents(10)).size(), 1u);
}

TEST_F(CatalogTest, AnAlertMakesOneIncidentOnly) {
  auto catalog = open();
  Incident first = incident("i1", 1), second = incident("i2", 2), third = incident("i3", 3);
  first.alerts = {alert("f1")};
  second.alerts = {alert("f1"), alert("f2"), alert("f1", "2026-11-26T10:45:02Z")};
  third.alerts = {alert("f2"), alert("f1")};
  auto outcome = must(catalog->add_alerts(first));
  EXPECT_TRUE(outcome.created && outcome.incident == "i1" && outcome.new_alerts == 1);
  outcome = must(catalog->add_alerts(second));
  EXPECT_TRUE(outcome.created && outcome.incident == "i2" && outcome.new_alerts == 2);
  EXPECT_EQ(must(catalog->incident("i2"))->alerts.size(), 2u);
  catalog = open();
  outcome = must(catalog->look_up(third.alerts));
  EXPECT_TRUE(!outcome.created && outcome.incident == "i2" && outcome.new_alerts == 0);
  outcome = must(catalog->add_alerts(third));
  EXPECT_TRUE(!outcome.created && outcome.incident == "i2" && outcome.new_alerts == 0);
  EXPECT_FALSE(must(catalog->incident("i3")));
}

TEST_F(CatalogTest, SnapshotsOnlyMoveForward) {
  auto catalog = open();
  using enum SnapshotState;
  const std::vector<SnapshotState> all{ordered, frozen, durable, committed, failed, removed};
  const std::map<SnapshotState, std::vector<SnapshotState>> leads{{ordered, {frozen, durable, committed, failed}},
                                                                  {frozen, {durable, committed, failed}},
                                                                  {durable, {committed, failed}},
                                                                  {committed, {removed}},
                                                                  {failed, {durable, committed}},
                                                                  {removed, {committed}}};
  const std::map<SnapshotState, std::vector<SnapshotState>> ways{{ordered, {}},        {frozen, {frozen}},
                                                                 {durable, {durable}}, {committed, {committed}},
                                                                 {failed, {failed}},   {removed, {committed, removed}}};
  int n = 0;
  for (const SnapshotState from : all) {
    for (const SnapshotState to : all) {
      const SnapshotKey key{"i" + std::to_string(++n), "a"};
      must_do(catalog->add_incident(incident(key.incident, 1)));
      for (const SnapshotState step : ways.at(from)) ASSERT_TRUE(must(catalog->advance(key, step, 5, 70, "e")));
      const bool may = std::count(leads.at(from).begin(), leads.at(from).end(), to) > 0;
      EXPECT_EQ(must(catalog->advance(key, to, 9, 0, "x")), may) << name_of(from) << " to " << name_of(to);
      const HostSnapshot now = must(catalog->incident(key.incident))->hosts.at(0);
      EXPECT_EQ(now.state, may ? to : from);
      EXPECT_EQ(now.bytes, from == ordered ? 0u : 70u);  // 0 bytes said nothing new
      EXPECT_EQ(now.frozen_ns == 9, may && to == frozen);
      EXPECT_EQ(now.durable_ns == 9, may && to == durable);
      EXPECT_EQ(now.committed_ns == 9, may && to == committed);
    }
  }
  EXPECT_FALSE(must(catalog->advance({"i1", "stranger"}, frozen, 1)));
  EXPECT_FALSE(must(catalog->advance({"nothing", "a"}, frozen, 1)));
}

TEST_F(CatalogTest, WhatIsInTheStoreIsCommittedWhateverWasKnownOfIt) {
  auto catalog = open();
  must_do(catalog->add_incident(incident("i1", 1)));
  HostSnapshot h;
  h.host = "a";
  h.state = SnapshotState::committed;
  h.committed_ns = 7;
  h.bytes = 100;
  EXPECT_TRUE(must(catalog->committed(incident("i1", 99), h)));
  EXPECT_FALSE(must(catalog->committed(incident("i1", 99), h)));
  EXPECT_TRUE(must(catalog->committed(incident("new", 50, {}), h, "d1")));
  EXPECT_EQ(must(catalog->incident("i1"))->created_ns, 1u);
  EXPECT_EQ(must(catalog->incident("new"))->created_ns, 50u);
  const auto stored = must(catalog->stored(100));
  ASSERT_EQ(stored.size(), 2u);
  EXPECT_EQ(stored[1].digest, "d1");
  EXPECT_TRUE(must(catalog->stored(101)).empty());
  must_do(catalog->set_digest({"i1", "a"}, "d2"));
  EXPECT_EQ(must(catalog->stored())[0].digest, "d2");
  EXPECT_EQ(must(catalog->totals()).snapshots, 2u);
}

TEST_F(CatalogTest, ANoteChangesNoState) {
  auto catalog = open();
  must_do(catalog->add_incident(incident("i1", 1)));
  EXPECT_TRUE(must(catalog->note({"i1", "a"}, "full")));
  EXPECT_FALSE(must(catalog->note({"i1", "a"}, "full")));
  EXPECT_EQ(must(catalog->incident("i1"))->hosts[0].error, "full");
  EXPECT_TRUE(must(catalog->advance({"i1", "a"}, SnapshotState::committed, 3)));
  EXPECT_EQ(must(catalog->incident("i1"))->hosts[0].error, "");
  EXPECT_FALSE(must(catalog->note({"i1", "a"}, "late")));
}

TEST_F(CatalogTest, OpenOrdersAreThoseNobodyAnswered) {
  auto catalog = open();
  must_do(catalog->add_incident(incident("i1", 10, {"a", "b", "c", "d"})));
  must(catalog->advance({"i1", "b"}, SnapshotState::frozen, 11));
  must(catalog->advance({"i1", "c"}, SnapshotState::durable, 11));
  must(catalog->advance({"i1", "d"}, SnapshotState::failed, 11));
  const auto orders = must(catalog->open_orders());
  ASSERT_EQ(orders.size(), 2u);
  EXPECT_EQ(orders[0].key.host, "a");
  EXPECT_EQ(orders[1].key.host, "b");
  EXPECT_EQ(orders[0].reason, "because");
  EXPECT_EQ(orders[0].ordered_ns, 10u);
}

TEST_F(CatalogTest, PagesCoverTheListWithoutOverlap) {
  auto catalog = open();
  std::mt19937 random(1);
  std::vector<std::pair<uint64_t, std::string>> expected;
  for (int i = 0; i < 60; ++i) {
    const uint64_t created = 1000 + random() % 20;  // many at the same time
    expected.emplace_back(created, "i" + std::to_string(random()));
    must_do(catalog->add_incident(incident(expected.back().second, created, {})));
  }
  std::sort(expected.rbegin(), expected.rend());
  for (const size_t page : {size_t{1}, size_t{7}, size_t{1000}}) {
    std::vector<std::pair<uint64_t, std::string>> all;
    for (std::string before;;) {
      const auto some = must(catalog->incidents(page, before));
      if (some.empty()) break;
      ASSERT_LE(some.size(), page);
      for (const auto& i : some) all.emplace_back(i.created_ns, i.id);
      before = all.back().second;
    }
    EXPECT_EQ(all, expected);
  }
  EXPECT_EQ(catalog->incidents(1, "none").error().code, Errc::not_found);
}

TEST_F(CatalogTest, HostsAreRememberedByWhenTheyWereLastHeard) {
  auto catalog = open();
  must_do(catalog->heard({"a"}, 10));
  must_do(catalog->heard({"a"}, 5));
  must_do(catalog->heard({"a", "b"}, 7));
  EXPECT_EQ(must(catalog->heard_hosts()), (std::map<std::string, uint64_t>{{"a", 10}, {"b", 7}}));
}

TEST_F(CatalogTest, ANewerSchemaIsLeftAlone) {
  must_do(open()->add_incident(incident("i1", 1)));
  must_do(must(Database::open(path_)).run("PRAGMA user_version=99"));
  const auto opened = Catalog::open(path_);
  ASSERT_FALSE(opened.ok());
  EXPECT_EQ(opened.error().code, Errc::version);
  EXPECT_NE(opened.error().found.find("99"), std::string::npos);
  must_do(must(Database::open(path_)).run("PRAGMA user_version=1"));
  EXPECT_TRUE(must(open()->incident("i1")));
}

TEST_F(CatalogTest, ADatabaseOfSomethingElseIsLeftAlone) {
  must_do(must(Database::open(path_)).run("CREATE TABLE recipes (cake TEXT)"));
  EXPECT_EQ(Catalog::open(path_).error().code, Errc::bad_input);
  must_do(must(Database::open(path_)).run("INSERT INTO recipes VALUES ('plum')"));
}

TEST_F(CatalogTest, ADamagedOneIsMovedAsideAndANewOneBegins) {
  std::ofstream(path_) << std::string(10000, 'x');
  auto catalog = open();
  ASSERT_NE(moved_aside_, "");
  EXPECT_EQ(fs::file_size(moved_aside_), 10000u);
  must_do(catalog->add_incident(incident("i1", 1)));
  for (int i = 2; i < 400; ++i) must_do(catalog->add_incident(incident("i" + std::to_string(i), 1)));
  catalog = open();
  EXPECT_EQ(moved_aside_, "");
  catalog.reset();
  std::fstream f(path_, std::ios::in | std::ios::out | std::ios::binary);
  const auto size = fs::file_size(path_);
  ASSERT_GT(size, 20000u);
  for (uint64_t at = 4096; at + 4096 <= size; at += 4096) f.seekp(static_cast<std::streamoff>(at)) << "damaged page";
  f.close();
  catalog = open();
  EXPECT_NE(moved_aside_, "");
  EXPECT_EQ(must(catalog->totals()).incidents, 0u);
}

TEST_F(CatalogTest, AFileThatCannotBeMadeIsAnError) {
  EXPECT_EQ(Catalog::open(folder_ / "no/such/catalog").error().code, Errc::not_found);
}

}  // namespace
}  // namespace hindcast::server
