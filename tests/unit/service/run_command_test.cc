// Children of the server, with shell scripts in the place of hindcast.
#include "server/service/run_command.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "server/service/run_options.h"
#include "tests/support/run_program.h"
#include "tests/support/ship_kit.h"
#include "tests/unit/service/must.h"

namespace hindcast::server {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

struct Heard {
  std::string out, err;
  int code = -1;
};

class RunCommandTest : public testing::Test {
 protected:
  std::unique_ptr<RunCommand> start(const std::string& text, std::vector<std::string> args = {},
                                    seconds limit = seconds(60), const std::string& cache = {}) {
    args.insert(args.begin(), folder_.script(text));
    return must(RunCommand::start(args, {folder_.path(), limit, cache}));
  }
  static Heard all_of(RunCommand& run) {
    Heard heard;
    while (!run.done()) {
      const RunFrame f = run.next(milliseconds(1000));
      if (f.kind == RunFrame::Kind::out) heard.out += f.bytes;
      if (f.kind == RunFrame::Kind::err) heard.err += f.bytes;
      EXPECT_EQ(f.kind == RunFrame::Kind::keep_alive, f.bytes.empty());
      if (f.kind != RunFrame::Kind::exit) continue;
      EXPECT_EQ(f.bytes.size(), 4u);
      heard.code = static_cast<unsigned char>(f.bytes[0]) | static_cast<unsigned char>(f.bytes[1]) << 8;
    }
    return heard;
  }

  test::TempFolder folder_;
};

TEST_F(RunCommandTest, WordsAndExitCodeComeThrough) {
  auto run = start("printf 'data\\0more'; echo words >&2; exit 3");
  const Heard heard = all_of(*run);
  EXPECT_EQ(heard.out, std::string("data\0more", 9));
  EXPECT_EQ(heard.err, "words\n");
  EXPECT_EQ(heard.code, 3);
}

TEST_F(RunCommandTest, ArgumentsMeetNoShell) {
  auto run = start("for a in \"$@\"; do printf '[%s]' \"$a\"; done", {"$(id)", "a b", "; rm -rf /", "*"});
  EXPECT_EQ(all_of(*run).out, "[$(id)][a b][; rm -rf /][*]");
}

TEST_F(RunCommandTest, EnvironmentFolderAndDescriptorsAreFixed) {
  ::setenv("HINDCAST_TOKEN", "secret", 1);
  const Fd ours(::open("/dev/null", O_RDONLY));  // not close-on-exec
  auto run =
      start("env | sort | grep -v '^_=\\|^PWD='; pwd; ls /proc/self/fd | wc -l; cat", {}, seconds(60), "/a/cache");
  ::unsetenv("HINDCAST_TOKEN");
  // ls itself has its folder open: 0, 1, 2 and that one.
  EXPECT_EQ(all_of(*run).out,
            "COLUMNS=100\nHINDCAST_CACHE=/a/cache\nLC_ALL=C.UTF-8\nNO_COLOR=1\nPATH=/usr/local/bin:/usr/bin:/bin\n" +
                std::filesystem::canonical(folder_.path()).string() + "\n4\n");
}

TEST_F(RunCommandTest, MuchOutputArrivesWhole) {
  auto run = start("head -c 3000000 /dev/zero; head -c 300000 /dev/zero >&2");
  const Heard heard = all_of(*run);
  EXPECT_EQ(heard.out.size(), 3000000u);
  EXPECT_EQ(heard.err.size(), 300000u);
  EXPECT_EQ(heard.code, 0);
}

TEST_F(RunCommandTest, ASignalIsAnExitCode) { EXPECT_EQ(all_of(*start("kill -SEGV $$")).code, 128 + SIGSEGV); }

TEST_F(RunCommandTest, SilenceGivesKeepAlives) {
  auto run = start("read x < " + (folder_ / "fifo"));
  EXPECT_EQ(all_of(*run).code, 2);  // no such fifo: the shell's own failure
  ASSERT_EQ(::mkfifo((folder_ / "fifo").c_str(), 0600), 0);
  run = start("read x < " + (folder_ / "fifo"));
  const RunFrame f = run->next(milliseconds(1));
  EXPECT_EQ(f.kind, RunFrame::Kind::keep_alive);
  EXPECT_EQ(f.bytes, "");
}

TEST_F(RunCommandTest, WhoTakesTooLongIsKilledWithItsChildren) {
  auto run = start("sleep 1000 & echo $!; wait", {}, seconds(1));
  const Heard heard = all_of(*run);
  EXPECT_EQ(heard.code, 128 + SIGKILL);
  EXPECT_NE(heard.err.find("longer than 1 s"), std::string::npos) << heard.err;
  const pid_t child = std::stoi(heard.out);
  EXPECT_TRUE(test::wait_for([&] { return ::kill(child, 0) != 0; }, 30));
}

TEST_F(RunCommandTest, OneThatClosedItsPipesIsStillWaitedForAndKilled) {
  auto run = start("exec >/dev/null 2>&1; exec sleep 1000", {}, seconds(1));
  EXPECT_EQ(all_of(*run).code, 128 + SIGKILL);
}

TEST_F(RunCommandTest, LettingGoKillsTheWholeGroup) {
  auto run = start("sleep 1000 & echo $!; exec sleep 1000");
  RunFrame f;
  while ((f = run->next(milliseconds(1000))).kind != RunFrame::Kind::out) {
  }
  const pid_t child = std::stoi(f.bytes);
  run.reset();
  EXPECT_TRUE(test::wait_for([&] { return ::kill(child, 0) != 0; }, 30));
}

TEST_F(RunCommandTest, ItDoesNotOutliveAServerThatIsKilled) {
  const std::string path = folder_.script("exec sleep 1000");
  int pids[2];
  ASSERT_EQ(::pipe(pids), 0);
  const pid_t server = ::fork();
  if (server == 0) {
    const auto run = RunCommand::start({path}, {folder_.path(), seconds(1000)});
    // The child's id is not for others; it is our only one.
    std::ifstream children("/proc/self/task/" + std::to_string(::getpid()) + "/children");
    int pid = 0;
    if (run.ok()) children >> pid;
    (void)!::write(pids[1], &pid, sizeof pid);
    for (;;) ::pause();
  }
  int child = 0;
  ASSERT_EQ(::read(pids[0], &child, sizeof child), static_cast<ssize_t>(sizeof child));
  ASSERT_GT(child, 0);
  EXPECT_EQ(::kill(child, 0), 0);
  ::kill(server, SIGKILL);
  ::waitpid(server, nullptr, 0);
  EXPECT_TRUE(test::wait_for([&] { return ::kill(child, 0) != 0; }, 30));
  ::close(pids[0]);
  ::close(pids[1]);
}

TEST_F(RunCommandTest, AProgramThatIsNotThereIsAnError) {
  const auto run = RunCommand::start({folder_ / "missing"}, {folder_.path(), seconds(5)});
  ASSERT_FALSE(run.ok());
  EXPECT_EQ(run.error().code, Errc::not_found);
  EXPECT_NE(run.error().fix.find("install"), std::string::npos);
}

TEST(RunFrameTest, IsKindLengthBytes) {
  EXPECT_EQ(frame_bytes({RunFrame::Kind::err, "ab"}), std::string("\2\2\0\0\0ab", 7));
  EXPECT_EQ(frame_bytes({}), std::string("\0\0\0\0\0", 5));
}

TEST(RunOptions, OnlyWhatNamesNoFileIsTaken) {
  must_do(check_run("ls", {}));
  must_do(check_run("show", {"--tid=4711", "--time=1ms,2ms", "--insns", "--json", "--limit=10"}));
  must_do(check_run("calls", {"--depth=3", "--pid=1"}));
  must_do(check_run("dump", {"--sideband", "--cpu=0", "--offset=1,2"}));
  must_do(check_run("verify", {"--resync=psb"}));
  const std::pair<std::string, std::vector<std::string>> refused[] = {
      {"record", {}},
      {"export", {}},
      {"import", {}},
      {"doctor", {}},
      {"", {}},
      {"ls ", {}},
      {"show", {"-o"}},
      {"show", {"-o=x"}},
      {"show", {"--output=/etc/passwd"}},
      {"show", {"--debug-dir=/root"}},
      {"verify", {"--truth=/root"}},
      {"show", {"--tid", "4711"}},
      {"show", {"--tid"}},
      {"show", {"--json=true"}},
      {"show", {"--js"}},
      {"show", {"-t=1"}},
      {"show", {"other.hcb"}},
      {"show", {"--"}},
      {"show", {""}},
      {"show", {"--help"}},
      {"show", {"--tid=1\n2"}},
      {"show", {"--time=" + std::string(300, '1')}},
      {"ls", {"--tid=1"}},
      {"show", std::vector<std::string>(33, "--json")},
  };
  for (const auto& [command, options] : refused) {
    const auto r = check_run(command, options);
    ASSERT_FALSE(r.ok()) << command << " " << (options.empty() ? "" : options[0]);
    EXPECT_EQ(r.error().code, Errc::usage);
  }
}

}  // namespace
}  // namespace hindcast::server
