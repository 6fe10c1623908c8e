// Where the simulator's two files are: QEMU's user emulator and our plugin for it.
#include "capture/sim_files.h"

#include <cerrno>
#include <csignal>
#include <cstdlib>

#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>

#include "hindcast/fd.h"

namespace hindcast::capture {

namespace {

bool is_file(const std::string& path, int mode) {
  struct stat st {};
  return ::stat(path.c_str(), &st) == 0 && S_ISREG(st.st_mode) && ::access(path.c_str(), mode) == 0;
}

}  // namespace

std::string find_qemu() {
  if (const char* set = std::getenv("HINDCAST_QEMU")) return is_file(set, X_OK) ? set : "";
  const char* path = std::getenv("PATH");
  std::string rest = path ? path : "/usr/local/bin:/usr/bin:/bin";
  while (!rest.empty()) {
    const size_t colon = rest.find(':');
    const std::string candidate = rest.substr(0, colon) + "/qemu-x86_64";
    if (is_file(candidate, X_OK)) return candidate;
    rest = colon == std::string::npos ? "" : rest.substr(colon + 1);
  }
  return {};
}

std::string find_sim_plugin() {
  if (const char* set = std::getenv("HINDCAST_SIM_PLUGIN")) return is_file(set, R_OK) ? set : "";
  char self[4096];
  const ssize_t n = ::readlink("/proc/self/exe", self, sizeof self);
  if (n <= 0 || n == static_cast<ssize_t>(sizeof self)) return {};
  const std::string exe(self, static_cast<size_t>(n));
  const std::string dir = exe.substr(0, exe.rfind('/'));
  for (const char* place : {"/hindcast-sim.so", "/../lib/hindcast-sim.so", "/../lib/hindcast/hindcast-sim.so"})
    if (is_file(dir + place, R_OK)) return dir + place;
  return {};
}

std::string first_output_line(const std::string& program, const std::string& argument) {
  int fds[2];
  if (::pipe2(fds, O_CLOEXEC) != 0) return {};
  Fd read_end(fds[0]), write_end(fds[1]);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, write_end.get(), STDOUT_FILENO);
  ::posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  std::string program_copy = program, argument_copy = argument;
  char* args[] = {program_copy.data(), argument_copy.data(), nullptr};
  pid_t pid = -1;
  const int error = ::posix_spawn(&pid, program.c_str(), &actions, nullptr, args, environ);
  ::posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return {};
  write_end = Fd();
  std::string text;
  while (text.size() < 4096 && text.find('\n') == std::string::npos) {
    pollfd p{read_end.get(), POLLIN, 0};
    if (::poll(&p, 1, 5000) <= 0) break;
    char piece[512];
    const ssize_t n = ::read(read_end.get(), piece, sizeof piece);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    text.append(piece, static_cast<size_t>(n));
  }
  read_end = Fd();
  ::kill(pid, SIGKILL);  // it said what we wanted, or took too long
  ::waitpid(pid, nullptr, 0);
  return text.substr(0, text.find('\n'));
}

}  // namespace hindcast::capture
