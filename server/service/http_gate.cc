#include "server/service/http_gate.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>

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
