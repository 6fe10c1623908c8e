#include "transport/service_notify.h"

#include <cstdlib>
#include <cstring>

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "hindcast/fd.h"
#include "tests/support/run_program.h"

namespace hindcast::transport {
namespace {

TEST(ServiceNotify, TellsWhoeverStartedIt) {
  test::TempFolder folder;
  const std::string path = folder / "notify";
  const Fd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_un at{};
  at.sun_family = AF_UNIX;
  ASSERT_LT(path.size(), sizeof at.sun_path);
  std::strcpy(at.sun_path, path.c_str());
  ASSERT_EQ(::bind(socket.get(), reinterpret_cast<sockaddr*>(&at), sizeof at), 0);
  ::setenv("NOTIFY_SOCKET", path.c_str(), 1);
  notify_service("READY=1");
  ::unsetenv("NOTIFY_SOCKET");
  char text[64] = {};
  ASSERT_EQ(::recv(socket.get(), text, sizeof text - 1, MSG_DONTWAIT), 7);
  EXPECT_STREQ(text, "READY=1");
  notify_service("STOPPING=1");  // nobody asked: nothing is sent, nothing fails
  EXPECT_EQ(::recv(socket.get(), text, sizeof text - 1, MSG_DONTWAIT), -1);
}

TEST(ServiceNotify, AnAddressThatIsNoneIsIgnored) {
  ::setenv("NOTIFY_SOCKET", std::string(200, 'x').c_str(), 1);
  notify_service("READY=1");
  ::setenv("NOTIFY_SOCKET", "/no/such/socket", 1);
  notify_service("READY=1");
  ::unsetenv("NOTIFY_SOCKET");
}

}  // namespace
}  // namespace hindcast::transport
