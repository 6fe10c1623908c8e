// The door to a hindcast-server for views, beside query.h: plain values in and out, HTTP inside.
//
//   Remote::at(address)  ->  Remote  ->  status(), incidents()   what the server knows
//                                        snapshot()              freeze hosts now
//                                        run()                   a command's answer, as it comes
//                                        fetch(), upload()       whole bundles
//
// Every Error says what was found at which address, and what to do. Each call is one connection; no call retries.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "hindcast/result.h"
#include "server/remote_types.h"

namespace hindcast::server {

struct RemoteAddress {
  std::string url;         // http://HOST:PORT
  std::string token;       // empty: none
  std::string token_file;  // its first line is the token; empty: `token`
};

struct SnapshotOrder {
  std::string reason;
  std::vector<std::string> hosts;  // empty: all that the server knows
  std::string wait = "frozen";     // frozen, durable or committed
  std::chrono::milliseconds timeout{30000};
};

class Remote {
 public:
  /// Connects to nothing yet. Errors: usage for a URL that is none; of the token file: not_found, permission, bad_input.
  static Result<Remote> at(const RemoteAddress& address);
  const std::string& url() const { return url_; }

  // Errors of all: unavailable (nothing listens, no answer, busy), permission (token), bad_input (another version), and
  // what the server says; io when the connection breaks.
  Result<RemoteStatus> status() const;
  /// Newest first, at most `most` (1 to 1000), only older than the incident `before` when that is not empty.
  Result<std::vector<RemoteIncident>> incidents(size_t most, const std::string& before = {}) const;
  Result<RemoteIncident> incident(const std::string& id) const;
  /// Comes back when every host is as far as asked for or never will be, or the time is over: the hosts say which.
  Result<RemoteIncident> snapshot(const SnapshotOrder& order) const;

  using Bytes = std::function<bool(std::string_view)>;  // false: no more, which ends the call with an Error
  /// The exit code of `hindcast COMMAND` on the server; what it writes is passed on at once. options: "--name=value".
  Result<int> run(const std::string& command, const std::string& incident, const std::string& host,
                  const std::vector<std::string>& options, const Bytes& out, const Bytes& err) const;

  using Progress = std::function<void(uint64_t done, uint64_t total)>;
  /// The bundle as file `path`: under another name beside it until it is whole, then renamed, replacing what is there.
  Result<void> fetch(const std::string& incident, const std::string& host, const std::string& path,
                     const Progress& progress) const;
  /// The incident that has the bundle now.
  Result<RemoteIncident> upload(const std::string& path, const std::string& reason, const Progress& progress) const;

 private:
  std::string url_, host_, token_;
  int port_ = 0;

  struct Exchange;
  Result<void> exchange(Exchange& e) const;
  Result<std::string> get(const std::string& path) const;
};

/// Makes a key pair for a host or a server: PATH.secret (mode 0600) and PATH.public. The public key. Errors: io, permission;
/// usage when either file exists.
Result<std::string> make_key_files(const std::string& path);

}  // namespace hindcast::server
