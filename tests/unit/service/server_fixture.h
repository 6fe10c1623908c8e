// A server in one process with its tests: hosts over loopback, requests over HTTP, all in a folder that goes away.
#pragma once

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "server/service/server.h"
#include "tests/support/fake_daemon.h"
#include "tests/support/http_client.h"
#include "tests/support/run_program.h"
#include "tests/unit/service/must.h"

namespace hindcast::server {

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

}  // namespace hindcast::server
