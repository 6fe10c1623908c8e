// Requests to hindcast-server, and its answers as JSON.
#pragma once

#include <httplib.h>

#include <nlohmann/json.hpp>
#include <string>

namespace hindcast::test {

struct Answer {
  int status = 0;  // 0: no connection
  nlohmann::json json;
  std::string body;
};

/// What a run of /v1/run gave.
struct RunAnswer {
  int status = 0;
  std::string out, err, body;
  int code = -1;  // -1: no exit frame
};

class HttpClient {
 public:
  explicit HttpClient(const std::string& url) : client_(url) {
    client_.set_read_timeout(120);
    client_.set_connection_timeout(30);
  }
  Answer get(const std::string& path, const httplib::Headers& headers = {}) {
    return answer(client_.Get(path, headers));
  }
  Answer post(const std::string& path, const std::string& body) {
    return answer(client_.Post(path, body, "application/json"));
  }
  Answer put(const std::string& path, const std::string& body) {
    return answer(client_.Put(path, body, "application/octet-stream"));
  }
  RunAnswer run(const nlohmann::json& request) {
    const auto res = client_.Post("/v1/run", request.dump(), "application/json");
    RunAnswer a;
    if (!res) return a;
    a.status = res->status;
    a.body = res->body;
    for (size_t at = 0; res->status == 200 && at + 5 <= a.body.size();) {
      const auto byte = [&](size_t i) { return static_cast<uint32_t>(static_cast<unsigned char>(a.body[at + i])); };
      const uint32_t kind = byte(0), length = byte(1) | byte(2) << 8 | byte(3) << 16 | byte(4) << 24;
      const std::string bytes = a.body.substr(at + 5, length);
      at += 5 + length;
      if (kind == 1) a.out += bytes;
      if (kind == 2) a.err += bytes;
      if (kind == 3) a.code = static_cast<unsigned char>(bytes.at(0));
    }
    return a;
  }
  httplib::Client& raw() { return client_; }

 private:
  static Answer answer(const httplib::Result& res) {
    if (!res) return {};
    return {res->status, nlohmann::json::parse(res->body, nullptr, false), res->body};
  }
  httplib::Client client_;
};

}  // namespace hindcast::test
