// kill -9 of the real hindcastd and the real hindcast-server at each step of freeze, spool, ship and commit.
//
// HINDCAST_LONG=1: each step 25 times instead of 2. HINDCAST_SEED=N: other moments within the steps.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <thread>

#include "tests/e2e/recording.h"
#include "tests/support/daemon_process.h"
#include "tests/support/server_process.h"
#include "transport/bundle_reader.h"

namespace hindcast::test {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using std::chrono::milliseconds;

enum class Victim { daemon, server };

/// A step is under way from when `begun` is seen until the next one's.
struct Step {
  const char* name;
  Victim victim;
  const char* begun;  // a file whose name ends so is there: "spool:END" or "store:END"; empty: the order was accepted
  int delay_ms;       // killed up to so long after it was seen
};
constexpr Step kSteps[] = {
    {"daemon, ordered or freezing", Victim::daemon, "", 80},
    {"daemon, writing into the spool", Victim::daemon, "spool:.hcb.partial", 60},
    {"daemon, durable", Victim::daemon, "spool:.hcb", 5},
    {"daemon, shipping", Victim::daemon, "store:.hcb.partial", 300},
    {"daemon, committed at the server", Victim::daemon, "store:.hcb", 5},
    {"daemon, told of the commit", Victim::daemon, "spool:.committed", 5},
    {"server, order accepted", Victim::server, "", 80},
    {"server, host is writing", Victim::server, "spool:.hcb.partial", 60},
    {"server, host is durable", Victim::server, "spool:.hcb", 5},
    {"server, receiving", Victim::server, "store:.hcb.partial", 300},
    {"server, committed", Victim::server, "store:.hcb", 5},
};

class DaemonCampaign : public ::testing::Test {
 protected:
  void SetUp() override {
    if (plugin_path().empty()) GTEST_SKIP() << kNoPluginText;
    const char* seed = std::getenv("HINDCAST_SEED");
    seed_ = seed ? static_cast<uint32_t>(std::atoi(seed)) : 1;
    random_.seed(seed_);
    ASSERT_TRUE(server_.start()) << server_.log();
    auto host = server_.host("h");
    host.bytes_per_second = 4 << 20;  // so that shipping is a step in which one can be killed
    daemon_.emplace(bin("hindcastd"), host, std::vector<std::string>{test_program("shop"), "3600"},
                    "ring = \"4 MiB\"\n");
    ASSERT_TRUE(daemon_->start()) << daemon_->log();
    ASSERT_TRUE(connected());
  }
  bool connected() {
    return wait_for([&] { return server_.connected(); }, 60);
  }
  bool seen(const Step& step, const std::string& incident) const {
    const std::string where = step.begun;
    if (where.empty()) return true;
    const std::string end = where.substr(6);
    return fs::exists((where.starts_with("spool:") ? daemon_->spool() : server_.bundles() + "/h") + "/" + incident +
                      end);
  }
  /// Empty: not accepted.
  std::string order(const std::string& reason) {
    const auto answer = server_.http().post("/v1/snapshots", Json{{"reason", reason}, {"timeout_ms", 1}}.dump());
    return answer.status == 200 ? answer.json.at("incident").get<std::string>() : std::string();
  }

  uint32_t seed_ = 1;
  std::mt19937 random_;
  ServerProcess server_{bin("hindcast-server")};
  std::optional<DaemonProcess> daemon_;
};

TEST_F(DaemonCampaign, AKillAtAnyStepLosesNothingDurableAndDoesNothingTwice) {
  SCOPED_TRACE("HINDCAST_SEED=" + std::to_string(seed_));
  const int rounds = long_run() ? 25 : 2;
  std::set<std::string> incidents;
  std::map<std::string, int> hit;
  for (int round = 0; round < rounds; ++round) {
    for (const Step& step : kSteps) {
      SCOPED_TRACE(std::string(step.name) + ", round " + std::to_string(round));
      std::this_thread::sleep_for(milliseconds(random_() % 200));  // so that windows differ
      const std::string id = order(step.name);
      ASSERT_FALSE(id.empty()) << server_.log();
      EXPECT_TRUE(incidents.insert(id).second);
      ASSERT_TRUE(wait_for([&] { return seen(step, id); }, 60)) << daemon_->log() << server_.log();
      std::this_thread::sleep_for(milliseconds(random_() % (step.delay_ms + 1)));
      const bool was_durable = fs::exists(daemon_->spool() + "/" + id + ".hcb");
      const auto kept = was_durable ? bytes_of_file(daemon_->spool() + "/" + id + ".hcb") : std::vector<uint8_t>();
      if (step.victim == Victim::daemon) {
        daemon_->kill();
        ASSERT_TRUE(daemon_->start()) << daemon_->log();
      } else {
        server_.kill();
        ASSERT_TRUE(server_.start()) << server_.log();
      }
      ++hit[step.name];
      ASSERT_TRUE(connected()) << daemon_->log() << server_.log();
      const auto end = server_.http().get("/v1/incidents/" + id + "?wait=committed&timeout_ms=120000");
      ASSERT_EQ(end.json.at("hosts").at(0).at("state"), "committed") << end.body << daemon_->log() << server_.log();
      const std::string bundle = server_.bundles() + "/h/" + id + ".hcb";
      auto reader = transport::BundleReader::open(bundle);
      ASSERT_TRUE(reader.ok()) << reader.error().text();
      EXPECT_TRUE(reader->scrub().empty());
      EXPECT_EQ(reader->snapshot(0).incident, id);
      // What was durable is what arrived: it was not frozen again.
      if (!kept.empty()) {
        TempFolder folder;
        std::ofstream(folder / "kept.hcb", std::ios::binary)
            .write(reinterpret_cast<const char*>(kept.data()), static_cast<std::streamsize>(kept.size()));
        const auto before = transport::BundleReader::open(folder / "kept.hcb");
        ASSERT_TRUE(before.ok());
        EXPECT_EQ(before->snapshot(0).created_unix_ns, reader->snapshot(0).created_unix_ns);
        EXPECT_EQ(before->snapshot(0).traced, reader->snapshot(0).traced);
      }
    }
  }
  // One bundle for each order, and nothing half done on either side.
  std::set<std::string> files;
  for (const auto& f : fs::directory_iterator(server_.bundles() + "/h")) files.insert(f.path().filename().string());
  std::set<std::string> expected;
  for (const std::string& id : incidents) expected.insert(id + ".hcb");
  EXPECT_EQ(files, expected);
  for (const auto& f : fs::directory_iterator(daemon_->spool()))
    EXPECT_FALSE(f.path().string().ends_with(".partial")) << f.path();
  const Json listed = server_.http().get("/v1/incidents?limit=1000").json.at("incidents");
  EXPECT_EQ(listed.size(), incidents.size());
  // They decode, and say what the program did while it was alive.
  for (const std::string& id : incidents) {
    const Ran verify = run_program({bin("hindcast"), "verify", server_.bundles() + "/h/" + id + ".hcb"});
    EXPECT_EQ(verify.code, 0) << id << verify.out << verify.err;
  }
  EXPECT_EQ(daemon_->terminate(), 0) << daemon_->log();
  EXPECT_EQ(server_.terminate(), 0) << server_.log();
  for (const Step& step : kSteps) std::printf("%3d kills: %s\n", hit[step.name], step.name);
}

}  // namespace
}  // namespace hindcast::test
