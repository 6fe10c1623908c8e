#include "tests/support/server_process.h"

#include <sys/stat.h>

#include <cstdlib>
#include <fstream>

#include "tests/support/tcp_proxy.h"

namespace hindcast::test {

ServerProcess::ServerProcess(std::string program, const std::vector<std::string>& hosts, std::string store,
                             const Place& place, const std::string& address)
    : process_({std::move(program), "--config", folder_ / "server.toml"}, folder_ / "server.log", place),
      endpoint_("tcp://" + address + ":" + std::to_string(free_port())) {
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
  constexpr std::string_view kBefore = ", http ";
  const std::string line = process_.start(std::string(kBefore) + "http://");
  if (line.empty()) return false;
  url_ = line.substr(line.find(kBefore) + kBefore.size());
  client_.emplace(url_);
  return true;
}

bool ServerProcess::connected(const std::string& host) {
  const nlohmann::json status = http().get("/v1/status").json;
  if (!status.contains("hosts")) return false;
  for (const nlohmann::json& h : status.at("hosts"))
    if (h.at("host") == host) return h.at("connected");
  return false;
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
