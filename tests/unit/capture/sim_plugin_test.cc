// The plugin's channel against its truth, and its truth against a native single-step.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "capture/sim/channel_server.h"
#include "tests/support/long_run.h"
#include "tests/support/ptrace_stepper.h"
#include "tests/support/sim_run.h"

namespace hindcast::test {
namespace {

#define ASSERT_RUN(run, ...)                                     \
  auto run##_result = run_simulated(__VA_ARGS__);                \
  ASSERT_TRUE(run##_result.ok()) << run##_result.error().text(); \
  SimRun& run = *run##_result

void expect_channel_equals_truth(const std::vector<std::string>& argv, int status, const std::string& output,
                                 uint64_t at_least) {
  ASSERT_RUN(run, argv, SimWith::channel_and_truth);
  uint64_t instructions = 0;
  EXPECT_EQ(compare_with_truth(run, instructions), "");
  EXPECT_EQ(run.status, status);
  if (!output.empty()) {
    EXPECT_EQ(run.output, output);
  }
  EXPECT_GE(instructions, at_least);
  std::printf("%s: %llu instructions in %zu threads\n", argv[0].c_str(), static_cast<unsigned long long>(instructions),
              run.truth.threads.size());
}

TEST(SimPlugin, ChannelEqualsTruthOfACpuBoundProgram) {
  HC_REQUIRE_PLUGIN();
  expect_channel_equals_truth({test_program("cpu_bound"), "8"}, 0, "", 20'000'000);
}

TEST(SimPlugin, ChannelEqualsTruthOfThreadsOnOneCpu) {
  HC_REQUIRE_PLUGIN();
  expect_channel_equals_truth({test_program("threads"), "5", "4", "one_cpu"}, 0, "", 5'000'000);
}

TEST(SimPlugin, ChannelEqualsTruthOfSignals) {
  HC_REQUIRE_PLUGIN();
  expect_channel_equals_truth({test_program("signals"), "10"}, 0, "", 5'000'000);
}

TEST(SimPlugin, ChannelEqualsTruthOverForkAndExec) {
  HC_REQUIRE_PLUGIN();
  expect_channel_equals_truth({test_program("forkexec"), "2"}, 0, "done\n", 1'000'000);
}

TEST(SimPlugin, ChannelEqualsTruthOfCodeThatChanges) {
  HC_REQUIRE_PLUGIN();
  expect_channel_equals_truth({test_program("jit")}, 0, "8974600\n", 500'000);
}

TEST(SimPlugin, ChannelEqualsTruthOfGzip) {
  HC_REQUIRE_PLUGIN();
  if (access("/bin/gzip", X_OK) != 0) GTEST_SKIP() << "/bin/gzip is not installed";
  // A piece of real machine code and symbols; all of the plugin would be two billion instructions.
  ScratchFolder folder;
  const std::string input = folder.path() + "/input";
  std::string bytes(200'000, '\0');
  std::ifstream(plugin_path()).read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  std::ofstream(input) << bytes;
  expect_channel_equals_truth({"/bin/gzip", "-6", "-c", input}, 0, "", 20'000'000);
}

TEST(SimPlugin, ChannelEqualsTruthOfPython) {
  HC_REQUIRE_PLUGIN();
  if (access("/usr/bin/python3", X_OK) != 0) GTEST_SKIP() << "/usr/bin/python3 is not installed";
  expect_channel_equals_truth(
      {"/usr/bin/python3", "-c",
       "import json, threading\nprint(sum(len(json.dumps(list(range(n)))) for n in range(200)))"},
      0, "", 50'000'000);
}

TEST(SimPlugin, ChannelFollowsScriptsAndExecsOfAllKinds) {
  HC_REQUIRE_PLUGIN();
  ScratchFolder folder;
  const std::string script = folder.path() + "/script";
  std::ofstream(script) << "#!/bin/sh -e\necho \"script $0 $#\"\nexec /bin/sh -c 'echo inner'\n";
  ASSERT_EQ(chmod(script.c_str(), 0755), 0);
  ASSERT_RUN(run, {"/bin/sh", "-c", "cd " + folder.path() + "; ./script a b; /no/such/program; echo $?"},
             SimWith::channel_and_truth);
  EXPECT_EQ(run.output, "script ./script 2\ninner\n127\n");
  uint64_t instructions = 0;
  EXPECT_EQ(compare_with_truth(run, instructions), "");
  // The shell, its child that becomes the script's shell, then the inner one; and the child that finds no program.
  size_t images = 0, followed = 0;
  for (const auto& p : run.drain->finish()) {
    ++images;
    followed += p->exec_followed;
  }
  EXPECT_EQ(followed, 2u);
  EXPECT_EQ(images, 5u);
}

TEST(SimPlugin, ProgramSeesNoDescriptorOfOursAndMayCloseAll) {
  HC_REQUIRE_PLUGIN();
  if (access("/usr/bin/python3", X_OK) != 0) GTEST_SKIP() << "/usr/bin/python3 is not installed";
  const std::string program =
      "import os, threading\n"
      "names = [os.readlink('/proc/self/fd/' + f) for f in os.listdir('/proc/self/fd')\n"
      "         if os.path.exists('/proc/self/fd/' + f)]\n"
      "print([n for n in names if 'socket' in n or 'memfd' in n or 'truth' in n])\n"
      "out = os.dup(1)\n"
      "os.closerange(0, out)\n"
      "os.closerange(out + 1, 70000)\n"
      "t = threading.Thread(target=lambda: os.write(out, b'thread\\n')); t.start(); t.join()\n"
      "if os.fork() == 0: os.write(out, b'child\\n'); os._exit(0)\n"
      "os.wait()\n";
  ASSERT_RUN(with, {"/usr/bin/python3", "-u", "-c", program}, SimWith::channel_and_truth);
  EXPECT_EQ(with.output, "[]\nthread\nchild\n");
  uint64_t instructions = 0;
  EXPECT_EQ(compare_with_truth(with, instructions), "");
  EXPECT_EQ(with.truth.threads.size(), 3u);
}

TEST(SimPlugin, EachVersionOfCodeThatNoFileBacksIsTold) {
  HC_REQUIRE_PLUGIN();
  ASSERT_RUN(run, {test_program("jit")}, SimWith::channel);
  const auto& processes = run.drain->finish();
  ASSERT_EQ(processes.size(), 1u);
  const ChannelDrain::Process& process = *processes[0];
  EXPECT_FALSE(process.exec_announced);
  // Four generations of the page that is closed and opened again, and four of the one that stays open: by their IMUL.
  std::map<uint64_t, std::vector<int>> factors;  // by page
  unsigned closed = 0, opened = 0;
  uint64_t last = 0;
  for (const sim::Message& m : process.code_messages) {
    EXPECT_GE(m.tsc, last);
    last = m.tsc;
    if (m.kind == sim::MessageKind::mapping) {
      EXPECT_EQ(m.value, 1u);
      ++(m.prot & PROT_EXEC ? opened : closed);
      continue;
    }
    const auto def = process.defs.find(static_cast<uint32_t>(m.value));
    ASSERT_NE(def, process.defs.end());
    const std::vector<uint8_t>& b = def->second.bytes;
    if (b.size() < 5 || b[b.size() - 5] != 0x48 || b[b.size() - 4] != 0x6b) continue;
    std::vector<int>& of_page = factors[def->second.ip / sim::kPageBytes];
    if (of_page.empty() || of_page.back() != b[b.size() - 2]) of_page.push_back(b[b.size() - 2]);
  }
  std::vector<std::vector<int>> all;
  for (const auto& [page, list] : factors) all.push_back(list);
  EXPECT_THAT(all, testing::UnorderedElementsAre(testing::ElementsAre(2, 3, 4, 5), testing::ElementsAre(5, 6, 7, 8)));
  EXPECT_EQ(closed, 3u) << "before each generation but the first, when nothing had run there";
  EXPECT_EQ(opened, 3u);
}

TEST(SimPlugin, ProgramRunsOnWhenTheDaemonIsGoneWithItsRingFull) {
  HC_REQUIRE_PLUGIN();
  ScratchFolder folder;
  auto listening = sim::ChannelServer::listen();
  ASSERT_TRUE(listening.ok()) << listening.error().text();
  std::optional<sim::ChannelServer> daemon(std::move(listening).value());
  const std::string plugin = plugin_path() + ",channel=" + daemon->path();
  const std::string program = test_program("cpu_bound"), output = folder.path() + "/output";
  const pid_t pid = fork();
  if (pid == 0) {
    dup2(open(output.c_str(), O_WRONLY | O_CREAT, 0600), 1);
    execlp("qemu-x86_64", "qemu-x86_64", "-plugin", plugin.c_str(), program.c_str(), "20", nullptr);
    _exit(127);
  }
  Mapping ring;
  int status = 0;
  while (!ring.data() && waitpid(pid, &status, WNOHANG) == 0) {
    daemon->poll(100, [&](sim::Incoming& in) {
      if (in.ended || in.message.kind != sim::MessageKind::thread) return;
      auto map = Mapping::map(in.fd, sim::kPageBytes, PROT_READ, MAP_SHARED);
      ASSERT_TRUE(map.ok()) << map.error().text();
      ring = std::move(map).value();
    });
  }
  ASSERT_NE(ring.data(), nullptr) << "the program ended without a ring";
  // Twenty rounds fill the ring several times over, and nobody takes: it fills up to the plugin's reserve.
  const auto* header = static_cast<const sim::RingHeader*>(ring.data());
  const auto full = [&] { return header->written + sim::kMaxUntimedWords > header->capacity; };
  while (!full() && waitpid(pid, &status, WNOHANG) == 0) usleep(1000);
  ASSERT_TRUE(full()) << "the program ended before its ring was full";
  usleep(200'000);  // in which a program that does not wait would run on
  EXPECT_EQ(waitpid(pid, &status, WNOHANG), 0) << "the program did not wait for space in its ring";
  EXPECT_LE(header->written, header->capacity);
  daemon.reset();
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_EQ(status, 0);
  std::string text;
  std::getline(std::ifstream(output), text);
  EXPECT_FALSE(text.empty());
}

class FatalSignal : public testing::TestWithParam<std::pair<const char*, int>> {};

TEST_P(FatalSignal, ChannelEqualsTruthToTheLastInstruction) {
  HC_REQUIRE_PLUGIN();
  ASSERT_RUN(run, {test_program("fatal"), GetParam().first}, SimWith::channel_and_truth);
  ASSERT_TRUE(WIFSIGNALED(run.status));
  EXPECT_EQ(WTERMSIG(run.status), GetParam().second);
  uint64_t instructions = 0;
  EXPECT_EQ(compare_with_truth(run, instructions), "");
  EXPECT_GT(instructions, 30'000u);
}
INSTANTIATE_TEST_SUITE_P(SimPlugin, FatalSignal,
                         testing::Values(std::pair("segv", SIGSEGV), std::pair("trap", SIGTRAP),
                                         std::pair("abort", SIGABRT), std::pair("term", SIGTERM),
                                         std::pair("kill", SIGKILL), std::pair("thread", SIGSEGV)),
                         [](const auto& p) { return std::string(p.param.first); });

class StaticProgram : public testing::TestWithParam<const char*> {};

/// Stepping takes a minute for each of them: all of it is for long runs, else their first part.
TEST_P(StaticProgram, TruthAndChannelEqualANativeSingleStep) {
  HC_REQUIRE_PLUGIN();
  const std::vector<std::string> argv = {test_program(GetParam())};
  const uint64_t most = long_run() ? 5'000'000 : 250'000;
  std::vector<uint64_t> native;
  const auto stepped = step_program(argv, most, [&](uint64_t ip) { native.push_back(ip); });
  if (!stepped.ok() && stepped.error().code == Errc::unavailable) GTEST_SKIP() << stepped.error().text();
  const bool whole = stepped.ok();
  if (long_run()) {
    ASSERT_TRUE(whole) << stepped.error().text();
    EXPECT_EQ(stepped->exit_code, 0);
    EXPECT_GE(native.size(), 1'000'000u);
  } else {
    ASSERT_FALSE(whole) << "it has a million instructions";
    ASSERT_EQ(stepped.error().code, Errc::too_large) << stepped.error().text();
    ASSERT_GE(native.size(), most);
  }

  ASSERT_RUN(run, argv, SimWith::channel_and_truth);
  EXPECT_EQ(run.status, 0);
  ASSERT_EQ(run.truth.threads.size(), 1u);
  const std::vector<uint64_t> truth = Truth::addresses(run.truth.threads[0]);
  EXPECT_GE(truth.size(), 1'000'000u);
  for (size_t i = 0; i < std::min(truth.size(), native.size()); ++i)
    ASSERT_EQ(truth[i], native[i]) << "instruction " << i << " behind 0x" << std::hex << (i ? native[i - 1] : 0);
  if (whole) {
    EXPECT_EQ(truth.size(), native.size());
  }
  uint64_t instructions = 0;
  EXPECT_EQ(compare_with_truth(run, instructions), "");
  if (whole)
    std::printf("%s: %zu instructions, %llu signals\n", GetParam(), native.size(),
                static_cast<unsigned long long>(stepped->signals));
}
INSTANTIATE_TEST_SUITE_P(SimPlugin, StaticProgram,
                         testing::Values("static_strings", "static_branches", "static_signals"),
                         [](const auto& p) { return std::string(p.param); });

}  // namespace
}  // namespace hindcast::test
