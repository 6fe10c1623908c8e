// The whole server in one process with this test: hosts over loopback, requests over HTTP.
#include "server/service/server.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "tests/support/fake_daemon.h"
#include "tests/support/http_client.h"
#include "tests/support/run_program.h"
#include "tests/unit/service/must.h"
#include "transport/bundle_writer.h"

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
using Json = nlohmann::json;
using test::FakeDaemon;
using test::wait_for;

class ServerTest : public testing::Test {
 protected:
  ServerTest() {
    must_do(transport::write_key_files(folder_ / "server", server_keys_));
    config_.endpoint = "tcp://127.0.0.1:*";
    config_.http = {"127.0.0.1", 0};
    config_.key_file = folder_ / "server.secret";
    config_.allow_file = folder_ / "hosts";
    config_.folder = folder_ / "store";
    allow({"h"});
  }

  void allow(const std::vector<std::string>& hosts) {
    std::string text;
    for (const std::string& host : hosts) {
      if (!keys_.contains(host)) keys_[host] = transport::make_key_pair();
      text += host + " " + keys_[host].public_key + "\n";
    }
    std::ofstream(config_.allow_file) << text;
    ::chmod(config_.allow_file.c_str(), 0600);
  }
  void start() {
    server_ = must(Server::start(config_, program_, [this](const std::string& line) {
      std::lock_guard lock(mutex_);
      lines_.push_back(line);
    }));
    config_.endpoint = server_->transport_endpoint();  // a restart keeps the address
    client_.emplace(server_->http_url());
  }
  void stop() {
    ASSERT_TRUE(server_->stop());
    server_.reset();
  }
  FakeDaemon::Config host_config(const std::string& host, FakeDaemon::Mode mode = FakeDaemon::Mode::obey) {
    FakeDaemon::Config c;
    c.host = host;
    c.endpoint = config_.endpoint;
    c.folder = folder_ / ("spool-" + host);
    c.server_key = server_keys_.public_key;
    c.keys = keys_.at(host);
    c.mode = mode;
    return c;
  }
  std::unique_ptr<FakeDaemon> host(const std::string& name, FakeDaemon::Mode mode = FakeDaemon::Mode::obey) {
    auto daemon = std::make_unique<FakeDaemon>(host_config(name, mode));
    EXPECT_TRUE(wait_for([&] { return connected(name); }, 30));
    return daemon;
  }
  bool connected(const std::string& name) {
    const Json status = client_->get("/v1/status").json;
    for (const Json& h : status.at("hosts"))
      if (h.at("host") == name) return h.at("connected");
    return false;
  }
  Json counters() { return client_->get("/v1/status").json.at("counters"); }
  static Json webhook(const std::vector<std::string>& fingerprints, const std::string& status = "firing") {
    Json alerts = Json::array();
    for (const auto& f : fingerprints)
      alerts.push_back({{"status", status},
                        {"labels", {{"alertname", "Slow"}}},
                        {"annotations", {{"summary", "it is slow"}}},
                        {"startsAt", "2026-11-26T10:45:01Z"},
                        {"fingerprint", f}});
    return {{"version", "4"}, {"alerts", alerts}};
  }
  test::Answer post_webhook(const Json& body) { return client_->post("/v1/webhooks/alertmanager", body.dump()); }
  test::Answer committed(const std::string& incident) {
    return client_->get("/v1/incidents/" + incident + "?wait=committed&timeout_ms=30000");
  }
  std::string log() {
    std::lock_guard lock(mutex_);
    std::string s;
    for (const auto& line : lines_) s += line + "\n";
    return s;
  }
  std::string script(const std::string& text) {
    const std::string path = folder_ / "stand-in";
    std::ofstream(path) << "#!/bin/sh\n" << text;
    ::chmod(path.c_str(), 0700);
    return path;
  }

  test::TempFolder folder_;
  transport::KeyPair server_keys_ = transport::make_key_pair();
  std::map<std::string, transport::KeyPair> keys_;
  ServerConfig config_;
  std::string program_ = "/bin/false";
  std::mutex mutex_;
  std::vector<std::string> lines_;
  std::unique_ptr<Server> server_;
  std::optional<test::HttpClient> client_;
};

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

TEST_F(ServerTest, AnUploadIsKeptAndFound) {
  start();
  const auto made = test::make_snapshot("laptop", "old", 3, 50000);
  auto writer = must(transport::BundleWriter::create(folder_ / "made.hcb"));
  for (size_t i = 0; i < made.images.size(); ++i) must_do(writer.append_image(made.info.images[i].id, made.images[i]));
  for (size_t i = 0; i < made.streams.size(); ++i)
    must_do(writer.append_stream(made.info.streams[i].id, made.streams[i]));
  must_do(writer.end_snapshot(made.info));
  must_do(writer.finish());
  const auto bytes = test::bytes_of_file(folder_ / "made.hcb");
  const std::string body(bytes.begin(), bytes.end());
  const auto first = client_->put("/v1/bundles?reason=from%20my%20laptop", body);
  ASSERT_EQ(first.status, 201) << first.body;
  EXPECT_EQ(first.json.at("trigger"), "upload");
  EXPECT_EQ(first.json.at("reason"), "from my laptop");
  EXPECT_EQ(first.json.at("hosts")[0].at("host"), "laptop");
  const auto again = client_->put("/v1/bundles", body);
  EXPECT_EQ(again.status, 200);
  EXPECT_EQ(again.json, first.json);
  EXPECT_EQ(client_->put("/v1/bundles", body.substr(0, body.size() / 2)).status, 400);
  EXPECT_EQ(client_->put("/v1/bundles", "").status, 400);
  EXPECT_EQ(client_->get("/v1/incidents/" + first.json.at("incident").get<std::string>() + "/laptop.hcb").body, body);
  EXPECT_EQ(counters().at("uploads"), 1);
}

TEST_F(ServerTest, CommandsRunOnTheirBundle) {
  program_ =
      script("printf 'out:'; for a in \"$@\"; do printf '[%s]' \"$a\"; done; test -f \"$2\" && echo err >&2; exit 5");
  start();
  auto h = host("h");
  const std::string id = client_->post("/v1/snapshots", R"({"reason":"r","wait":"committed"})").json.at("incident");
  const auto ran = client_->run({{"command", "show"}, {"incident", id}, {"options", {"--tid=4", "--json"}}});
  EXPECT_EQ(ran.status, 200) << ran.body;
  EXPECT_EQ(ran.out, "out:[show][h/" + id + ".hcb][--tid=4][--json]");
  EXPECT_EQ(ran.err, "err\n");
  EXPECT_EQ(ran.code, 5);
  EXPECT_EQ(client_->run({{"command", "show"}, {"incident", id}, {"host", "h"}}).code, 5);
  EXPECT_EQ(client_->run({{"command", "show"}, {"incident", id}, {"host", "x"}}).status, 404);
  EXPECT_EQ(client_->run({{"command", "show"}, {"incident", "none"}}).status, 404);
  EXPECT_EQ(client_->run({{"command", "record"}, {"incident", id}}).status, 400);
  EXPECT_EQ(client_->run({{"command", "show"}, {"incident", id}, {"options", {"-o=x"}}}).status, 400);
  EXPECT_EQ(client_->run({{"command", "show"}, {"incident", "../x"}}).status, 400);
  EXPECT_EQ(counters().at("runs"), 2);
}

TEST_F(ServerTest, ACommandDiesWithItsClientAndNoMoreRunThanMay) {
  program_ = script("echo $$; exec sleep 1000");
  config_.run_children = 1;
  start();
  auto h = host("h");
  const std::string id = client_->post("/v1/snapshots", R"({"reason":"r","wait":"committed"})").json.at("incident");
  std::atomic<pid_t> child{0};
  std::atomic<bool> leave{false};
  std::thread reader([&] {
    httplib::Client client(server_->http_url());
    client.set_read_timeout(60);
    httplib::Request req;
    req.method = "POST";
    req.path = "/v1/run";
    req.body = Json({{"command", "ls"}, {"incident", id}}).dump();
    req.content_receiver = [&](const char* data, size_t n, uint64_t, uint64_t) {
      if (child == 0 && n > 5 && data[0] == 1) child = std::atoi(std::string(data + 5, n - 5).c_str());
      return !leave;
    };
    client.send(req);
  });
  ASSERT_TRUE(wait_for([&] { return child != 0; }, 30));
  const auto second = client_->run({{"command", "ls"}, {"incident", id}});
  EXPECT_EQ(second.status, 503) << second.body;
  leave = true;  // at the next keep-alive
  reader.join();
  EXPECT_TRUE(wait_for([&] { return ::kill(child, 0) != 0; }, 30));
  // The slot is free again; this one is ended by the server's end.
  std::thread last([&] {
    test::HttpClient client(server_->http_url());
    wait_for([&] { return client.run({{"command", "ls"}, {"incident", id}}).status != 503; }, 30);
  });
  ASSERT_TRUE(wait_for([&] { return counters().at("runs") == 2; }, 30));
  EXPECT_TRUE(server_->stop());
  last.join();
}

TEST_F(ServerTest, StoppingEndsWaits) {
  start();
  auto h = host("h", FakeDaemon::Mode::silent);
  std::atomic<int> status{0};
  std::thread waiter([&] {
    test::HttpClient client(server_->http_url());
    status = client.post("/v1/snapshots", R"({"reason":"r","timeout_ms":600000})").status;
  });
  ASSERT_TRUE(wait_for([&] { return counters().at("orders") == 1; }, 30));
  EXPECT_TRUE(server_->stop());
  waiter.join();
  EXPECT_EQ(status, 200);
}

TEST_F(ServerTest, RequestsThatMakeNoSenseGetAnErrorAsJson) {
  start();
  auto h = host("h");
  const std::pair<std::string, int> gets[] = {{"/v1/incidents/none", 404},
                                              {"/v1/incidents/none?wait=committed", 404},
                                              {"/v1/incidents?limit=0", 400},
                                              {"/v1/incidents?limit=x", 400},
                                              {"/v1/incidents?before=none", 404},
                                              {"/v1/incidents/none/h.hcb", 404},
                                              {"/v1/incidents/%2e%2e%2fx/h.hcb", 404},
                                              {"/v1/incidents/x?wait=ordered", 400},
                                              {"/v1/incidents/x?wait=frozen&timeout_ms=-1", 400},
                                              {"/", 404},
                                              {"/v2/status", 404}};
  for (const auto& [path, status] : gets) {
    const auto answer = client_->get(path);
    EXPECT_EQ(answer.status, status) << path;
    EXPECT_TRUE(answer.json.contains("error")) << path << answer.body;
  }
  for (const char* body : {"", "[]", "{}", R"({"reason":""})", R"({"reason":5})", R"({"reason":"r","wait":"ordered"})",
                           R"({"reason":"r","timeout_ms":1.5})", R"({"reason":"r","timeout_ms":99999999})",
                           R"({"reason":"r","hosts":[]})", R"({"reason":"r","hosts":"h"})",
                           R"({"reason":"r","host":["h"]})", R"({"reason":"r","hosts":[[[[[[[[[1]]]]]]]]]})"}) {
    const auto answer = client_->post("/v1/snapshots", body);
    EXPECT_EQ(answer.status, 400) << body << answer.body;
    EXPECT_EQ(answer.json.at("error").at("code"), "bad_input");
  }
  EXPECT_EQ(client_->post("/v1/snapshots", R"({"reason":"r","hosts":["stranger"]})").status, 404);
  EXPECT_EQ(client_->post("/v1/snapshots", std::string(2 << 20, 'x')).status, 413);
  EXPECT_EQ(client_->post("/v1/nowhere", std::string(2 << 20, 'x')).status, 404);
  EXPECT_EQ(client_->raw().Delete("/v1/incidents/x")->status, 405);
  EXPECT_EQ(client_->get("/v1/status", {{"Origin", "http://evil.example"}}).status, 403);
  EXPECT_EQ(client_->get("/v1/status", {{"Host", "evil.example"}}).status, 403);
  EXPECT_TRUE(h->orders().empty());
}

TEST_F(ServerTest, WithATokenNobodyAsksWithoutIt) {
  const std::string token = "0123456789abcdef0123";
  std::ofstream(folder_ / "token") << token << "\n";
  ::chmod((folder_ / "token").c_str(), 0600);
  config_.http_token_file = folder_ / "token";
  start();
  EXPECT_EQ(client_->get("/v1/status").status, 401);
  EXPECT_EQ(client_->post("/v1/run", "{}").status, 401);
  EXPECT_EQ(client_->get("/v1/status", {{"Authorization", "Bearer " + token}}).status, 200);
  EXPECT_EQ(client_->get("/v1/status", {{"Authorization", "Bearer " + token + "x"}}).status, 401);
  const auto status = client_->get("/v1/status", {{"Authorization", "Bearer " + token}}).json;
  EXPECT_EQ(status.at("counters").at("http_refused"), 3);
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
