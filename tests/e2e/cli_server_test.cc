// The command line with --server: the answers are those of the same command on the bundle here.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "tests/e2e/recording.h"
#include "tests/support/server_process.h"
#include "tests/support/tcp_proxy.h"

namespace hindcast::test {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

const std::string kHindcast = bin("hindcast"), kServer = bin("hindcast-server");

/// A server with one small bundle, recorded here.
class CliServer : public ::testing::Test {
 protected:
  void SetUp() override {
    if (plugin_path().empty()) GTEST_SKIP() << kNoPluginText;
    recording_.run("tsc,mtc", {}, {"/bin/true"});
    ASSERT_EQ(recording_.record.code, 0) << recording_.record.err;
    ASSERT_TRUE(server_.start()) << server_.log();
    const Ran sent = hindcast({"upload", recording_.bundle, "--reason", "a test"});
    ASSERT_EQ(sent.code, 0) << sent.err;
    ASSERT_EQ(sent.lines().size(), 1u);
    id_ = sent.lines()[0];
  }
  /// With --server behind it.
  Ran hindcast(std::vector<std::string> words, const std::vector<std::string>& env = {}) {
    words.insert(words.begin(), kHindcast);
    words.insert(words.begin() + 2, {"--server", server_.url()});
    return run_program(words, env);
  }
  std::string tid() {
    for (const Json& o : run_program({kHindcast, "ls", "--json", recording_.bundle}).objects())
      if (o.at("type") == "thread" && o.at("pt_bytes") > 0) return std::to_string(o.at("tid").get<int>());
    return {};
  }

  Recording recording_;
  ServerProcess server_{kServer, {"h", "i"}};
  std::string id_;
};

TEST_F(CliServer, EveryReadingCommandAnswersAsItDoesHere) {
  const std::string t = tid();
  ASSERT_FALSE(t.empty());
  for (const std::vector<std::string>& words :
       std::vector<std::vector<std::string>>{{"ls", "--json", "-v"},
                                             {"show"},
                                             {"show", "-t", t, "--insns", "--limit", "50"},
                                             {"show", "-t", t, "--stat"},
                                             {"show", "-t", t, "--json", "--time", "0,5ms"},
                                             {"show", "-t", "99999999"},
                                             {"show", "--blocks", "--insns"},
                                             {"calls", "-t", t, "--depth", "3"},
                                             {"calls", "--json", "-t", t},
                                             {"dump", "--limit", "20"},
                                             {"dump", "--sideband", "--json"},
                                             {"verify"},
                                             {"verify", "--json"}}) {
    std::vector<std::string> here{kHindcast};
    here.insert(here.end(), words.begin(), words.end());
    here.insert(here.begin() + 2, recording_.bundle);
    std::vector<std::string> there = words;
    there.insert(there.begin() + 1, id_);
    const Ran a = run_program(here, {"NO_COLOR=1"}), b = hindcast(there, {"NO_COLOR=1"});
    EXPECT_EQ(a.code, b.code) << words[0] << " " << words.back() << "\n" << b.err;
    // `ls` says the file's name, which is another one there.
    const auto without_name = [&](const std::string& s) { return words[0] == "ls" ? s.substr(s.find('\n')) : s; };
    EXPECT_TRUE(without_name(a.out) == without_name(b.out)) << words[0] << " " << words.back() << "\n" << b.out;
    EXPECT_EQ(a.err.empty(), b.err.empty()) << a.err << b.err;
    EXPECT_FALSE(b.out.empty() && b.err.empty());
  }
}

TEST_F(CliServer, IncidentsAreListedNewestFirstAndLatestIsOne) {
  const Ran ls = hindcast({"ls", "--json"});
  ASSERT_EQ(ls.code, 0) << ls.err;
  ASSERT_EQ(ls.objects().size(), 1u);
  EXPECT_EQ(ls.objects()[0].at("incident"), id_);
  EXPECT_EQ(ls.objects()[0].at("reason"), "a test");
  EXPECT_NE(hindcast({"ls"}).out.find(id_), std::string::npos);
  EXPECT_EQ(hindcast({"show", "latest", "--stat"}).out, hindcast({"show", id_, "--stat"}).out);
  const Ran status = hindcast({"status"});
  EXPECT_EQ(status.code, 0) << status.err;
  EXPECT_NE(status.out.find(id_), std::string::npos) << status.out;
  const auto objects = hindcast({"status", "--json"}).objects();
  ASSERT_EQ(objects.size(), 4u);  // server, two hosts, one incident
  EXPECT_EQ(objects[0].at("type"), "server");
  EXPECT_EQ(objects[3].at("incident"), id_);
}

TEST_F(CliServer, ABundleComesBackAsItWas) {
  TempFolder folder;
  const Ran fetched = hindcast({"fetch", "latest", "-o", folder / "x.hcb"});
  EXPECT_EQ(fetched.code, 0) << fetched.err;
  EXPECT_TRUE(bytes_of_file(folder / "x.hcb") == bytes_of_file(recording_.bundle));
  EXPECT_EQ(hindcast({"upload", folder / "x.hcb"}).lines(), std::vector<std::string>{id_});  // it has it already
  EXPECT_EQ(hindcast({"ls", "--json"}).objects().size(), 1u);
  const Ran exported = hindcast({"export", id_, "-o", folder / "out.perf"});
  EXPECT_EQ(exported.code, 0) << exported.err;
  EXPECT_TRUE(fs::exists(folder / "out.perf/perf.data"));
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator()), 2);
}

TEST_F(CliServer, WhatIsRecordedOrImportedIsSentAndStays) {
  TempFolder folder;
  const Ran recorded = run_program({kHindcast, "record", "--server", server_.url(), "--source", "simulated", "-o",
                                    folder / "r.hcb", "--", "/bin/sh", "-c", "exit 7"});
  EXPECT_EQ(recorded.code, 7) << recorded.err;  // the program's
  EXPECT_TRUE(fs::exists(folder / "r.hcb"));
  const auto newest = hindcast({"ls", "--json"}).objects().at(0);
  EXPECT_EQ(newest.at("reason"), "record /bin/sh");
  EXPECT_NE(recorded.err.find("kept as incident " + newest.at("incident").get<std::string>()), std::string::npos)
      << recorded.err;
  ASSERT_EQ(hindcast({"export", id_, "-o", folder / "out.perf"}).code, 0);
  const Ran imported = hindcast({"import", folder / "out.perf/perf.data", "-o", folder / "i.hcb"});
  EXPECT_EQ(imported.code, 0) << imported.err;
  EXPECT_EQ(hindcast({"ls", "--json"}).objects().size(), 3u);
}

TEST_F(CliServer, SnapshotFreezesAndSaysHowFarEachHostCame) {
  FakeDaemon h(server_.host("h"));
  ASSERT_TRUE(wait_for([&] { return hindcast({"status"}).out.find("armed") != std::string::npos; }, 30));
  EXPECT_EQ(hindcast({"doctor"}).code, 1);  // i is not there
  const Ran one = hindcast({"snapshot", "--reason", "why not", "--host", "h", "--wait", "committed"});
  EXPECT_EQ(one.code, 0) << one.err;
  ASSERT_EQ(one.lines().size(), 1u);
  EXPECT_NE(one.err.find("h  committed"), std::string::npos) << one.err;
  EXPECT_EQ(h.orders().size(), 1u);
  EXPECT_EQ(h.orders()[0].incident, one.lines()[0]);
  EXPECT_EQ(hindcast({"verify", one.lines()[0]}).code, hindcast({"verify", one.lines()[0] + "/h"}).code);
  FakeDaemon i(server_.host("i"));
  ASSERT_TRUE(wait_for([&] { return hindcast({"doctor"}).code == 0; }, 30)) << hindcast({"doctor"}).out;
  const Ran two = hindcast({"snapshot", "--wait", "committed"});
  EXPECT_EQ(two.code, 0) << two.err;
  // Which host is meant is not guessed.
  TempFolder folder;
  const Ran both = hindcast({"fetch", two.lines().at(0), "-o", folder / "x.hcb"});
  EXPECT_EQ(both.code, 2);
  EXPECT_NE(both.err.find("/HOST"), std::string::npos) << both.err;
  EXPECT_EQ(hindcast({"fetch", two.lines().at(0) + "/i", "-o", folder / "x.hcb"}).code, 0);
}

TEST_F(CliServer, WhatGoesWrongIsSaid) {
  const auto says = [](const Ran& ran, int code, const std::vector<std::string>& words) {
    EXPECT_EQ(ran.code, code) << ran.err;
    for (const std::string& w : words) EXPECT_NE(ran.err.find(w), std::string::npos) << w << "\n" << ran.err;
    EXPECT_EQ(ran.out, "");
  };
  const std::string nobody = "http://127.0.0.1:" + std::to_string(free_port());
  says(run_program({kHindcast, "ls", "--server", nobody}), 1, {"nothing listens at " + nobody, "fix"});
  says(run_program({kHindcast, "record", "--server", nobody, "--", "/bin/true"}), 1, {"nothing listens"});
  says(run_program({kHindcast, "ls", "--server", "https://x"}), 2, {"plain HTTP"});
  says(run_program({kHindcast, "ls", "--server", "127.0.0.1:7412"}), 2, {"http://127.0.0.1:7412"});
  says(hindcast({"show", "nope"}), 1, {"nope", "hindcast ls --server " + server_.url()});
  says(hindcast({"fetch", "nope"}), 1, {"nope"});
  says(hindcast({"show", "../etc"}), 2, {"no name of an incident"});
  says(hindcast({"show", "run.hcb"}), 2, {"named by its incident"});
  says(hindcast({"verify", id_, "--truth", "x"}), 2, {"--truth", "fetch"});
  says(hindcast({"upload", "/no/such/file"}), 1, {"/no/such/file"});
  says(hindcast({"snapshot"}), 1, {"no host"});
  says(run_program({kHindcast, "snapshot"}), 2, {"--server"});
  says(run_program({kHindcast, "ls", "--server", ""}), 2, {"--server needs the server's URL"});
  TempFolder folder;
  std::ofstream(folder / "token") << "secret\n";
  ::chmod((folder / "token").c_str(), 0644);
  says(hindcast({"ls", "--token-file", folder / "token"}), 1, {"chmod 600"});
  std::ofstream(folder / "junk.hcb") << "junk";
  says(hindcast({"upload", folder / "junk.hcb"}), 1, {});
  EXPECT_EQ(hindcast({"ls", "--json"}).objects().size(), 1u);
}

TEST_F(CliServer, ATokenIsAskedForWhereTheServerWantsOne) {
  std::ofstream(server_.folder() / "token") << "let-me-in-please-now\n";
  ::chmod((server_.folder() / "token").c_str(), 0600);
  ASSERT_EQ(server_.terminate(), 0);
  std::string config((std::istreambuf_iterator<char>(std::ifstream(server_.folder() / "server.toml").rdbuf())), {});
  config.insert(config.find("[keys]"), "http_token_file = \"" + (server_.folder() / "token") + "\"\n");
  std::ofstream(server_.folder() / "server.toml") << config;
  ASSERT_TRUE(server_.start()) << server_.log();
  const Ran without = hindcast({"ls"});
  EXPECT_EQ(without.code, 1);
  EXPECT_NE(without.err.find("token"), std::string::npos) << without.err;
  EXPECT_EQ(hindcast({"ls"}, {"HINDCAST_TOKEN=wrong-but-long-enough"}).code, 1);
  EXPECT_EQ(hindcast({"ls"}, {"HINDCAST_TOKEN=let-me-in-please-now"}).code, 0);
  EXPECT_EQ(hindcast({"ls", "--token-file", server_.folder() / "token"}).code, 0);
}

TEST(CliKeygen, MakesWhatBothServicesRead) {
  TempFolder folder;
  const Ran made = run_program({kHindcast, "keygen", folder / "k", "--host", "web-1"});
  EXPECT_EQ(made.code, 0) << made.err;
  const auto secret = transport::read_secret_key_file(folder / "k.secret");
  ASSERT_TRUE(secret.ok()) << secret.error().text();
  EXPECT_EQ(made.lines(), std::vector<std::string>{secret->public_key});
  EXPECT_TRUE(transport::AllowList::parse(
                  made.err.substr(made.err.find("web-1 "), made.err.rfind('\n') - made.err.find("web-1 ")), "x")
                  .ok())
      << made.err;
  EXPECT_EQ(run_program({kHindcast, "keygen", folder / "k"}).code, 2);  // never overwritten
}

}  // namespace
}  // namespace hindcast::test
