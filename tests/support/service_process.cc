#include "tests/support/service_process.h"

#include <csignal>

#include "tests/support/ship_kit.h"

namespace hindcast::test {

std::string ServiceProcess::start(const std::string& words) {
  const size_t said = log().size();
  process_.emplace(argv_, log_file_, place_);
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

void ServiceProcess::kill() {
  if (process_) process_->kill();
}

void ServiceProcess::signal(int number) {
  if (running()) ::kill(pid(), number);
}

int ServiceProcess::terminate(double seconds) {
  signal(SIGTERM);
  return process_ ? process_->wait(seconds) : -1;
}

std::string ServiceProcess::log() const {
  const auto bytes = bytes_of_file(log_file_);
  return {bytes.begin(), bytes.end()};
}

}  // namespace hindcast::test
