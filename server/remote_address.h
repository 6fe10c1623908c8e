// Where a server is and how requests to it are spelled.
#pragma once

#include <string>
#include <string_view>

#include "hindcast/result.h"

namespace hindcast::server {

struct HostPort {
  std::string host;  // without the brackets of an IPv6 address
  int port = 7412;
};

/// "http://HOST[:PORT]", a "/" behind it or not. Errors: usage.
Result<HostPort> parse_server_url(const std::string& url);

/// For a query's value: every byte but letters, digits and "-._~" as %XX.
std::string percent_encoded(std::string_view text);

}  // namespace hindcast::server
