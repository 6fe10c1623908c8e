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

/// The first line of a file that only its owner may read. Errors: not_found, io, permission, bad_input.
Result<std::string> read_token(const std::string& path);

/// A token that may stand in a header: printable, no blanks. Errors: usage; `from` says where it comes from.
Result<void> check_token(const std::string& token, const std::string& from);

}  // namespace hindcast::server
