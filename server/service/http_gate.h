// Who may ask the server anything over HTTP: decided from a request's headers alone.
#pragma once

#include <optional>
#include <string>

#include "hindcast/result.h"

namespace hindcast::server {

/// "127.0.0.1:7412" or "[::1]:7412", port 0: a free one.
struct HttpAddress {
  std::string host;
  int port = 0;
  bool loopback() const;
};
/// Errors: usage.
Result<HttpAddress> parse_http_address(const std::string& text);

struct Headers {
  std::string authorization, host, origin;  // empty: not there
};

/// The answer to one who may not ask; `status` is that of HTTP. With a token every request must bring it. Without one the server
/// is on a loopback address, where any web page that a user of this machine opens could send requests: those are told by their
/// Origin, or by a Host that is no loopback name, and turned away.
struct Refusal {
  int status = 401;
  Error error;
};
std::optional<Refusal> refuse(const Headers& headers, const std::string& token);

}  // namespace hindcast::server
