// Incidents from the order to the bundle, with hosts that obey, fail, or stay away, and servers that start again.
#include <atomic>
#include <filesystem>
#include <thread>

#include "tests/unit/service/server_fixture.h"

#ifdef __SANITIZE_THREAD__
// As in ship_test.cc: these libraries are not instrumented.
extern "C" const char* __tsan_default_suppressions() {
  return "called_from_lib:libzmq.so.5\ncalled_from_lib:libsodium.so.23\nrace:libzmq.so.5\n"
         "called_from_lib:libcpp-httplib.so.0.11\nrace:libcpp-httplib.so.0.11\n";
}
#endif

namespace hindcast::server {
namespace {

namespace fs = std::filesystem;

TEST_F(ServerTest, ASnapshotIsOrderedFollowedAndKept) {
  start();
  auto h = host("h");
  const auto ordered = client_->post("/v1/snapshots", R"({"reason":"slow","wait":"committed"})");
  ASSERT_EQ(ordered.status, 200) << ordered.body;
  const std::string id = ordered.json.at("incident");
  EXPECT_EQ(ordered.json.at("reason"), "slow");
  EXPECT_EQ(ordered.json.at("trigger"), "snapshot");
  const Json& row = ordered.json.at("hosts").at(0);
  EXPECT_EQ(row.at("host"), "h");
  EXPECT_EQ(row.at("state"), "committed");
  for (const char* time : {"ordered_unix_ns", "committed_unix_ns"})
    EXPECT_GT(row.at(time), ordered.json.at("created_unix_ns").get<uint64_t>() - 1) << time;
  ASSERT_EQ(h->orders().size(), 1u);
  EXPECT_EQ(h->orders()[0].reason, "slow");
  const std::string path = folder_ / ("store/bundles/h/" + id + ".hcb");
  EXPECT_EQ(test::difference(path, h->snapshot(id)), "");
  EXPECT_EQ(row.at("bytes"), fs::file_size(path));

  const auto whole = test::bytes_of_file(path);
  const auto got = client_->get("/v1/incidents/" + id + "/h.hcb");
  EXPECT_EQ(got.status, 200);
  EXPECT_TRUE(got.body == std::string(whole.begin(), whole.end()));
  const auto part = client_->get("/v1/incidents/" + id + "/h.hcb", {{"Range", "bytes=100-299"}});
  EXPECT_EQ(part.status, 206);
  EXPECT_TRUE(part.body == std::string(whole.begin() + 100, whole.begin() + 300));
  const Json status = client_->get("/v1/status").json;
  EXPECT_EQ(status.at("store").at("snapshots"), 1);
  EXPECT_GE(status.at("store").at("bytes"), whole.size());
  EXPECT_EQ(status.at("counters").at("committed"), 1);
  EXPECT_EQ(status.at("hosts").at(0).at("state"), "armed");
}

TEST_F(ServerTest, OneAlertMakesOneIncidentHoweverOftenItIsPosted) {
  start();
  auto h = host("h");
  const auto first = post_webhook(webhook({"f1", "f2"}));
  ASSERT_EQ(first.status, 202) << first.body;
  EXPECT_EQ(first.json.at("new"), true);
  EXPECT_EQ(first.json.at("alerts"), 2);
  for (const auto& again : {webhook({"f1", "f2"}), webhook({"f2"})}) {
    const auto answer = post_webhook(again);
    EXPECT_EQ(answer.status, 200);
    EXPECT_EQ(answer.json.at("new"), false);
    EXPECT_EQ(answer.json.at("incident"), first.json.at("incident"));
  }
  const auto resolved = post_webhook(webhook({"f1"}, "resolved"));
  EXPECT_EQ(resolved.status, 200);
  EXPECT_EQ(resolved.json, Json({{"incident", nullptr}, {"new", false}, {"alerts", 0}}));
  const auto more = post_webhook(webhook({"f1", "f3"}));
  EXPECT_EQ(more.status, 202);
  EXPECT_EQ(more.json.at("alerts"), 1);

  const auto incident = committed(first.json.at("incident")).json;
  EXPECT_EQ(incident.at("trigger"), "alert");
  EXPECT_EQ(incident.at("reason"), "alert Slow (2 alerts): it is slow");
  EXPECT_EQ(incident.at("alerts").size(), 2u);
  EXPECT_EQ(incident.at("alerts")[0].at("labels"), Json({{"alertname", "Slow"}}));
  EXPECT_EQ(incident.at("hosts")[0].at("state"), "committed");
  const Json list = client_->get("/v1/incidents?limit=1").json.at("incidents");
  ASSERT_EQ(list.size(), 1u);
  EXPECT_EQ(list[0].at("incident"), more.json.at("incident"));
  const Json rest = client_->get("/v1/incidents?before=" + list[0].at("incident").get<std::string>()).json;
  ASSERT_EQ(rest.at("incidents").size(), 1u);
  EXPECT_EQ(rest.at("incidents")[0].at("incident"), first.json.at("incident"));
  EXPECT_EQ(counters().at("alerts_new"), 3);
  EXPECT_EQ(counters().at("alerts_known"), 4);
  EXPECT_EQ(counters().at("alerts_resolved"), 1);
  EXPECT_EQ(counters().at("webhooks"), 5);
}

TEST_F(ServerTest, ManyPostingTheSameAlertMakeOneIncident) {
  start();
  auto h = host("h");
  std::atomic<int> made{0}, known{0};
  std::vector<std::thread> posters;
  for (int i = 0; i < 8; ++i)
    posters.emplace_back([&] {
      test::HttpClient client(server_->http_url());
      const auto answer = client.post("/v1/webhooks/alertmanager", webhook({"f1"}).dump());
      made += answer.status == 202;
      known += answer.status == 200;
    });
  for (auto& p : posters) p.join();
  EXPECT_EQ(made, 1);
  EXPECT_EQ(known, 7);
  EXPECT_EQ(client_->get("/v1/incidents").json.at("incidents").size(), 1u);
}

TEST_F(ServerTest, AWebhookThatCannotBeReadDoesNothing) {
  start();
  auto h = host("h");
  Json newer = webhook({"f1"});
  newer["version"] = "5";
  for (const std::string& body : {std::string("{"), newer.dump(), std::string(2 << 20, ' ')}) {
    const auto answer = client_->post("/v1/webhooks/alertmanager", body);
    EXPECT_EQ(answer.status, 400) << answer.body;
    EXPECT_NE(answer.json.at("error").at("what"), "");
  }
  EXPECT_EQ(counters().at("webhooks_refused"), 3);
  EXPECT_EQ(client_->get("/v1/incidents").json.at("incidents").size(), 0u);
  EXPECT_TRUE(h->orders().empty());
}

TEST_F(ServerTest, WithoutAnyHostNothingIsPromised) {
  start();
  const auto alert = post_webhook(webhook({"f1"}));
  EXPECT_EQ(alert.status, 503);
  EXPECT_NE(alert.json.at("error").at("found").get<std::string>().find("h (never heard of)"), std::string::npos);
  EXPECT_EQ(client_->post("/v1/snapshots", R"({"reason":"r"})").status, 503);
  EXPECT_EQ(client_->get("/v1/incidents").json.at("incidents").size(), 0u);
  auto h = host("h");
  EXPECT_EQ(post_webhook(webhook({"f1"})).status, 202);  // Alertmanager sends it again
}

TEST_F(ServerTest, AWaitEndsWhenItsTimeIsOverOrTheHostHasFailed) {
  allow({"failing", "h", "slow"});
  start();
  auto h = host("h");
  auto slow = host("slow", FakeDaemon::Mode::only_freeze);
  auto failing = host("failing", FakeDaemon::Mode::fail);
  const auto frozen = client_->post("/v1/snapshots", R"({"reason":"r","wait":"frozen"})");
  ASSERT_EQ(frozen.status, 200) << frozen.body;
  const auto late =
      client_->get("/v1/incidents/" + frozen.json.at("incident").get<std::string>() + "?wait=durable&timeout_ms=300");
  ASSERT_EQ(late.status, 200);
  EXPECT_EQ(late.json.at("hosts")[0].at("state"), "failed");
  EXPECT_EQ(late.json.at("hosts")[0].at("error"), "no window is armed");
  EXPECT_EQ(late.json.at("hosts")[2].at("state"), "frozen");
  EXPECT_GT(late.json.at("hosts")[2].at("frozen_unix_ns"), 0);
  const auto only = client_->post("/v1/snapshots", R"({"reason":"r","hosts":["failing"],"wait":"committed"})");
  EXPECT_EQ(only.json.at("hosts").size(), 1u);
  EXPECT_EQ(only.json.at("hosts")[0].at("state"), "failed");
}

TEST_F(ServerTest, ARestartGivesOpenOrdersAgainAndLosesNothing) {
  allow({"h", "other"});
  start();
  std::string waiting, done;
  {
    auto h = host("h", FakeDaemon::Mode::silent);
    const auto answer = client_->post("/v1/snapshots", R"({"reason":"first","hosts":["h"],"timeout_ms":0})");
    ASSERT_EQ(answer.status, 200) << answer.body;
    waiting = answer.json.at("incident");
    EXPECT_EQ(answer.json.at("hosts")[0].at("state"), "ordered");
  }
  {
    auto other = host("other");
    const auto answer = client_->post("/v1/snapshots", R"({"reason":"second","hosts":["other"],"wait":"committed"})");
    done = answer.json.at("incident");
    EXPECT_EQ(answer.json.at("hosts")[0].at("state"), "committed") << answer.body;
  }
  ASSERT_EQ(post_webhook(webhook({"f1"})).status, 202);  // both were heard of a moment ago
  stop();
  start();
  EXPECT_EQ(counters().at("orders_given_again"), 3);
  EXPECT_EQ(post_webhook(webhook({"f1"})).status, 200);
  FakeDaemon h(host_config("h"));
  const auto answer = committed(waiting);
  ASSERT_EQ(answer.status, 200);
  EXPECT_EQ(answer.json.at("hosts")[0].at("state"), "committed") << answer.body << log();
  EXPECT_GT(h.orders().at(0).age.count(), 0);
  EXPECT_EQ(client_->get("/v1/incidents/" + done).json.at("hosts")[0].at("state"), "committed");
}

TEST_F(ServerTest, ALostCatalogComesBackFromTheBundles) {
  start();
  std::string id;
  {
    auto h = host("h");
    id = client_->post("/v1/snapshots", R"({"reason":"slow","wait":"committed"})").json.at("incident");
  }
  stop();
  for (const char* file : {"catalog.sqlite", "catalog.sqlite-wal", "catalog.sqlite-shm"})
    fs::remove(folder_ / (std::string("store/") + file));
  start();
  EXPECT_EQ(client_->get("/v1/incidents/" + id).json.at("hosts")[0].at("state"), "committed");
  stop();
  std::ofstream(folder_ / "store/catalog.sqlite") << std::string(5000, 'x');
  start();
  EXPECT_EQ(client_->get("/v1/incidents/" + id).json.at("hosts")[0].at("state"), "committed");
  EXPECT_NE(log().find("the catalog was damaged and is kept as"), std::string::npos) << log();
}

TEST_F(ServerTest, AStoreBelongsToOneServer) {
  start();
  ServerConfig second = config_;
  second.endpoint = "tcp://127.0.0.1:*";
  const auto other = Server::start(second, program_, [](const std::string&) {});
  ASSERT_FALSE(other.ok());
  EXPECT_EQ(other.error().code, Errc::usage);
  EXPECT_NE(other.error().what.find("another hindcast-server has it"), std::string::npos);
}

TEST_F(ServerTest, AWrongKeyIsRefusedAndCountedAndTheListIsLive) {
  start();
  const transport::KeyPair stranger = transport::make_key_pair();
  auto c = host_config("h");
  c.keys = stranger;
  FakeDaemon impostor(c);
  ASSERT_TRUE(wait_for([&] { return counters().at("refused_keys") > 0; }, 30));
  EXPECT_FALSE(connected("h"));
  keys_["h"] = stranger;
  allow({"h"});
  must_do(server_->reload());
  ASSERT_TRUE(wait_for([&] { return connected("h"); }, 30));
  // An order for a host that is taken off the list will never be answered.
  const auto made = client_->post("/v1/snapshots", R"({"reason":"r","wait":"committed"})");
  EXPECT_EQ(made.json.at("hosts")[0].at("state"), "committed");
  allow({});
  must_do(server_->reload());
  ASSERT_TRUE(wait_for([&] { return !connected("h"); }, 30));
  EXPECT_EQ(client_->post("/v1/snapshots", R"({"reason":"r","hosts":["h"]})").status, 404);
  std::ofstream(config_.allow_file) << "nonsense\n";
  EXPECT_FALSE(server_->reload().ok());
}

TEST_F(ServerTest, AFullStoreSaysSoAndTakesTheSnapshotWhenThereIsRoom) {
  config_.limit_bytes = 100000;
  start();
  auto h = host("h");
  const auto answer = client_->post("/v1/snapshots", R"({"reason":"r","wait":"durable"})");
  const std::string id = answer.json.at("incident");
  ASSERT_TRUE(wait_for(
      [&] {
        const std::string error = client_->get("/v1/incidents/" + id).json.at("hosts")[0].at("error");
        return error.find("the store is full") != std::string::npos;
      },
      30));
  EXPECT_EQ(client_->get("/v1/incidents/" + id).json.at("hosts")[0].at("state"), "durable");
  EXPECT_EQ(client_->get("/v1/incidents/" + id + "/h.hcb").status, 404);
  stop();
  config_.limit_bytes = 0;
  start();
  EXPECT_EQ(committed(id).json.at("hosts")[0].at("state"), "committed");
  EXPECT_EQ(committed(id).json.at("hosts")[0].at("error"), "");
}

TEST_F(ServerTest, OldBundlesGoWhenTheConfigurationSaysSo) {
  config_.keep.bytes = 1;
  start();
  auto h = host("h");
  const std::string id = client_->post("/v1/snapshots", R"({"reason":"r","wait":"committed"})").json.at("incident");
  server_->tick();
  const auto row = client_->get("/v1/incidents/" + id).json.at("hosts")[0];
  EXPECT_EQ(row.at("state"), "removed");
  EXPECT_NE(row.at("error").get<std::string>().find("more than the 1 bytes"), std::string::npos);
  EXPECT_EQ(counters().at("removed_bundles"), 1);
  EXPECT_FALSE(fs::exists(folder_ / ("store/bundles/h/" + id + ".hcb")));
}

}  // namespace
}  // namespace hindcast::server
