// Finding and running the programs that stand beside us: hindcastd.
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <climits>
#include <cstdlib>

#include "hindcast/fd.h"
#include "server/views/cli/cli.h"

namespace hindcast::server::cli {
namespace {

std::atomic<pid_t> g_child{0};

void pass_on(int signal, siginfo_t* info, void*) {
  // What the terminal sends (^C and the like) reaches the child by itself; twice would mean "stop now" to it.
  if ((signal == SIGINT || signal == SIGQUIT) && info->si_code == SI_KERNEL) return;
  const pid_t child = g_child.load();
  if (child > 0) ::kill(child, signal);
}

bool executable(const std::string& path) { return ::access(path.c_str(), X_OK) == 0; }

}  // namespace

std::string find_program(const std::string& name) {
  char self[PATH_MAX];
  const ssize_t n = ::readlink("/proc/self/exe", self, sizeof self);
  if (n > 0) {
    const std::string path(self, static_cast<size_t>(n));
    const std::string beside = path.substr(0, path.rfind('/') + 1) + name;
    if (executable(beside)) return beside;
  }
  const char* all = std::getenv("PATH");
  std::string dirs = all ? all : "";
  for (size_t at = 0; at <= dirs.size();) {
    const size_t end = std::min(dirs.find(':', at), dirs.size());
    const std::string path = dirs.substr(at, end - at) + "/" + name;
    if (end > at && executable(path)) return path;
    at = end + 1;
  }
  return {};
}

Result<int> run_program(const std::string& path, const std::vector<std::string>& args, const std::string& output) {
  Fd to;
  if (!output.empty()) {
    to = Fd(::open(output.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
    if (!to.valid()) return errno_error("cannot write", output);
  }
  std::vector<char*> argv{const_cast<char*>(path.c_str())};
  for (const std::string& a : args) argv.push_back(const_cast<char*>(a.c_str()));
  argv.push_back(nullptr);

  // Signals that arrive between fork and the handlers' installation must not be lost: they wait meanwhile.
  constexpr int kPassed[] = {SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2};
  sigset_t hold, before;
  sigemptyset(&hold);
  for (const int s : kPassed) sigaddset(&hold, s);
  sigprocmask(SIG_BLOCK, &hold, &before);
  const pid_t child = ::fork();
  if (child < 0) {
    const Error e = errno_error("cannot start", path);
    sigprocmask(SIG_SETMASK, &before, nullptr);
    return e;
  }
  if (child == 0) {
    sigprocmask(SIG_SETMASK, &before, nullptr);
    if (to.valid()) ::dup2(to.get(), 1);
    ::execv(path.c_str(), argv.data());
    const std::string words = "hindcast: cannot run " + path + ": " + std::strerror(errno) + "\n";
    (void)!::write(2, words.data(), words.size());
    ::_exit(kFailed);
  }
  g_child = child;
  struct sigaction action {};
  action.sa_sigaction = pass_on;
  action.sa_flags = SA_RESTART | SA_SIGINFO;
  for (const int s : kPassed) ::sigaction(s, &action, nullptr);
  sigprocmask(SIG_SETMASK, &before, nullptr);

  int status = 0;
  while (::waitpid(child, &status, 0) < 0)
    if (errno != EINTR) return errno_error("cannot wait for", path);
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

}  // namespace hindcast::server::cli
