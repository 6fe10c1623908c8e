#include "server/service/server_config.h"

#include <gtest/gtest.h>

#include "tests/support/example_settings.h"
#include "tests/unit/service/must.h"

namespace hindcast::server {
namespace {

const std::string kNeeded = "[keys]\nkey_file = \"k\"\nallow_file = \"a\"\n[store]\nfolder = \"f\"\n";

std::string example() {
  return test::example_settings(std::string(HC_SOURCE_DIR) + "/server/hindcast-server.example.toml");
}

TEST(ServerConfig, TheExampleIsRight) {
  const ServerConfig c = must(parse_server_config(example(), "example"));
  EXPECT_EQ(c.key_file, "/etc/hindcast/server.secret");
  EXPECT_EQ(c.folder, "/var/lib/hindcast-server");
  const ServerConfig d = must(parse_server_config(kNeeded, "text"));
  EXPECT_EQ(c.endpoint, d.endpoint);
  EXPECT_EQ(c.run_children, d.run_children);
}

TEST(ServerConfig, WhatTheExampleCommentsOutIsRightToo) {
  const ServerConfig c = must(parse_server_config(test::with_all_said(example()), "example"));
  const ServerConfig defaults;
  EXPECT_EQ(c.endpoint, defaults.endpoint);
  EXPECT_EQ(c.http.host, defaults.http.host);
  EXPECT_EQ(c.http.port, defaults.http.port);
  EXPECT_EQ(c.run_children, defaults.run_children);
  EXPECT_EQ(c.run_limit, defaults.run_limit);
  EXPECT_EQ(c.http_token_file, "/etc/hindcast/http.token");
  EXPECT_EQ(c.limit_bytes, uint64_t{500} << 30);
  EXPECT_EQ(c.keep.bytes, uint64_t{400} << 30);
  EXPECT_EQ(c.keep.age, std::chrono::hours(24 * 30));
}

TEST(ServerConfig, AllThatIsWrongIsSaidAtOnce) {
  const auto r = parse_server_config(
      "[listen]\nendpoint = \"ipc:///x\"\nhttp = \"here\"\nport = 3\n[keys]\nkey_file = 7\n"
      "[store]\nfolder = \"\"\nlimit = \"5 apples\"\nkeep_age = \"1 year\"\n[run]\nchildren = 0\nseconds = \"1 s\"\n",
      "f.toml");
  ASSERT_FALSE(r.ok());
  EXPECT_EQ(r.error().code, Errc::bad_input);
  for (const char* words :
       {"listen.endpoint (line 2)", "listen.http (line 3)", "listen.port (line 4): there is no such setting",
        "keys.key_file (line 6)", "keys.allow_file: missing", "store.folder (line 8)", "store.limit (line 9)",
        "store.keep_age (line 10)", "run.children (line 12)", "run.seconds (line 13)"})
    EXPECT_NE(r.error().found.find(words), std::string::npos) << words << "\n" << r.error().found;
}

TEST(ServerConfig, AnAddressThatOthersReachNeedsAToken) {
  const auto r = parse_server_config("[listen]\nhttp = \"0.0.0.0:7412\"\n" + kNeeded, "f.toml");
  ASSERT_FALSE(r.ok());
  EXPECT_NE(r.error().found.find("listen.http_token_file"), std::string::npos);
  EXPECT_TRUE(parse_server_config("[listen]\nhttp = \"0.0.0.0:7412\"\nhttp_token_file = \"t\"\n" + kNeeded, "f").ok());
}

TEST(ServerConfig, WhatIsNoTomlIsSaidWithItsLine) {
  const auto r = parse_server_config("[listen]\nhttp = \n", "f.toml");
  ASSERT_FALSE(r.ok());
  EXPECT_NE(r.error().found.find("line 2"), std::string::npos) << r.error().text();
  EXPECT_EQ(read_server_config("/no/such/file").error().code, Errc::not_found);
}

}  // namespace
}  // namespace hindcast::server
