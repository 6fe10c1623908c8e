// The real hindcast-server: from a webhook to a bundle that `hindcast` answers from, over restarts and kills.
//
// HINDCAST_LONG=1: 400 kills instead of 40. HINDCAST_SEED=N: another schedule.
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <set>
#include <thread>

#include "tests/e2e/recording.h"
#include "tests/support/background.h"
#include "tests/support/server_process.h"
#include "tests/support/tcp_proxy.h"

namespace hindcast::test {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using std::chrono::milliseconds;

const std::string kServer = bin("hindcast-server");

Json webhook(const std::string& fingerprint) {
  return {{"version", "4"},
          {"status", "firing"},
          {"alerts",
           {{{"status", "firing"},
             {"labels", {{"alertname", "HighLatency"}}},
             {"annotations", {{"summary", "p99 above 1 s"}}},
             {"startsAt", "2026-11-26T10:45:01.337Z"},
             {"fingerprint", fingerprint}}}}};
}

Answer post(HttpClient& http, const std::string& fingerprint) {
  return http.post("/v1/webhooks/alertmanager", webhook(fingerprint).dump());
}

Answer committed(ServerProcess& server, const std::string& incident) {
  return server.http().get("/v1/incidents/" + incident + "?wait=committed&timeout_ms=60000");
}

TEST(ServerProgram, AnAlertBecomesABundle) {
  ServerProcess server(kServer);
  ASSERT_TRUE(server.start()) << server.log();
  FakeDaemon host(server.host("h"));
  ASSERT_TRUE(wait_for([&] { return server.connected("h"); }, 30)) << server.log();
  const auto first = post(server.http(), "f1"), again = post(server.http(), "f1");
  EXPECT_EQ(first.status, 202) << first.body;
  EXPECT_EQ(again.status, 200) << again.body;
  const std::string id = first.json.at("incident");
  EXPECT_EQ(again.json.at("incident"), id);
  const auto incident = committed(server, id);
  EXPECT_EQ(incident.json.at("hosts").at(0).at("state"), "committed") << incident.body << server.log();
  EXPECT_EQ(host.orders().size(), 1u);
  EXPECT_EQ(difference(server.bundles() + "/h/" + id + ".hcb", host.snapshot(id)), "");
  EXPECT_EQ(server.http().get("/v1/incidents").json.at("incidents").size(), 1u);
  EXPECT_EQ(server.terminate(), 0);
  const std::string log = server.log();
  for (const std::string& words :
       {std::string("host h connected"), id + ": ordered h to freeze: alert HighLatency: p99 above 1 s",
        id + ": host h is committed", std::string("stopped")})
    EXPECT_NE(log.find(words), std::string::npos) << words << "\n" << log;
}

TEST(ServerProgram, AnswersAreThoseOfTheLocalCommand) {
  if (!fs::exists(std::string(HC_BIN_DIR) + "/../lib/hindcast-sim.so") || ::access("/usr/bin/qemu-x86_64", X_OK) != 0)
    GTEST_SKIP() << "needs qemu-x86_64 and the plugin hindcast-sim.so, which sanitizer builds lack";
  Recording recording;
  recording.run("tsc,mtc", {}, {"/bin/true"});
  ASSERT_EQ(recording.record.code, 0) << recording.record.err;
  ServerProcess server(kServer);
  ASSERT_TRUE(server.start()) << server.log();
  const auto bytes = bytes_of_file(recording.bundle);
  const auto uploaded = server.http().put("/v1/bundles", std::string(bytes.begin(), bytes.end()));
  ASSERT_EQ(uploaded.status, 201) << uploaded.body;
  const std::string id = uploaded.json.at("incident"), host = uploaded.json.at("hosts").at(0).at("host");
  const std::string file = host + "/" + id + ".hcb";
  for (const std::vector<std::string>& command :
       std::vector<std::vector<std::string>>{{"ls"},
                                             {"ls", "--json", "--verbose"},
                                             {"show", "--stat"},
                                             {"show", "--insns", "--limit=50"},
                                             {"calls", "--json", "--depth=3"},
                                             {"dump", "--limit=20"},
                                             {"verify"},
                                             {"show", "--tid=1"},
                                             {"show", "--time=nonsense"}}) {
    std::string words = "cd " + server.bundles() + " && exec " + bin("hindcast") + " " + command[0] + " " + file;
    for (size_t i = 1; i < command.size(); ++i) words += " " + command[i];
    const Ran local = run_program({"/bin/sh", "-c", words}, {"COLUMNS=100", "NO_COLOR=1", "LC_ALL=C.UTF-8"});
    const auto remote = server.http().run({{"command", command[0]},
                                           {"incident", id},
                                           {"options", std::vector<std::string>(command.begin() + 1, command.end())}});
    EXPECT_EQ(remote.status, 200) << words << remote.body;
    EXPECT_EQ(remote.code, local.code) << words << remote.err;
    EXPECT_TRUE(remote.out == local.out) << words;
    EXPECT_EQ(remote.err, local.err) << words;
    EXPECT_FALSE(local.out.empty() && local.err.empty()) << words;
  }
}

/// What Alertmanager does: posts an alert until somebody says that it is taken.
void post_until_taken(const std::string& fingerprint, const std::function<std::string()>& url,
                      std::map<std::string, std::string>& taken) {
  wait_for(
      [&] {
        HttpClient http(url());
        const auto answer = post(http, fingerprint);
        if (answer.status != 202 && answer.status != 200) return false;
        taken[fingerprint] = answer.json.at("incident");
        return true;
      },
      120);
}

TEST(ServerProgram, KillsLoseNothingAndDoNothingTwice) {
  const int kills = long_run() ? 400 : 40;
  const char* seed_text = std::getenv("HINDCAST_SEED");
  const uint32_t seed = seed_text ? static_cast<uint32_t>(std::atoi(seed_text)) : 1;
  SCOPED_TRACE("HINDCAST_SEED=" + std::to_string(seed));
  std::mt19937 random(seed);
  ServerProcess server(kServer, {"h", "i"});
  ASSERT_TRUE(server.start()) << server.log();
  auto config = server.host("h");
  config.bytes_per_second = 4 << 20;  // so that many kills come while a snapshot is on its way
  FakeDaemon h(config), i(server.host("i"));
  ASSERT_TRUE(wait_for([&] { return server.connected("h") && server.connected("i"); }, 30)) << server.log();

  std::mutex mutex;  // guards url
  std::string url = server.url();
  std::atomic<bool> enough{false};
  std::map<std::string, std::string> taken;
  // Fewer than a host may have open orders (64), spread over all kills.
  constexpr int kAlerts = 60;
  std::thread poster([&] {
    for (int n = 0; n < kAlerts && !enough; ++n) {
      post_until_taken(
          "f" + std::to_string(n),
          [&] {
            std::lock_guard lock(mutex);
            return url;
          },
          taken);
      std::this_thread::sleep_for(milliseconds(75 * kills / kAlerts));
    }
  });
  for (int n = 0; n < kills; ++n) {
    std::this_thread::sleep_for(milliseconds(random() % 150));
    server.kill();
    if (!server.start()) break;
    std::lock_guard lock(mutex);
    url = server.url();
  }
  enough = true;
  poster.join();
  ASSERT_TRUE(server.running()) << server.log();
  EXPECT_TRUE(wait_for([&] { return server.connected("h") && server.connected("i"); }, 60))
      << h.sender().last_error().text() << "\n"
      << i.sender().last_error().text();

  // Every alert that was taken has one incident; every incident one bundle of each host, whole.
  ASSERT_FALSE(taken.empty());
  Json incidents = Json::array();
  for (std::string before;;) {
    const auto page = server.http().get("/v1/incidents?limit=50" + (before.empty() ? "" : "&before=" + before));
    ASSERT_EQ(page.status, 200) << page.body;
    const Json& some = page.json.at("incidents");
    if (some.empty()) break;
    for (const Json& one : some) incidents.push_back(one);
    before = some.back().at("incident");
  }
  EXPECT_EQ(incidents.size(), taken.size());
  std::map<std::string, std::string> of_alert;
  for (const Json& incident : incidents) {
    const std::string id = incident.at("incident");
    ASSERT_EQ(incident.at("alerts").size(), 1u) << incident;
    EXPECT_TRUE(of_alert.emplace(incident.at("alerts")[0].at("fingerprint"), id).second);
    const auto end = committed(server, id);
    ASSERT_EQ(end.json.at("hosts").size(), 2u);
    for (const Json& row : end.json.at("hosts")) {
      const std::string host = row.at("host");
      EXPECT_EQ(row.at("state"), "committed") << row << "\n" << server.log();
      EXPECT_EQ(difference(server.bundles() + "/" + host + "/" + id + ".hcb", (host == "h" ? h : i).snapshot(id)), "")
          << id << " " << host;
    }
  }
  EXPECT_EQ(of_alert, taken);
  for (const FakeDaemon* daemon : {&h, &i}) {
    std::set<std::string> frozen;
    for (const auto& order : daemon->orders()) EXPECT_TRUE(frozen.insert(order.incident).second) << order.incident;
    EXPECT_EQ(frozen.size(), incidents.size());
  }
  for (const char* host : {"h", "i"})
    for (const auto& file : fs::directory_iterator(server.bundles() + "/" + host))
      EXPECT_TRUE(file.path().string().ends_with(".hcb")) << file.path();
  EXPECT_EQ(server.terminate(), 0) << server.log();
  std::printf("%d kills, %zu incidents\n", kills, incidents.size());
}

TEST(ServerProgram, AStrangerIsRefusedCountedAndLetInOnceTheListNamesHim) {
  ServerProcess server(kServer, {"h", "late"});
  server.write_allow_list({"h"});
  ASSERT_TRUE(server.start()) << server.log();
  FakeDaemon stranger(server.host("late"));
  ASSERT_TRUE(wait_for([&] { return server.http().get("/v1/status").json.at("counters").at("refused_keys") > 0; }, 30));
  EXPECT_FALSE(server.connected("late"));
  server.write_allow_list({"h", "late"});
  server.signal(SIGHUP);
  EXPECT_TRUE(wait_for([&] { return server.connected("late"); }, 30)) << server.log();
}

TEST(ServerProgram, AFullStoreIsSaidToBeFull) {
  ServerProcess server(kServer, {"h"}, "limit = \"100 KiB\"\n");
  ASSERT_TRUE(server.start()) << server.log();
  FakeDaemon host(server.host("h"));
  ASSERT_TRUE(wait_for([&] { return server.connected("h"); }, 30));
  const auto made = server.http().post("/v1/snapshots", R"({"reason":"r","wait":"durable"})");
  const std::string path = "/v1/incidents/" + made.json.at("incident").get<std::string>();
  EXPECT_TRUE(wait_for(
      [&] {
        const std::string error = server.http().get(path).json.at("hosts").at(0).at("error");
        return error.find("the store is full (") != std::string::npos && error.find("of 102400") != std::string::npos;
      },
      30))
      << server.http().get(path).body;
  const auto upload = server.http().put("/v1/bundles", std::string(300000, 'x'));
  EXPECT_EQ(upload.status, 507) << upload.body;
  EXPECT_EQ(host.spool().waiting().size(), 1u);  // the host keeps it
}

TEST(ServerProgram, MisuseIsSaidAtTheStart) {
  EXPECT_EQ(run_program({kServer}).code, 2);
  EXPECT_EQ(run_program({kServer, "--config"}).code, 2);
  EXPECT_NE(run_program({kServer, "--help"}).out.find("--keygen"), std::string::npos);
  EXPECT_EQ(run_program({kServer, "--version"}).out.find("hindcast-server "), 0u);
  const Ran missing = run_program({kServer, "--config", "/no/such/file"});
  EXPECT_EQ(missing.code, 1);
  EXPECT_NE(missing.err.find("/no/such/file"), std::string::npos);
  TempFolder folder;
  std::ofstream(folder / "bad.toml") << "[keys]\nkey_file = 1\n[stor]\nfolder = \"x\"\n";
  const Ran bad = run_program({kServer, "--config", folder / "bad.toml"});
  EXPECT_EQ(bad.code, 1);
  for (const char* words : {"keys.key_file (line 2)", "keys.allow_file: missing", "store.folder: missing",
                            "stor.folder (line 4): there is no such setting"})
    EXPECT_NE(bad.err.find(words), std::string::npos) << words << "\n" << bad.err;
  const Ran keys = run_program({kServer, "--keygen", folder / "k"});
  EXPECT_EQ(keys.code, 0) << keys.err;
  EXPECT_EQ(keys.out.size(), 41u);
  EXPECT_NE(keys.err.find("HOST " + keys.out.substr(0, 40)), std::string::npos) << keys.err;
  EXPECT_TRUE(transport::read_secret_key_file(folder / "k.secret").ok());
  EXPECT_NE(run_program({kServer, "--keygen", folder / "k"}).code, 0);  // never overwritten
}

TEST(ServerProgram, TakesWhatARealAlertmanagerSends) {
  const std::string program = "/usr/bin/prometheus-alertmanager";
  if (::access(program.c_str(), X_OK) != 0) GTEST_SKIP() << "needs Debian's package prometheus-alertmanager";
  ServerProcess server(kServer);
  ASSERT_TRUE(server.start()) << server.log();
  FakeDaemon host(server.host("h"));
  ASSERT_TRUE(wait_for([&] { return server.connected("h"); }, 30));
  const std::string port = std::to_string(free_port());
  std::ofstream(server.folder() / "alertmanager.yml")
      << "route:\n  receiver: hindcast\n  group_wait: 0s\n  group_interval: 1s\n  repeat_interval: 1s\n"
         "receivers:\n  - name: hindcast\n    webhook_configs:\n      - url: "
      << server.url() << "/v1/webhooks/alertmanager\n";
  Background alertmanager({program, "--config.file=" + (server.folder() / "alertmanager.yml"),
                           "--storage.path=" + (server.folder() / "am"), "--web.listen-address=127.0.0.1:" + port,
                           "--cluster.listen-address="});
  HttpClient http("http://127.0.0.1:" + port);
  ASSERT_TRUE(wait_for([&] { return http.get("/-/ready").status == 200; }, 60));
  const auto posted = http.post("/api/v2/alerts", R"([{"labels":{"alertname":"HighLatency","job":"shop"},)"
                                                  R"("annotations":{"summary":"p99 above 1 s"}}])");
  ASSERT_EQ(posted.status, 200) << posted.body;
  const auto counters = [&] { return server.http().get("/v1/status").json.at("counters"); };
  // Posted again and again, as repeat_interval says, and always one incident.
  ASSERT_TRUE(wait_for([&] { return counters().at("webhooks") >= 2; }, 60)) << server.log();
  EXPECT_EQ(counters().at("webhooks_refused"), 0) << server.log();
  const Json incidents = server.http().get("/v1/incidents").json.at("incidents");
  ASSERT_EQ(incidents.size(), 1u);
  EXPECT_EQ(incidents[0].at("reason"), "alert HighLatency: p99 above 1 s");
  EXPECT_EQ(incidents[0].at("alerts")[0].at("labels"), Json({{"alertname", "HighLatency"}, {"job", "shop"}}));
  EXPECT_EQ(committed(server, incidents[0].at("incident")).json.at("hosts")[0].at("state"), "committed");
}

}  // namespace
}  // namespace hindcast::test
