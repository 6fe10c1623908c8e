#include "capture/daemon_config.h"

#include <gtest/gtest.h>

#include <fstream>

#include "tests/support/example_settings.h"
#include "tests/unit/capture/scratch.h"
#include "transport/keys.h"

namespace hindcast::capture {
namespace {

const std::string kNeeded =
    "host = \"h\"\n[server]\nendpoint = \"tcp://127.0.0.1:7411\"\npublic_key_file = \"s\"\nkey_file = \"k\"\n"
    "[spool]\nfolder = \"f\"\n";

DaemonConfig good(const std::string& text, const std::string& folder = "/etc/hindcast") {
  auto c = parse_daemon_config(text, "text", folder);
  EXPECT_TRUE(c.ok()) << c.error().text();
  return c.ok() ? std::move(c).value() : DaemonConfig();
}

std::string found(const std::string& text) {
  const auto c = parse_daemon_config(text, "f.toml", "/etc");
  EXPECT_FALSE(c.ok());
  if (c.ok()) return {};
  EXPECT_EQ(c.error().code, Errc::bad_input);
  EXPECT_NE(c.error().what.find("f.toml"), std::string::npos);
  return c.error().found;
}

std::string example() { return test::example_settings(std::string(HC_SOURCE_DIR) + "/capture/hindcastd.example.toml"); }
/// With all that it comments out, but for the cgroup, which excludes the command.
std::string example_said() {
  std::string text = example();
  const size_t at = text.find("\n#cgroup") + 1;
  text.erase(at, text.find('\n', at) - at);
  return test::with_all_said(text);
}

TEST(DaemonConfig, TheExampleIsRightAndWhatItCommentsOutIsTheDefault) {
  const DaemonConfig c = good(example()), all = good(example_said()), defaults = good(kNeeded);
  EXPECT_EQ(c.key_file, "/etc/hindcast/web-1.secret");
  EXPECT_EQ(c.server_key_file, "/etc/hindcast/server.public");
  EXPECT_EQ(c.spool.folder, "/var/lib/hindcast/spool");
  EXPECT_TRUE(c.window.command.empty());
  EXPECT_EQ(all.sender.host, "web-1");
  EXPECT_EQ(all.window.command, (std::vector<std::string>{"/usr/bin/my-server", "--port", "8080"}));
  EXPECT_TRUE(all.window.cgroup.empty());
  EXPECT_EQ(all.source.sim, "seed=1");
  EXPECT_EQ(all.source.truth, "/etc/hindcast/truth");
  for (const DaemonConfig* other : {&c, &all}) {
    EXPECT_EQ(other->sender.bytes_per_second, defaults.sender.bytes_per_second);
    EXPECT_EQ(other->spool.limit_bytes, defaults.spool.limit_bytes);
    EXPECT_EQ(other->source.source, defaults.source.source);
    EXPECT_EQ(other->window.ring_bytes, defaults.window.ring_bytes);
    EXPECT_EQ(other->window.ring_budget, defaults.window.ring_budget);
    EXPECT_EQ(other->window.command_only, defaults.window.command_only);
    EXPECT_EQ(other->window.kernel, defaults.window.kernel);
    EXPECT_EQ(other->window.sideband_ring_bytes, defaults.window.sideband_ring_bytes);
    EXPECT_EQ(other->window.sideband.process_bytes, defaults.window.sideband.process_bytes);
    EXPECT_EQ(other->window.sideband.switch_bytes_per_cpu, defaults.window.sideband.switch_bytes_per_cpu);
    EXPECT_EQ(to_text(other->window.pt), to_text(defaults.window.pt));
    EXPECT_EQ(other->cooldown, defaults.cooldown);
    EXPECT_EQ(other->late, defaults.late);
  }
}

TEST(DaemonConfig, WhatIsTracedAndHowMuchIsKept) {
  const DaemonConfig c = good(kNeeded +
                              "[trace]\nring = \"auto\"\nring_budget = \"1 GiB\"\nscope = \"command\"\n"
                              "code = \"user+kernel\"\n");
  EXPECT_EQ(c.window.ring_bytes, 0u);
  EXPECT_EQ(c.window.ring_budget, uint64_t{1} << 30);
  EXPECT_TRUE(c.window.command_only);
  EXPECT_TRUE(c.window.kernel);
  const std::string wrong = found(kNeeded + "[trace]\nring = \"much\"\nscope = \"me\"\ncode = \"mine\"\n");
  for (const char* words : {"trace.ring", "trace.scope", "trace.code"})
    EXPECT_NE(wrong.find(words), std::string::npos) << wrong;
  EXPECT_NE(
      found(kNeeded + "[trace]\nscope = \"command\"\n[window]\ncgroup = \"/sys/fs/cgroup/x\"\n").find("trace.scope"),
      std::string::npos);
  EXPECT_NE(found(kNeeded + "[trace]\nsource = \"simulated\"\ncode = \"user+kernel\"\n").find("trace.code"),
            std::string::npos);
}

TEST(DaemonConfig, AllThatIsWrongIsSaidAtOnce) {
  const std::string text = found(
      "host = \"a/b\"\n[server]\nendpoint = \"ipc:///x\"\nkey_file = 7\nbytes_per_second = \"5 apples\"\nport = 3\n"
      "[spool]\nfolder = \"\"\nlimit = 5\n[trace]\nsource = \"magic\"\npt = \"warp=9\"\nring = \"5 MiB\"\n"
      "sideband_ring = \"1 KiB\"\nsim = \"seed=x\"\n[window]\ncommand = \"ls -l\"\n[freeze]\ncooldown = \"soon\"\n");
  for (const char* words :
       {"host (line 1)", "server.endpoint (line 3)", "server.key_file (line 4)", "server.bytes_per_second (line 5)",
        "server.port (line 6): there is no such setting", "server.public_key_file: missing", "spool.folder (line 8)",
        "spool.limit (line 9)", "trace.source (line 11)", "trace.pt (line 12)", "trace.ring (line 13)",
        "trace.sideband_ring (line 14)", "trace.sim (line 15)", "window.command (line 17)",
        "freeze.cooldown (line 19)"})
    EXPECT_NE(text.find(words), std::string::npos) << words << "\n" << text;
}

TEST(DaemonConfig, ACgroupTakesTheCommandsPlace) {
  const std::string cgroup = "[window]\ncgroup = \"/sys/fs/cgroup/shop\"\n";
  EXPECT_EQ(good(kNeeded + cgroup).window.cgroup, "/sys/fs/cgroup/shop");
  EXPECT_NE(found(kNeeded + cgroup + "command = [\"a\"]\n").find("window.cgroup (line 9)"), std::string::npos);
  EXPECT_NE(found(kNeeded + cgroup + "[trace]\nsource = \"simulated\"\n").find("window.cgroup"), std::string::npos);
}

TEST(DaemonConfig, PathsStandBesideTheFile) {
  Scratch scratch;
  const transport::KeyPair host = transport::make_key_pair(), server = transport::make_key_pair();
  ASSERT_TRUE(transport::write_key_files(scratch.path("k"), host).ok());
  ASSERT_TRUE(transport::write_key_files(scratch.path("s"), server).ok());
  std::ofstream(scratch.path("d.toml"))
      << "host = \"h\"\n[server]\nendpoint = \"tcp://127.0.0.1:7411\"\npublic_key_file = \"s.public\"\n"
         "key_file = \"k.secret\"\n[spool]\nfolder = \"deep/spool\"\n";
  const auto c = read_daemon_config(scratch.path("d.toml"));
  ASSERT_TRUE(c.ok()) << c.error().text();
  EXPECT_EQ(c->sender.keys.public_key, host.public_key);
  EXPECT_EQ(c->sender.server_key, server.public_key);
  EXPECT_EQ(c->spool.folder, scratch.path("deep/spool"));
}

TEST(DaemonConfig, WithoutItsFilesTheErrorNamesThem) {
  Scratch scratch;
  EXPECT_EQ(read_daemon_config(scratch.path("none")).error().code, Errc::not_found);
  std::ofstream(scratch.path("d.toml")) << kNeeded;
  const auto c = read_daemon_config(scratch.path("d.toml"));
  ASSERT_FALSE(c.ok());
  EXPECT_NE(c.error().text().find(scratch.path("k")), std::string::npos) << c.error().text();
}

}  // namespace
}  // namespace hindcast::capture
