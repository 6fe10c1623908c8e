#include "tests/support/sim_run.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <set>

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

namespace hindcast::test {
namespace {

namespace fs = std::filesystem;

std::string hex(uint64_t v) {
  char text[24];
  std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(v));
  return text;
}

std::string in_build(const std::string& path) {
  std::error_code error;
  const fs::path self = fs::read_symlink("/proc/self/exe", error);
  const fs::path file = self.parent_path().parent_path() / path;
  return !error && fs::exists(file, error) ? file.string() : std::string();
}

}  // namespace

std::string plugin_path() { return in_build("lib/hindcast-sim.so"); }
std::string test_program(const std::string& name) { return in_build("bin/programs/" + name); }

ScratchFolder::ScratchFolder() {
  std::string name = (fs::temp_directory_path() / "hindcast-test-XXXXXX").string();
  HC_CHECK(mkdtemp(name.data()) != nullptr);
  path_ = name;
}

ScratchFolder::~ScratchFolder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

Result<SimRun> run_simulated(const std::vector<std::string>& argv, SimWith with) {
  SimRun run;
  run.folder = std::make_unique<ScratchFolder>();
  const std::string socket = run.folder->path() + "/channel";
  const std::string truth = run.folder->path() + "/truth";
  std::string plugin = plugin_path();
  if (plugin.empty()) return Error{Errc::not_found, kNoPluginText, {}, {}};
  if (with != SimWith::truth) {
    HC_TRY(auto drain, ChannelDrain::start(socket));
    run.drain = std::move(drain);
    plugin += ",channel=" + socket;
  }
  if (with != SimWith::channel) {
    fs::create_directory(truth);
    plugin += ",truth=" + truth;
  }
  std::vector<std::string> words = {"qemu-x86_64", "-plugin", plugin};
  words.insert(words.end(), argv.begin(), argv.end());
  std::vector<char*> args;
  for (auto& w : words) args.push_back(w.data());
  args.push_back(nullptr);
  const std::string output = run.folder->path() + "/output";
  const pid_t pid = fork();
  if (pid < 0) return errno_error("cannot fork for", argv[0]);
  if (pid == 0) {
    const int out = open(output.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    const int in = open("/dev/null", O_RDONLY);
    dup2(out, 1);
    dup2(in, 0);
    close(out);
    close(in);
    execvp(args[0], args.data());
    _exit(127);
  }
  if (waitpid(pid, &run.status, 0) != pid) return errno_error("cannot wait for", argv[0]);
  if (WIFEXITED(run.status) && WEXITSTATUS(run.status) == 127)
    return Error{Errc::not_found, "cannot run qemu-x86_64", {}, "install the package qemu-user"};
  if (run.drain) run.drain->finish();
  HC_TRY(Mapping text, map_file(output));
  run.output.assign(text.bytes().begin(), text.bytes().end());
  if (with != SimWith::channel) {
    HC_TRY(Truth read, Truth::read(truth));
    run.truth = std::move(read);
  }
  return run;
}

std::string compare_with_truth(SimRun& run, uint64_t& instructions) {
  instructions = 0;
  auto& processes = run.drain->finish();
  std::set<const void*> matched;
  for (const TruthThread& t : run.truth.threads) {
    const std::string name =
        std::to_string(t.process->pid) + "/" + std::to_string(t.process->image) + "/" + std::to_string(t.tid);
    const ChannelDrain::Process* process = nullptr;
    const ChannelDrain::Thread* thread = nullptr;
    for (const auto& p : processes) {
      if (p->hello.pid == t.process->pid && p->image == t.process->image) process = p.get();
    }
    if (!process) return "the channel has no process " + name;
    for (const auto& c : process->threads) {
      if (c->tid == t.tid && !matched.count(c.get()) && !thread) thread = c.get();
    }
    if (!thread) return "the channel has no thread " + name;
    matched.insert(thread);
    if (t.failed) return "the truth of " + name + " is cut";
    if (static_cast<uint64_t>(t.process->parent_pid) != process->hello.value) return "another parent of " + name;

    TruthCursor cursor(t);
    TruthStep step;
    std::string difference;
    uint64_t last = 0, n = 0;
    bool truth_over = false;
    const std::string wrong = ChannelDrain::expand(*process, *thread, [&](uint64_t ip) {
      ++n;
      if (truth_over || !difference.empty()) return;
      if (!cursor.next(step)) {
        truth_over = true;
        if (t.ended) difference = "the channel goes on with " + hex(ip) + " behind the truth's end";
      } else if (step.ip != ip) {
        difference = "instruction " + std::to_string(step.index) + " behind " + hex(last) + ": truth " + hex(step.ip) +
                     ", channel " + hex(ip);
      }
      last = ip;
    });
    if (!wrong.empty()) return name + ": " + wrong;
    if (!difference.empty()) return name + ": " + difference;
    uint64_t missing = 0;
    while (cursor.next(step)) {
      if (++missing == 1) last = step.ip;
    }
    // Nobody asks a killed thread to stop at the same block in both.
    if (missing > (t.ended ? 0 : 2000))
      return name + ": the channel ends after " + std::to_string(n) + " instructions, the truth has " +
             std::to_string(missing) + " more from " + hex(last);
    instructions += n;
  }
  size_t threads = 0;
  for (const auto& p : processes) threads += p->threads.size();
  if (threads != matched.size()) return "the truth lacks threads that the channel has";
  return {};
}

}  // namespace hindcast::test
