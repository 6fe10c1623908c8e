#include "server/service/server_config.h"

#include "transport/durable_file.h"
#include "transport/settings.h"

namespace hindcast::server {

Result<ServerConfig> parse_server_config(const std::string& text, const std::string& origin) {
  HC_TRY(transport::Settings s, transport::Settings::parse(text, origin));
  ServerConfig c;
  c.endpoint = s.text("listen.endpoint", c.endpoint);
  if (!c.endpoint.starts_with("tcp://")) s.wrong("listen.endpoint", "not tcp://ADDRESS:PORT");
  const std::string http = s.text("listen.http", "127.0.0.1:7412");
  const auto address = parse_http_address(http);
  if (address.ok())
    c.http = *address;
  else
    s.wrong("listen.http", "not ADDRESS:PORT");
  c.http_token_file = s.text("listen.http_token_file", "");
  if (address.ok() && !c.http.loopback() && c.http_token_file.empty())
    s.wrong("listen.http_token_file", "needed when listen.http is no loopback address");
  c.key_file = s.needed_text("keys.key_file");
  c.allow_file = s.needed_text("keys.allow_file");
  c.folder = s.needed_text("store.folder");
  c.limit_bytes = s.bytes("store.limit", 0);
  c.keep.bytes = s.bytes("store.keep_bytes", 0);
  c.keep.age = std::chrono::seconds(s.seconds("store.keep_age", 0));
  c.run_children = static_cast<uint32_t>(s.number("run.children", c.run_children, 1, 64));
  c.run_limit = std::chrono::seconds(s.number("run.seconds", 600, 1, 86400));
  HC_TRY_VOID(s.finish());
  return c;
}

Result<ServerConfig> read_server_config(const std::string& path) {
  HC_TRY(const auto bytes, transport::read_small(path, uint64_t{64} << 10));
  return parse_server_config(std::string(bytes.begin(), bytes.end()), path);
}

}  // namespace hindcast::server
