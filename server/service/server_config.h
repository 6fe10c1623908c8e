// What hindcast-server.toml says. server/hindcast-server.example.toml shows each setting with its default.
#pragma once

#include <chrono>
#include <string>

#include "hindcast/result.h"
#include "server/service/http_gate.h"
#include "server/service/retention.h"

namespace hindcast::server {

struct ServerConfig {
  std::string endpoint = "tcp://127.0.0.1:7411";  // of the transport, as ZeroMQ writes it; port "*": a free one
  HttpAddress http{"127.0.0.1", 7412};
  std::string http_token_file;  // empty: no token
  std::string key_file;         // PATH.secret of the server
  std::string allow_file;       // hosts and their keys
  std::string folder;           // the store
  uint64_t limit_bytes = 0;     // of all files in it; beyond it the server takes nothing more; 0: none
  Keep keep;
  uint32_t run_children = 4;
  std::chrono::seconds run_limit{600};
};

/// Errors: with everything that is wrong with the file at once.
Result<ServerConfig> read_server_config(const std::string& path);
Result<ServerConfig> parse_server_config(const std::string& text, const std::string& origin);

}  // namespace hindcast::server
