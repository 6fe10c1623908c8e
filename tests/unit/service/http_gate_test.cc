#include "server/service/http_gate.h"

#include <gtest/gtest.h>

#include "tests/unit/service/must.h"

namespace hindcast::server {
namespace {

const std::string kToken = "0123456789abcdef0123";

TEST(HttpGate, WithATokenEveryRequestBringsIt) {
  EXPECT_FALSE(refuse({"Bearer " + kToken, "server:7412", ""}, kToken));
  EXPECT_FALSE(refuse({"Bearer " + kToken, "", "http://page"}, kToken));
  for (const std::string& other :
       {std::string(), std::string("Bearer "), "Bearer " + kToken + "4", "Bearer " + kToken.substr(1), kToken,
        "Basic " + kToken, "bearer " + kToken, "Bearer  " + kToken, "Bearer " + kToken.substr(0, 19) + "4"}) {
    const auto refusal = refuse({other, "127.0.0.1", ""}, kToken);
    ASSERT_TRUE(refusal) << other;
    EXPECT_EQ(refusal->status, 401);
    EXPECT_EQ(refusal->error.text().find(kToken), std::string::npos);
  }
}

TEST(HttpGate, WithoutOneNoWebPageMayAsk) {
  for (const char* host : {"127.0.0.1", "127.0.0.1:7412", "127.3.2.1:80", "localhost:7412", "[::1]:7412", "[::1]"})
    EXPECT_FALSE(refuse({"", host, ""}, "")) << host;
  for (const char* host : {"", "evil.example", "evil.example:7412", "127.0.0.1.evil.example", "10.0.0.1:7412", "[::2]",
                           "localhost.evil.example", "128.0.0.1"}) {
    const auto refusal = refuse({"", host, ""}, "");
    ASSERT_TRUE(refusal) << host;
    EXPECT_EQ(refusal->status, 403);
  }
  EXPECT_TRUE(refuse({"", "127.0.0.1:7412", "http://evil.example"}, ""));
  EXPECT_TRUE(refuse({"", "127.0.0.1:7412", "null"}, ""));
}

TEST(HttpGate, AddressesAreReadAndLoopbackIsKnown) {
  EXPECT_EQ(must(parse_http_address("127.0.0.1:7412")).port, 7412);
  EXPECT_EQ(must(parse_http_address("[::1]:*")).host, "::1");
  EXPECT_EQ(must(parse_http_address("localhost:0")).port, 0);
  EXPECT_TRUE(must(parse_http_address("localhost:0")).loopback());
  EXPECT_TRUE(must(parse_http_address("[::1]:1")).loopback());
  EXPECT_FALSE(must(parse_http_address("0.0.0.0:80")).loopback());
  EXPECT_FALSE(must(parse_http_address("[::]:80")).loopback());
  for (const char* text : {"", "127.0.0.1", ":80", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:70000", "127.0.0.1:-1",
                           "::1:80", "127.0.0.1:80x"})
    EXPECT_FALSE(parse_http_address(text).ok()) << text;
}

}  // namespace
}  // namespace hindcast::server
