#include "tests/support/service_process.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "tests/support/ship_kit.h"

namespace hindcast::test {

std::string ServiceProcess::start(const std::string& words) {
  const size_t said = log().size();
  std::vector<char*> argv;
  for (const std::string& a : argv_) argv.push_back(const_cast<char*>(a.c_str()));
  argv.push_back(nullptr);
  pid_ = ::fork();
  if (pid_ == 0) {
    const int null = ::open("/dev/null", O_RDWR);
    const int to = ::open(log_file_.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    ::dup2(null, 0);
    ::dup2(null, 1);
    ::dup2(to, 2);
    ::execv(argv[0], argv.data());
    ::_exit(127);
  }
  std::string line;
  wait_for(
      [&] {
        const std::string all = log();
        const size_t at = all.find(words, said);
        const size_t end = at == all.npos ? at : all.find('\n', at);
        if (end != all.npos) {
          const size_t begin = all.rfind('\n', at) + 1;  // npos + 1 is 0
          line = all.substr(begin, end - begin);
        }
        return !line.empty() || !running();
      },
      30);
  return line;
}

bool ServiceProcess::running() {
  if (pid_ > 0 && ::waitpid(pid_, &status_, WNOHANG) == pid_) pid_ = -1;
  return pid_ > 0;
}

void ServiceProcess::kill() {
  if (!running()) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, &status_, 0);
  pid_ = -1;
}

void ServiceProcess::signal(int number) {
  if (running()) ::kill(pid_, number);
}

int ServiceProcess::terminate(double seconds) {
  signal(SIGTERM);
  if (!wait_for([&] { return !running(); }, seconds)) return -1;
  return WIFEXITED(status_) ? WEXITSTATUS(status_) : 128 + WTERMSIG(status_);
}

std::string ServiceProcess::log() const {
  const auto bytes = bytes_of_file(log_file_);
  return {bytes.begin(), bytes.end()};
}

}  // namespace hindcast::test
