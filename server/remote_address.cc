#include "server/remote_address.h"

#include <algorithm>
#include <charconv>

namespace hindcast::server {

Result<HostPort> parse_server_url(const std::string& url) {
  const auto wrong = [&](const std::string& why) {
    return Error{
        Errc::usage, "cannot use the server address '" + url + "': " + why, {}, "write it as in http://127.0.0.1:7412"};
  };
  constexpr std::string_view kScheme = "http://";
  if (url.starts_with("https://"))
    return Error{
        Errc::usage, "cannot use the server address '" + url + "'", "hindcast-server speaks plain HTTP",
        "reach it through a tunnel, as in  ssh -N -L 7412:127.0.0.1:7412 HOST  and name http://127.0.0.1:7412"};
  if (!url.starts_with(kScheme)) return wrong("it does not begin with http://");
  std::string_view rest = std::string_view(url).substr(kScheme.size());
  if (rest.ends_with('/')) rest.remove_suffix(1);
  HostPort to;
  if (rest.starts_with('[')) {
    const size_t close = rest.find(']');
    if (close == rest.npos) return wrong("a bracket is open");
    to.host = rest.substr(1, close - 1);
    rest.remove_prefix(close + 1);
  } else {
    const size_t colon = std::min(rest.find(':'), rest.size());
    to.host = rest.substr(0, colon);
    rest.remove_prefix(colon);
  }
  const bool plain = std::all_of(to.host.begin(), to.host.end(), [](unsigned char c) {
    return std::isalnum(c) || c == '.' || c == '-' || c == '_' || c == ':' || c == '%';
  });
  if (to.host.empty() || !plain) return wrong("no host name or address");
  if (rest.empty()) return to;
  if (!rest.starts_with(':')) return wrong("more than a host and a port");
  rest.remove_prefix(1);
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), to.port);
  if (error != std::errc() || end != rest.data() + rest.size() || to.port < 1 || to.port > 65535)
    return wrong("no port from 1 to 65535");
  return to;
}

std::string percent_encoded(std::string_view text) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const auto u = static_cast<unsigned char>(c);
    const bool plain = (u < 0x80 && std::isalnum(u)) || c == '-' || c == '.' || c == '_' || c == '~';
    if (plain)
      out += c;
    else
      out += {'%', kHex[u >> 4], kHex[u & 15]};
  }
  return out;
}

}  // namespace hindcast::server
