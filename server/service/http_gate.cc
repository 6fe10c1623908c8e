#include "server/service/http_gate.h"

#include <arpa/inet.h>
#include <sys/stat.h>

#include <algorithm>
#include <charconv>

#include "hindcast/fd.h"
#include "transport/durable_file.h"

namespace hindcast::server {
namespace {

bool is_loopback(std::string host) {
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  if (host == "localhost" || host == "::1") return true;
  in_addr v4{};
  return ::inet_pton(AF_INET, host.c_str(), &v4) == 1 && (ntohl(v4.s_addr) >> 24) == 127;
}

/// Takes as long for a wrong first character as for a wrong last one.
bool same(const std::string& a, const std::string& b) {
  unsigned difference = a.size() != b.size();
  for (size_t i = 0; i < a.size(); ++i)
    difference |= static_cast<unsigned char>(a[i]) ^ static_cast<unsigned char>(b[b.empty() ? 0 : i % b.size()]);
  return difference == 0;
}

/// "host:port" or "host" without the port.
std::string without_port(const std::string& text) {
  const size_t colon = text.rfind(':');
  return colon == text.npos || text.ends_with(']') ? text : text.substr(0, colon);
}

}  // namespace

bool HttpAddress::loopback() const { return is_loopback(host); }

Result<HttpAddress> parse_http_address(const std::string& text) {
  const Error wrong{Errc::usage, "cannot listen for HTTP on '" + text + "'", "no ADDRESS:PORT",
                    "write it as in 127.0.0.1:7412 or [::1]:7412"};
  const size_t colon = text.rfind(':');
  if (colon == text.npos || colon == 0) return wrong;
  HttpAddress a;
  a.host = text.substr(0, colon);
  if (a.host.starts_with('[') && a.host.ends_with(']'))
    a.host = a.host.substr(1, a.host.size() - 2);
  else if (a.host.find(':') != a.host.npos)
    return wrong;
  const std::string port = text.substr(colon + 1);
  if (port == "*") return a;
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), a.port);
  if (error != std::errc() || end != port.data() + port.size() || a.port < 0 || a.port > 65535) return wrong;
  return a;
}

Result<std::string> read_token_file(const std::string& path) {
  struct stat st {};
  if (::stat(path.c_str(), &st) != 0) return errno_error("cannot read the token file", path);
  if (st.st_mode & 077)
    return Error{Errc::permission,
                 "cannot use the token file " + path + ": others than its owner may read or change it",
                 {},
                 "chmod 600 " + path};
  HC_TRY(const auto bytes, transport::read_small(path, 4096));
  std::string token(bytes.begin(), std::find(bytes.begin(), bytes.end(), '\n'));
  const bool plain = std::all_of(token.begin(), token.end(), [](char c) { return c > 0x20 && c < 0x7f; });
  if (token.size() < 16 || token.size() > 512 || !plain)
    return Error{Errc::bad_input, "cannot use the token file " + path,
                 "its first line is not 16 to 512 printable characters without blanks",
                 "make one:  (umask 077; head -c 32 /dev/urandom | base64 > " + path + ")"};
  return token;
}

std::optional<Refusal> refuse(const Headers& h, const std::string& token) {
  if (!token.empty()) {
    constexpr const char* kScheme = "Bearer ";
    if (h.authorization.starts_with(kScheme) && same(h.authorization.substr(7), token)) return std::nullopt;
    return Refusal{401,
                   {Errc::permission, "refused: this server wants a token",
                    h.authorization.empty() ? "a request without one" : "another token",
                    "give the content of its token file: HINDCAST_TOKEN or --token-file"}};
  }
  if (!h.origin.empty())
    return Refusal{403,
                   {Errc::permission, "refused: the request comes from a web page", {}, "use the hindcast command"}};
  if (!is_loopback(without_port(h.host)))
    return Refusal{403,
                   {Errc::permission,
                    "refused: the request's Host is no loopback address",
                    {},
                    "ask for 127.0.0.1, or give the server a token"}};
  return std::nullopt;
}

}  // namespace hindcast::server
