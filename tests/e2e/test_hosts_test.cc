// Two hosts inside of this machine, each with its daemon and its shop, and a server on a third: one incident, and each snapshot
// tells what is so inside of its host.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <map>

#include "tests/e2e/recording.h"
#include "tests/support/daemon_process.h"
#include "tests/support/server_process.h"
#include "tests/support/test_host.h"

namespace hindcast::test {
namespace {

using Json = nlohmann::json;

constexpr int64_t kSecond = 1000000000;

int64_t wall_now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

TEST(TestHostsShip, OneIncidentOfTwoHostsWithNamesCgroupsAndClocksOfTheirOwn) {
  HC_REQUIRE_PLUGIN();
  TestNetwork network;
  TestHost analysis(network, "ana");
  TestHost web(network, "web-1", {-3600 * kSecond, 0, 0}), db(network, "db-1", {90 * kSecond, 50, 0});
  for (const TestHost* h : {&analysis, &web, &db})
    if (!h->missing().empty()) GTEST_SKIP() << h->missing();

  ServerProcess server(bin("hindcast-server"), {"web-1", "db-1"}, {}, analysis.place(), analysis.address());
  ASSERT_TRUE(server.start()) << server.log();
  const std::vector<std::string> shop{test_program("shop"), "120"};
  const std::string trace = "ring = \"4 MiB\"\n";
  DaemonProcess on_web(bin("hindcastd"), server.host("web-1"), shop, trace, web.place("shop.service"));
  DaemonProcess on_db(bin("hindcastd"), server.host("db-1"), shop, trace, db.place("db.service"));
  ASSERT_TRUE(on_web.start()) << on_web.log();
  ASSERT_TRUE(on_db.start()) << on_db.log();
  const auto ask = [&](std::vector<std::string> words) {
    words.insert(words.begin(), bin("hindcast"));
    words.insert(words.end(), {"--server", server.url()});
    return analysis.run(words);
  };
  const auto connected = [&] {
    const Ran status = ask({"status", "--json"});
    size_t n = 0;
    for (const Json& o : status.objects()) n += o.at("type") == "host" && o.at("connected") == true;
    return n;
  };
  ASSERT_TRUE(wait_for([&] { return connected() == 2; }, 60)) << server.log() << on_web.log() << on_db.log();
  const int64_t before = wall_now();
  const Ran snapshot = ask({"snapshot", "--json", "--wait", "committed", "--timeout", "90"});
  ASSERT_EQ(snapshot.code, 0) << snapshot.err << on_web.log() << on_db.log();
  const int64_t after = wall_now();

  std::map<std::string, std::string> nets;
  for (const auto& [host, name, unit] :
       {std::tuple(&web, "web-1", "/shop.service"), std::tuple(&db, "db-1", "/db.service")}) {
    SCOPED_TRACE(name);
    const Ran ls = ask({"ls", "--json", std::string("latest/") + name, "--cgroup", unit});
    ASSERT_EQ(ls.code, 0) << ls.err;
    size_t threads = 0;
    for (const Json& o : ls.objects()) {
      if (o.at("type") == "snapshot") {
        EXPECT_EQ(o.at("host"), name);
        // The daemon's wall clock is the host's.
        const auto taken = o.at("created_unix_ns").get<int64_t>();
        EXPECT_GE(taken, host->wall_ns(before));
        EXPECT_LE(taken, host->wall_ns(after));
      }
      if (o.at("type") != "thread" || o.at("pt_bytes") == 0) continue;
      ++threads;
      // Process ids are those inside: the first processes of a host have small ones.
      EXPECT_LT(o.at("pid").get<int>(), 200);
      ASSERT_FALSE(o.at("cgroups").empty());
      EXPECT_EQ(o.at("cgroups").back().at("any_of").at(0).at("path"), unit);
      ASSERT_FALSE(o.at("namespaces").empty());
      nets[name] = o.at("namespaces").back().at("net").dump();
    }
    EXPECT_GE(threads, 1u);  // the shop opens one after the other
    // Nobody of another host is in it.
    const Ran foreign = ask({"ls", std::string("latest/") + name, "--cgroup",
                             name == std::string("web-1") ? "/db.service" : "/shop.service"});
    EXPECT_EQ(foreign.code, 1);
    EXPECT_THAT(foreign.err, ::testing::HasSubstr("cgroups "));
  }
  EXPECT_NE(nets.at("web-1"), nets.at("db-1"));
  EXPECT_EQ(on_web.terminate(), 0) << on_web.log();
  EXPECT_EQ(on_db.terminate(), 0) << on_db.log();
}

}  // namespace
}  // namespace hindcast::test
