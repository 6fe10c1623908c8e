#include "tests/support/daemon_process.h"

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace hindcast::test {
namespace {

namespace fs = std::filesystem;

/// Processes whose parent it is.
std::vector<int> children_of(int pid) {
  std::vector<int> all;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    std::ifstream in(entry.path() / "stat");
    std::stringstream text;
    text << in.rdbuf();
    const std::string stat = text.str();
    const size_t name_end = stat.rfind(") ");
    if (name_end == stat.npos) continue;
    int parent = 0;
    char state = 0;
    if (std::sscanf(stat.c_str() + name_end, ") %c %d", &state, &parent) == 2 && parent == pid)
      all.push_back(std::atoi(stat.c_str()));
  }
  return all;
}

}  // namespace

DaemonProcess::DaemonProcess(std::string program, const FakeDaemon::Config& host,
                             const std::vector<std::string>& command, const std::string& trace, const Place& place)
    : process_(
          [&] {
            std::vector<std::string> argv{std::move(program), "--config", folder_ / "hindcastd.toml", "--"};
            argv.insert(argv.end(), command.begin(), command.end());
            return argv;
          }(),
          folder_ / "hindcastd.log", place) {
  if (!transport::write_key_files(folder_ / "host", host.keys).ok()) std::abort();
  std::ofstream(folder_ / "server.public") << "public " << host.server_key << "\n";
  fs::create_directories(truth());
  std::ofstream(folder_ / "hindcastd.toml")
      << "host = \"" << host.host << "\"\n[server]\nendpoint = \"" << host.endpoint
      << "\"\npublic_key_file = \"server.public\"\nkey_file = \"host.secret\"\nbytes_per_second = \""
      << host.bytes_per_second << " B\"\n[spool]\nfolder = \"spool\"\n[freeze]\ncooldown = \"0 s\"\n[trace]\n"
      << "source = \"simulated\"\ntruth = \"truth\"\n"
      << trace;
}

void DaemonProcess::kill() {
  const std::vector<int> children = running() ? children_of(pid()) : std::vector<int>{};
  process_.kill();
  for (const int child : children) ::kill(child, SIGKILL);  // its parent is dead: it runs on as a stranger's
}

}  // namespace hindcast::test
