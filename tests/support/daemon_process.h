// The real hindcastd under the simulated source, with its settings and its spool in a folder that goes away.
#pragma once

#include <string>
#include <vector>

#include "tests/support/fake_daemon.h"
#include "tests/support/run_program.h"
#include "tests/support/service_process.h"

namespace hindcast::test {

/// Started, killed and started again as often as wanted; the spool stays. What it runs is ended with it.
class DaemonProcess {
 public:
  /// host: name, address and keys, as ServerProcess::host() gives them. More lines for the [trace] table may follow.
  DaemonProcess(std::string program, const FakeDaemon::Config& host, const std::vector<std::string>& command,
                const std::string& trace = {}, const Place& place = {});
  ~DaemonProcess() { kill(); }

  bool start() { return !process_.start("armed: ").empty(); }
  void kill();  // -9, and the command after it
  int terminate() { return process_.terminate(60); }
  bool running() { return process_.running(); }
  int pid() const { return process_.pid(); }
  std::string log() const { return process_.log(); }
  std::string spool() const { return folder_ / "spool"; }
  /// What the command really executed, since the first start.
  std::string truth() const { return folder_ / "truth"; }

 private:
  TempFolder folder_;
  ServiceProcess process_;
};

}  // namespace hindcast::test
