#include "tests/support/background.h"

#include <chrono>
#include <csignal>
#include <thread>

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

namespace hindcast::test {
namespace {

int shell_status(int status) { return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status); }

pid_t start(const std::vector<std::string>& argv, const std::string& stderr_file, const Place& place) {
  std::vector<char*> args;
  for (const auto& a : argv) args.push_back(const_cast<char*>(a.c_str()));
  args.push_back(nullptr);
  return fork_in(place, [&] {
    const int null = ::open("/dev/null", O_RDWR);
    for (int fd : {0, 1, 2}) ::dup2(null, fd);
    if (!stderr_file.empty()) ::dup2(::open(stderr_file.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600), 2);
    ::execvp(args[0], args.data());
  });
}

}  // namespace

Background::Background(const std::vector<std::string>& argv, const std::string& stderr_file, const Place& place)
    : pid_(start(argv, stderr_file, place)) {}

bool Background::running() {
  int status = 0;
  if (pid_ > 0 && ::waitpid(pid_, &status, WNOHANG) == pid_) {
    status_ = shell_status(status);
    pid_ = -1;
  }
  return pid_ > 0;
}

int Background::wait(double seconds) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  while (running() && std::chrono::steady_clock::now() < end)
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  return running() ? -1 : status_;
}

void Background::kill() {
  if (!running()) return;
  ::kill(pid_, SIGKILL);
  int status = 0;
  ::waitpid(pid_, &status, 0);
  status_ = shell_status(status);
  pid_ = -1;
}

Background::~Background() {
  if (!running()) return;
  ::kill(pid_, SIGTERM);
  if (wait(2) < 0) kill();
}

}  // namespace hindcast::test
