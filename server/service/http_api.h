// The HTTP interface, version 1, on cpp-httplib: a listening thread, a fixed number of worker threads, one request for each
// connection. The paths are listed in server/README.md.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "hindcast/result.h"
#include "server/service/http_gate.h"
#include "server/service/http_json.h"
#include "server/service/incidents.h"
#include "server/service/log.h"
#include "server/service/run_command.h"
#include "server/service/upload.h"
#include "transport/file_sink.h"

namespace hindcast::server {

struct HttpConfig {
  HttpAddress address;
  std::string token;        // empty: none; then the address must be a loopback one
  RunOptions run;           // of commands; its folder is that of bundles
  std::string program;      // the hindcast executable
  size_t run_children = 4;  // at once
};

/// Outlive the interface.
struct HttpParts {
  Catalog& catalog;
  Incidents& incidents;
  transport::FileSink& sink;
  Uploads& uploads;
  Log& log;
  std::function<Result<StatusReport>()> status;  // all but the counters of the interface itself
};

class HttpApi {
 public:
  /// Listens when it returns. Errors: usage (no token for an address that others reach), io (cannot bind).
  static Result<std::unique_ptr<HttpApi>> start(HttpConfig config, HttpParts parts);
  ~HttpApi();

  std::string url() const;  // "http://127.0.0.1:7412"
  /// Takes no more requests, ends what is under way: waits answer with how far things are, children are killed, transfers are
  /// cut. False: some client would not let go of its answer within `patience`; then the process may only exit.
  bool stop(std::chrono::milliseconds patience);

 private:
  struct Impl;
  explicit HttpApi(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace hindcast::server
