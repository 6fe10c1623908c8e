// Records a command with the built programs, truth included, into a folder of its own.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "tests/support/long_run.h"
#include "tests/support/run_program.h"
#include "tests/support/sim_run.h"

namespace hindcast::test {

inline std::string bin(const std::string& name) { return std::string(HC_BIN_DIR) + "/" + name; }

struct Recording {
  TempFolder folder;
  std::string bundle = folder.path() + "/run.hcb";
  std::string truth = folder.path() + "/truth";
  Ran record;

  std::vector<std::string> command_line(const std::string& pt, const std::vector<std::string>& more,
                                        const std::vector<std::string>& command) {
    std::filesystem::create_directories(truth);
    std::vector<std::string> argv = {bin("hindcast"), "record",  "--source", "simulated", "-o",
                                     bundle,          "--truth", truth,      "--pt",      pt};
    argv.insert(argv.end(), more.begin(), more.end());
    argv.push_back("--");
    argv.insert(argv.end(), command.begin(), command.end());
    return argv;
  }
  void run(const std::string& pt, const std::vector<std::string>& more, const std::vector<std::string>& command) {
    record = run_program(command_line(pt, more, command));
  }
};

}  // namespace hindcast::test
