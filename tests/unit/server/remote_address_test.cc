#include "server/remote_address.h"

#include <gtest/gtest.h>

namespace hindcast::server {
namespace {

TEST(ServerUrl, IsTakenApart) {
  const auto is = [](const std::string& url, const std::string& host, int port) {
    const auto to = parse_server_url(url);
    ASSERT_TRUE(to.ok()) << url << to.error().text();
    EXPECT_EQ(to->host, host);
    EXPECT_EQ(to->port, port);
  };
  is("http://127.0.0.1:7412", "127.0.0.1", 7412);
  is("http://trace.example.com", "trace.example.com", 7412);
  is("http://trace:80/", "trace", 80);
  is("http://[::1]:9000", "::1", 9000);
  is("http://[fe80::1%eth0]", "fe80::1%eth0", 7412);
}

TEST(ServerUrl, WhatIsNoneSaysHowToWriteIt) {
  for (const char* bad :
       {"", "127.0.0.1:7412", "http://", "http://:80", "http://h:0", "http://h:65536", "http://h:x", "http://h:80/path",
        "http://[::1", "http://a b", "http://h\r\nX: y", "ftp://h", "https://h"}) {
    const auto to = parse_server_url(bad);
    ASSERT_FALSE(to.ok()) << bad;
    EXPECT_EQ(to.error().code, Errc::usage);
    EXPECT_NE(to.error().fix.find("http://127.0.0.1:7412"), std::string::npos);
  }
}

TEST(PercentEncoded, LeavesOnlyWhatIsPlain) {
  EXPECT_EQ(percent_encoded("aZ09-._~"), "aZ09-._~");
  EXPECT_EQ(percent_encoded("a b&c=d/\n\xc3\xa9"), "a%20b%26c%3Dd%2F%0A%C3%A9");
}

}  // namespace
}  // namespace hindcast::server
