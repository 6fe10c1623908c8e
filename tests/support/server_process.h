// The real hindcast-server, with keys, an allow-list and a store in a folder that goes away.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tests/support/fake_daemon.h"
#include "tests/support/http_client.h"
#include "tests/support/run_program.h"
#include "tests/support/service_process.h"
#include "transport/keys.h"

namespace hindcast::test {

/// Started, killed and started again as often as wanted; the transport's port stays. Ended by its own process id.
class ServerProcess {
 public:
  /// program: the executable. More lines for the configuration's [store] table may follow.
  ///   address  that hosts reach it at; HTTP is on the loopback of its place
  explicit ServerProcess(std::string program, const std::vector<std::string>& hosts = {"h"}, std::string store = {},
                         const Place& place = {}, const std::string& address = "127.0.0.1");

  /// True once it says that it listens. False: it ended instead, or said nothing for 30 s.
  bool start();
  void kill() { process_.kill(); }
  int terminate() { return process_.terminate(); }
  void signal(int number) { process_.signal(number); }
  bool running() { return process_.running(); }
  int pid() const { return process_.pid(); }

  HttpClient& http() { return *client_; }
  const std::string& url() const { return url_; }
  std::string log() const { return process_.log(); }  // all it ever said
  /// True while this host's daemon is connected, as the server says.
  bool connected(const std::string& host = "h");
  FakeDaemon::Config host(const std::string& name) const;
  std::string bundles() const { return folder_ / "store/bundles"; }
  const TempFolder& folder() const { return folder_; }
  void write_allow_list(const std::vector<std::string>& hosts);

 private:
  TempFolder folder_;
  ServiceProcess process_;
  transport::KeyPair keys_ = transport::make_key_pair();
  std::map<std::string, transport::KeyPair> host_keys_;
  std::string endpoint_, url_;
  std::optional<HttpClient> client_;
};

}  // namespace hindcast::test
