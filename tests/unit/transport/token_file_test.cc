#include "transport/token_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>

#include "tests/support/run_program.h"

namespace hindcast::transport {
namespace {

const std::string kToken = "0123456789abcdef";

TEST(TokenFile, IsItsOwnersAlone) {
  test::TempFolder folder;
  const std::string path = folder / "token";
  const auto write = [&](const std::string& text, mode_t mode) {
    std::ofstream(path) << text;
    ::chmod(path.c_str(), mode);
    return read_token_file(path);
  };
  EXPECT_EQ(write(kToken + "\nmore\n", 0600).value(), kToken);
  EXPECT_EQ(write(kToken, 0400).value(), kToken);
  EXPECT_EQ(write(kToken, 0640).error().code, Errc::permission);
  EXPECT_EQ(write("short\n", 0600).error().code, Errc::bad_input);
  EXPECT_EQ(write("has blanks in it, it has\n", 0600).error().code, Errc::bad_input);
  EXPECT_EQ(write("", 0600).error().code, Errc::bad_input);
  EXPECT_EQ(write(std::string(600, 'x'), 0600).error().code, Errc::bad_input);
  EXPECT_EQ(read_token_file(folder / "none").error().code, Errc::not_found);
}

}  // namespace
}  // namespace hindcast::transport
