// The real hindcastd with the real hindcast-server: a window over a program that runs on, frozen as often as asked.
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "tests/e2e/recording.h"
#include "tests/support/daemon_process.h"
#include "tests/support/server_process.h"

namespace hindcast::test {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

const std::string kDaemon = bin("hindcastd"), kServer = bin("hindcast-server");

std::vector<std::string> shop(int seconds) { return {test_program("shop"), std::to_string(seconds)}; }

Json snapshot(ServerProcess& server, const std::string& reason, const std::string& wait) {
  const auto answer =
      server.http().post("/v1/snapshots", Json{{"reason", reason}, {"wait", wait}, {"timeout_ms", 60000}}.dump());
  return answer.status == 200 ? answer.json : Json{{"incident", ""}, {"hosts", Json::array()}, {"failed", answer.body}};
}

std::vector<fs::path> files_in(const std::string& folder, const std::string& end) {
  std::vector<fs::path> found;
  if (fs::exists(folder))
    for (const auto& f : fs::directory_iterator(folder))
      if (f.path().string().ends_with(end)) found.push_back(f.path());
  return found;
}

/// The flow of every thread equals what was really executed up to the freeze. At least so many instructions.
void expect_true(const std::string& bundle, const std::string& truth, uint64_t instructions) {
  const Ran verify = run_program({bin("hindcast"), "verify", "--json", bundle, "--truth", truth});
  EXPECT_EQ(verify.code, 0) << verify.out << verify.err;
  uint64_t equal = 0, threads = 0;
  for (const Json& o : verify.objects()) {
    if (o.at("type") != "thread") continue;
    EXPECT_EQ(o.at("equal"), true) << o;
    equal += o.at("decoded").get<uint64_t>();
    ++threads;
  }
  EXPECT_GE(equal, instructions);
  EXPECT_GE(threads, 7u);
}

TEST(Daemon, FreezesAWindowThatGoesOnAsOftenAsAsked) {
  HC_REQUIRE_PLUGIN();
  ServerProcess server(kServer);
  ASSERT_TRUE(server.start()) << server.log();
  DaemonProcess daemon(kDaemon, server.host("h"), shop(120), "ring = \"8 MiB\"\n");
  ASSERT_TRUE(daemon.start()) << daemon.log();
  ASSERT_TRUE(wait_for([&] { return server.connected(); }, 30)) << server.log() << daemon.log();
  std::vector<std::string> bundles;
  uint64_t latest = 0;
  for (const char* reason : {"first", "second", "third"}) {
    std::this_thread::sleep_for(std::chrono::seconds(1));  // so that there is something new to find
    const Json incident = snapshot(server, reason, "committed");
    ASSERT_EQ(incident.at("hosts").size(), 1u) << incident << daemon.log();
    EXPECT_EQ(incident.at("hosts")[0].at("state"), "committed") << incident << daemon.log();
    EXPECT_GE(incident.at("hosts")[0].at("durable_unix_ns"), incident.at("hosts")[0].at("frozen_unix_ns"));
    bundles.push_back(server.bundles() + "/h/" + incident.at("incident").get<std::string>() + ".hcb");
    const Ran ls = run_program({bin("hindcast"), "ls", "--json", bundles.back()});
    ASSERT_EQ(ls.code, 0) << ls.err;
    for (const Json& o : ls.objects()) {
      if (o.at("type") != "snapshot") continue;
      EXPECT_NE(o.dump().find("frozen because: " + std::string(reason)), std::string::npos) << o;
      EXPECT_GT(o.at("traced_tsc").at(1).get<uint64_t>(), latest);
      latest = o.at("traced_tsc").at(1).get<uint64_t>();
    }
  }
  EXPECT_EQ(daemon.terminate(), 0) << daemon.log();
  for (const std::string& bundle : bundles) expect_true(bundle, daemon.truth(), 50'000);
  EXPECT_EQ(files_in(daemon.spool(), ".partial").size(), 0u);
}

TEST(Daemon, WhatIsDurableSurvivesBothAndShipsOnce) {
  HC_REQUIRE_PLUGIN();
  ServerProcess server(kServer);
  ASSERT_TRUE(server.start()) << server.log();
  auto host = server.host("h");
  host.bytes_per_second = 256 << 10;  // so slowly that the kill comes long before it is shipped
  const std::string where = server.folder() / "kept.hcb";
  {
    DaemonProcess daemon(kDaemon, host, shop(120));
    ASSERT_TRUE(daemon.start()) << daemon.log();
    ASSERT_TRUE(wait_for([&] { return server.connected(); }, 30)) << daemon.log();
    const Json incident = snapshot(server, "before the crash", "durable");
    ASSERT_EQ(incident.at("hosts").size(), 1u) << incident;
    ASSERT_EQ(incident.at("hosts")[0].at("state"), "durable") << incident << daemon.log();
    daemon.kill();
    server.kill();
    const auto kept = files_in(daemon.spool(), ".hcb");
    ASSERT_EQ(kept.size(), 1u);
    fs::copy_file(kept[0], where);
    ASSERT_TRUE(server.start()) << server.log();
    const std::string id = incident.at("incident");
    ASSERT_TRUE(daemon.start()) << daemon.log();
    const auto after = server.http().get("/v1/incidents/" + id + "?wait=committed&timeout_ms=120000");
    EXPECT_EQ(after.json.at("hosts")[0].at("state"), "committed") << after.body << daemon.log();
    EXPECT_EQ(server.http().get("/v1/incidents").json.at("incidents").size(), 1u);
    EXPECT_EQ(files_in(server.bundles() + "/h", "").size(), 1u);
    EXPECT_EQ(daemon.terminate(), 0) << daemon.log();
    // Shipping puts the same chunks together again: every stream and image is what the host had.
    const Ran a = run_program({bin("hindcast"), "ls", "--json", "-v", where});
    const Ran b = run_program({bin("hindcast"), "ls", "--json", "-v", server.bundles() + "/h/" + id + ".hcb"});
    EXPECT_EQ(a.out.substr(a.out.find('\n')), b.out.substr(b.out.find('\n')));  // but for the file's name
    EXPECT_EQ(run_program({bin("hindcast"), "verify", server.bundles() + "/h/" + id + ".hcb"}).code, 0);
  }
}

TEST(Daemon, AskedToStopItFinishesWhatIsFrozen) {
  HC_REQUIRE_PLUGIN();
  ServerProcess server(kServer);
  ASSERT_TRUE(server.start()) << server.log();
  DaemonProcess daemon(kDaemon, server.host("h"), shop(120));
  ASSERT_TRUE(daemon.start()) << daemon.log();
  ASSERT_TRUE(wait_for([&] { return server.connected(); }, 30)) << daemon.log();
  std::this_thread::sleep_for(std::chrono::seconds(1));  // so that there is something to lose
  const Json incident = snapshot(server, "the last", "frozen");
  ASSERT_EQ(incident.at("hosts").size(), 1u) << incident;
  EXPECT_EQ(daemon.terminate(), 0) << daemon.log();
  const std::string id = incident.at("incident");
  EXPECT_TRUE(fs::exists(daemon.spool() + "/" + id + ".hcb")) << daemon.log();
  expect_true(daemon.spool() + "/" + id + ".hcb", daemon.truth(), 100'000);
}

TEST(Daemon, ACommandThatEndedIsFrozenAsItEnded) {
  HC_REQUIRE_PLUGIN();
  ServerProcess server(kServer);
  ASSERT_TRUE(server.start()) << server.log();
  DaemonProcess daemon(kDaemon, server.host("h"), shop(1));
  ASSERT_TRUE(daemon.start()) << daemon.log();
  ASSERT_TRUE(wait_for([&] { return daemon.log().find("the command exited") != std::string::npos; }, 60))
      << daemon.log();
  ASSERT_TRUE(wait_for([&] { return server.connected(); }, 30)) << daemon.log();
  EXPECT_TRUE(wait_for(
      [&] { return server.http().get("/v1/status").body.find("the command has ended") != std::string::npos; }, 30));
  const Json incident = snapshot(server, "too late?", "committed");
  ASSERT_EQ(incident.at("hosts").size(), 1u) << incident;
  ASSERT_EQ(incident.at("hosts")[0].at("state"), "committed") << incident << daemon.log();
  const std::string bundle = server.bundles() + "/h/" + incident.at("incident").get<std::string>() + ".hcb";
  EXPECT_EQ(daemon.terminate(), 0) << daemon.log();
  expect_true(bundle, daemon.truth(), 100'000);
  EXPECT_NE(run_program({bin("hindcast"), "ls", bundle}).out.find("the command exited with status 0"),
            std::string::npos);
}

/// A small disk at `folder`, seen by this process and its children alone. False: not permitted.
bool mount_disk(const std::string& folder, const char* size) {
  fs::create_directories(folder);
  return ::unshare(CLONE_NEWNS) == 0 && ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
         ::mount("none", folder.c_str(), "tmpfs", MS_NOSUID, (std::string("size=") + size).c_str()) == 0;
}
bool grow_disk(const std::string& folder, const char* size) {
  return ::mount("none", folder.c_str(), "tmpfs", MS_NOSUID | MS_REMOUNT, (std::string("size=") + size).c_str()) == 0;
}

TEST(Daemon, AFullDiskAtTheServerLeavesItOnTheHostUntilThereIsRoom) {
  HC_REQUIRE_PLUGIN();
  ServerProcess server(kServer);
  const std::string store = server.folder() / "store";
  if (!mount_disk(store, "1m")) GTEST_SKIP() << "mounting a small disk is not permitted";
  ASSERT_TRUE(server.start()) << server.log();
  DaemonProcess daemon(kDaemon, server.host("h"), shop(120));
  ASSERT_TRUE(daemon.start()) << daemon.log();
  ASSERT_TRUE(wait_for([&] { return server.connected(); }, 30)) << daemon.log();
  std::this_thread::sleep_for(std::chrono::seconds(1));  // so that it is larger than the disk
  const std::string id = snapshot(server, "full", "durable").at("incident");
  const auto row = [&] { return server.http().get("/v1/incidents/" + id).json.at("hosts").at(0); };
  // The catalog is on that disk, too: what it cannot show yet is in the log, and counted.
  EXPECT_TRUE(wait_for([&] { return server.log().find("No space left") != std::string::npos; }, 60)) << server.log();
  EXPECT_NE(row().at("state"), "committed");
  EXPECT_GT(server.http().get("/v1/status").json.at("counters").at("failed_snapshots"), 0);
  EXPECT_TRUE(fs::exists(daemon.spool() + "/" + id + ".hcb"));
  ASSERT_TRUE(grow_disk(store, "256m"));
  EXPECT_TRUE(wait_for([&] { return row().at("state") == "committed"; }, 120)) << row() << server.log();
  EXPECT_EQ(run_program({bin("hindcast"), "verify", server.bundles() + "/h/" + id + ".hcb"}).code, 0);
  EXPECT_EQ(daemon.terminate(), 0) << daemon.log();
  server.kill();
  ::umount2(store.c_str(), MNT_DETACH);
}

TEST(Daemon, AFullDiskOnTheHostFailsTheFreezeAndTheWindowGoesOn) {
  HC_REQUIRE_PLUGIN();
  ServerProcess server(kServer);
  ASSERT_TRUE(server.start()) << server.log();
  DaemonProcess daemon(kDaemon, server.host("h"), shop(120));
  if (!mount_disk(daemon.spool(), "512k")) GTEST_SKIP() << "mounting a small disk is not permitted";
  ASSERT_TRUE(daemon.start()) << daemon.log();
  ASSERT_TRUE(wait_for([&] { return server.connected(); }, 30)) << daemon.log();
  std::this_thread::sleep_for(std::chrono::seconds(1));  // so that it is larger than the disk
  const Json failed = snapshot(server, "full", "durable").at("hosts").at(0);
  EXPECT_EQ(failed.at("state"), "failed") << failed << daemon.log();
  EXPECT_NE(failed.dump().find("No space left"), std::string::npos) << failed;
  EXPECT_EQ(files_in(daemon.spool(), ".partial").size(), 0u);
  ASSERT_TRUE(grow_disk(daemon.spool(), "256m"));
  const Json incident = snapshot(server, "room", "committed");
  EXPECT_EQ(incident.at("hosts").at(0).at("state"), "committed") << incident << daemon.log();
  EXPECT_EQ(daemon.terminate(), 0) << daemon.log();
  ::umount2(daemon.spool().c_str(), MNT_DETACH);
}

TEST(Daemon, WhatIsWrongWithItsSettingsIsSaidAtTheStart) {
  TempFolder folder;
  const auto run = [&](const std::string& text, const std::vector<std::string>& command) {
    std::ofstream(folder / "d.toml") << text;
    std::vector<std::string> argv{kDaemon, "--config", folder / "d.toml", "--"};
    argv.insert(argv.end(), command.begin(), command.end());
    return run_program(argv);
  };
  const Ran bad =
      run("host = \"h\"\n[server]\nendpoint = \"ipc:///x\"\n[trace]\nring = \"5 MiB\"\nrings = 1\n", {"/bin/true"});
  EXPECT_EQ(bad.code, 1);
  for (const char* words : {"server.endpoint", "trace.ring", "trace.rings", "server.key_file", "spool.folder"})
    EXPECT_NE(bad.err.find(words), std::string::npos) << words << "\n" << bad.err;
  const std::string good =
      "host = \"h\"\n[server]\nendpoint = \"tcp://127.0.0.1:1\"\npublic_key_file = \"s\"\nkey_file = \"k\"\n"
      "[spool]\nfolder = \"spool\"\n";
  const Ran no_keys = run(good, {"/bin/true"});
  EXPECT_EQ(no_keys.code, 1);
  EXPECT_NE(no_keys.err.find(folder / "k"), std::string::npos) << no_keys.err;
  EXPECT_EQ(run_program({kDaemon, "--config", folder / "none.toml", "--", "/bin/true"}).code, 1);
}

}  // namespace
}  // namespace hindcast::test
