// Commands that ask a hindcast-server instead of reading a bundle here.
#pragma once

#include "server/remote.h"
#include "server/views/cli/cli.h"

namespace hindcast::server::cli {

/// The server that --server, --token-file and HINDCAST_TOKEN mean. Errors: as Remote::at().
Result<Remote> open_remote(const Request& request);

/// What "INCIDENT", "INCIDENT/HOST", "latest" and "latest/HOST" mean.
struct RemoteName {
  std::string incident;
  std::string host;  // empty: the server decides, when the incident has one
};
/// Asks the server what the latest is. Errors: not_found without any; as Remote.
Result<RemoteName> resolve_name(const Remote& remote, const std::string& text);
/// The same with the host filled in. Errors: usage when several hosts have a bundle, not_found when none has; both list them.
Result<RemoteName> resolve_bundle(const Remote& remote, const std::string& text);

/// Runs `hindcast COMMAND` with the options that were typed on the server, on what request.file names; what it writes goes
/// where it would go here. Its exit code.
int ask(const Request& request, const std::string& command);

/// ls without a name: the server's incidents, newest first.
int list_incidents(const Request& request);

/// One line for a person: how far a host's snapshot is and what that means. "frozen, not durable yet: ...".
std::string state_words(const RemoteSnapshot& snapshot);
/// Incidents as a table.
void print_incidents(Output& out, const std::vector<RemoteIncident>& incidents);
/// As an object of type "incident".
void json_incident(Output& out, const RemoteIncident& incident);
/// Its id on stdout, or all of it with --json. kDone or kFailed.
int answer_with(const Request& request, const RemoteIncident& incident);

/// Sends a bundle, with a bar.
Result<RemoteIncident> send_bundle(const Request& request, const std::string& path, const std::string& reason);
/// For what a command just wrote: sends it, says its incident on stderr. kDone, or kFailed: the file is still here, and how to
/// send it is said.
int send_written(const Request& request, const std::string& path, const std::string& reason);
/// Says where a bundle is to be looked at.
void say_kept(const Request& request, const std::string& incident);

/// What request.file names, downloaded with a bar into a file that is removed with this.
class FetchedBundle {
 public:
  static Result<FetchedBundle> get(const Request& request);
  FetchedBundle(FetchedBundle&& o) noexcept;
  ~FetchedBundle();
  const std::string& path() const { return path_; }
  const RemoteName& name() const { return name_; }

 private:
  FetchedBundle() = default;
  std::string folder_, path_;
  RemoteName name_;
};

/// What is wrong with the server or its hosts, if anything. kFailed: it cannot freeze all its hosts.
int server_doctor(const Request& request);

}  // namespace hindcast::server::cli
