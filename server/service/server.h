// hindcast-server as an object: the store, the catalog, the transport's end and the HTTP interface, started and stopped in order.
//
//   FOLDER/lock             held with flock while a server runs
//   FOLDER/catalog.sqlite   catalog.h
//   FOLDER/bundles/         transport/file_sink.h: HOST/INCIDENT.hcb
//   FOLDER/uploads/         uploads under way
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "hindcast/result.h"
#include "server/service/server_config.h"

namespace hindcast::server {

class Server {
 public:
  /// Runs when it returns. `write` gets one line for each event, from any thread. `program`: the hindcast executable. Errors:
  /// whatever keeps a part from starting; usage when another server has the store.
  static Result<std::unique_ptr<Server>> start(const ServerConfig& config, const std::string& program,
                                               std::function<void(const std::string&)> write);
  ~Server();

  std::string transport_endpoint() const;
  std::string http_url() const;

  /// Reads the allow-list again. Errors: those of the file; the old list stays.
  Result<void> reload();
  /// To be called every few seconds: removes what is not to be kept.
  void tick();
  /// Ends what is under way. False: some HTTP client would not let go; then the process may only exit.
  bool stop();

 private:
  struct Impl;
  explicit Server(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace hindcast::server
