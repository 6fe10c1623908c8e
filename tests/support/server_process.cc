#include "tests/support/server_process.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>

#include "tests/support/tcp_proxy.h"

namespace hindcast::test {

ServerProcess::ServerProcess(std::string program, const std::vector<std::string>& hosts, std::string store)
    : program_(std::move(program)), endpoint_("tcp://127.0.0.1:" + std::to_string(free_port())) {
  if (!transport::write_key_files(folder_ / "server", keys_).ok()) std::abort();
  write_allow_list(hosts);
  std::ofstream(folder_ / "server.toml") << "[listen]\nendpoint = \"" << endpoint_
                                         << "\"\nhttp = \"127.0.0.1:0\"\n[keys]\nkey_file = \""
                                         << folder_ / "server.secret"
                                         << "\"\nallow_file = \"" << folder_ / "hosts"
                                         << "\"\n[store]\nfolder = \"" << folder_ / "store"
                                         << "\"\n"
                                         << store;
}

ServerProcess::~ServerProcess() { kill(); }

void ServerProcess::write_allow_list(const std::vector<std::string>& hosts) {
  std::string text;
  for (const std::string& host : hosts) {
    if (!host_keys_.contains(host)) host_keys_[host] = transport::make_key_pair();
    text += host + " " + host_keys_[host].public_key + "\n";
  }
  std::ofstream(folder_ / "hosts") << text;
  ::chmod((folder_ / "hosts").c_str(), 0600);
}

bool ServerProcess::start() {
  const size_t said = log().size();
  const std::string config = folder_ / "server.toml", log_file = folder_ / "server.log";
  const char* const argv[] = {program_.c_str(), "--config", config.c_str(), nullptr};
  pid_ = ::fork();
  if (pid_ == 0) {
    const int null = ::open("/dev/null", O_RDWR);
    const int to = ::open(log_file.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    ::dup2(null, 0);
    ::dup2(null, 1);
    ::dup2(to, 2);
    ::execv(argv[0], const_cast<char* const*>(argv));
    ::_exit(127);
  }
  std::string line;
  wait_for(
      [&] {
        const std::string all = log();
        const size_t at = all.find(", http http://", said);
        const size_t end = at == all.npos ? all.npos : all.find('\n', at);
        if (end != all.npos) line = all.substr(at + 7, end - at - 7);
        return !line.empty() || !running();
      },
      30);
  if (line.empty()) return false;
  url_ = line;
  client_.emplace(url_);
  return true;
}

bool ServerProcess::running() {
  if (pid_ > 0 && ::waitpid(pid_, &status_, WNOHANG) == pid_) pid_ = -1;
  return pid_ > 0;
}

void ServerProcess::kill() {
  if (!running()) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, &status_, 0);
  pid_ = -1;
}

void ServerProcess::signal(int number) {
  if (running()) ::kill(pid_, number);
}

int ServerProcess::terminate() {
  signal(SIGTERM);
  if (!wait_for([&] { return !running(); }, 30)) return -1;
  return WIFEXITED(status_) ? WEXITSTATUS(status_) : 128 + WTERMSIG(status_);
}

std::string ServerProcess::log() const {
  const auto bytes = bytes_of_file(folder_ / "server.log");
  return {bytes.begin(), bytes.end()};
}

FakeDaemon::Config ServerProcess::host(const std::string& name) const {
  FakeDaemon::Config c;
  c.host = name;
  c.endpoint = endpoint_;
  c.folder = folder_ / ("spool-" + name);
  c.server_key = keys_.public_key;
  c.keys = host_keys_.at(name);
  return c;
}

}  // namespace hindcast::test
