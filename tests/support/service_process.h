// A service of ours that runs while a test goes on: started, killed and started again, with all it ever said in one file.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tests/support/background.h"

namespace hindcast::test {

/// Ended by its own process id when this is destroyed.
class ServiceProcess {
 public:
  /// stdin and stdout are /dev/null; stderr is appended to log_file.
  ServiceProcess(std::vector<std::string> argv, std::string log_file, Place place = {})
      : argv_(std::move(argv)), log_file_(std::move(log_file)), place_(std::move(place)) {}
  ~ServiceProcess() { kill(); }
  ServiceProcess(const ServiceProcess&) = delete;
  ServiceProcess& operator=(const ServiceProcess&) = delete;

  /// The first line since then that has `words`, once there is one; empty: it ended instead, or said nothing for 30 s.
  std::string start(const std::string& words);
  void kill();                         // -9
  int terminate(double seconds = 30);  // SIGTERM; its exit code (128 + N for signal N), -1 when it did not end by then
  void signal(int number);
  bool running() { return process_ && process_->running(); }
  int pid() const { return process_ ? process_->pid() : -1; }
  std::string log() const;

 private:
  const std::vector<std::string> argv_;
  const std::string log_file_;
  const Place place_;
  std::optional<Background> process_;
};

}  // namespace hindcast::test
