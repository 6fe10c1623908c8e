// Runs a program under QEMU with the plugin, as the recorder would.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "hindcast/result.h"
#include "tests/support/channel_drain.h"
#include "tests/support/truth_reader.h"

namespace hindcast::test {

/// Where this build keeps the plugin and a test program. Empty when it was built without them (sanitizers).
std::string plugin_path();
std::string test_program(const std::string& name);

inline constexpr const char* kNoPluginText =
    "this build has no plugin: QEMU does not run under a sanitizer; the release build runs this test";

#define HC_REQUIRE_PLUGIN() \
  if (::hindcast::test::plugin_path().empty()) GTEST_SKIP() << ::hindcast::test::kNoPluginText

/// A folder of its own that is removed with what is in it.
class ScratchFolder {
 public:
  ScratchFolder();
  ~ScratchFolder();
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

struct SimRun {
  int status = 0;      // as waitpid gives it
  std::string output;  // of stdout
  std::unique_ptr<ChannelDrain> drain;
  std::unique_ptr<ScratchFolder> folder;
  Truth truth;
};

enum class SimWith { channel_and_truth, channel, truth };

/// Runs argv to its end. Errors: not_found without QEMU or plugin, and what the truth's reader finds.
Result<SimRun> run_simulated(const std::vector<std::string>& argv, SimWith with);

/// Empty when the channel tells of the same processes, threads and instructions as the truth; else what differs first.
/// A thread that was killed may end at most a few blocks apart. instructions: how many were compared.
std::string compare_with_truth(SimRun& run, uint64_t& instructions);

}  // namespace hindcast::test
