// The real hindcast-server, with keys, an allow-list and a store in a folder that goes away.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/support/fake_daemon.h"
#include "tests/support/http_client.h"
#include "tests/support/run_program.h"
#include "transport/keys.h"

namespace hindcast::test {

/// Started, killed and started again as often as wanted; the transport's port stays. Ended by its own process id.
class ServerProcess {
 public:
  /// program: the executable. More lines for the configuration's [store] table may follow.
  explicit ServerProcess(std::string program, const std::vector<std::string>& hosts = {"h"}, std::string store = {});
  ~ServerProcess();

  /// True once it says that it listens. False: it ended instead, or said nothing for 30 s.
  bool start();
  void kill();      // -9
  int terminate();  // SIGTERM; its exit code, -1 when it did not end within 30 s
  void signal(int number);
  bool running();

  HttpClient& http() { return *client_; }
  const std::string& url() const { return url_; }
  std::string log() const;  // all it ever said
  FakeDaemon::Config host(const std::string& name) const;
  std::string bundles() const { return folder_ / "store/bundles"; }
  const TempFolder& folder() const { return folder_; }
  void write_allow_list(const std::vector<std::string>& hosts);

 private:
  const std::string program_;
  TempFolder folder_;
  transport::KeyPair keys_ = transport::make_key_pair();
  std::map<std::string, transport::KeyPair> host_keys_;
  std::string endpoint_, url_;
  std::optional<HttpClient> client_;
  int pid_ = -1;
  int status_ = -1;
};

}  // namespace hindcast::test
