// What belongs to HTTP: uploads, commands that are run for clients, tokens, and requests that make no sense.
#include <signal.h>

#include <atomic>
#include <thread>

#include "tests/unit/service/server_fixture.h"
#include "transport/bundle_writer.h"

namespace hindcast::server {
namespace {

/// Of a bundle that host "laptop" made.
std::string laptop_bundle(const std::string& path) {
  const auto made = test::make_snapshot("laptop", "old", 3, 50000);
  auto writer = must(transport::BundleWriter::create(path));
  for (size_t i = 0; i < made.images.size(); ++i) must_do(writer.append_image(made.info.images[i].id, made.images[i]));
  for (size_t i = 0; i < made.streams.size(); ++i)
    must_do(writer.append_stream(made.info.streams[i].id, made.streams[i]));
  must_do(writer.end_snapshot(made.info));
  must_do(writer.finish());
  const auto bytes = test::bytes_of_file(path);
  return {bytes.begin(), bytes.end()};
}

TEST_F(ServerTest, AnUploadIsKeptAndFound) {
  start();
  const std::string body = laptop_bundle(folder_ / "made.hcb");
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
  program_ = folder_.script(
      "printf 'out:'; for a in \"$@\"; do printf '[%s]' \"$a\"; done; test -f \"$2\" && echo err >&2; exit 5");
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

TEST_F(ServerTest, WhatCameIsOpenedBeforeAnybodyAsks) {
  program_ = folder_.script("test -f \"$2\" && echo \"$*\" >> opened");
  start();
  auto h = host("h");
  const std::string id = client_->post("/v1/snapshots", R"({"reason":"r","wait":"committed"})").json.at("incident");
  ASSERT_TRUE(wait_for([&] { return counters().at("opened_beforehand") == 1; }, 30));
  const auto put = client_->put("/v1/bundles?reason=x", laptop_bundle(folder_ / "made.hcb"));
  ASSERT_EQ(put.status, 201) << put.body;
  const std::string uploaded = put.json.at("incident");
  ASSERT_TRUE(wait_for([&] { return counters().at("opened_beforehand") == 2; }, 30));
  const auto opened = test::bytes_of_file(folder_ / "store/bundles/opened");
  EXPECT_EQ(std::string(opened.begin(), opened.end()), "ls h/" + id + ".hcb\nls laptop/" + uploaded + ".hcb\n");
  EXPECT_EQ(counters().at("failed_openings"), 0);
}

TEST_F(ServerTest, ACommandDiesWithItsClientAndNoMoreRunThanMay) {
  program_ = folder_.script("echo $$; exec sleep 1000");
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

}  // namespace
}  // namespace hindcast::server
