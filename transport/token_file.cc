#include "transport/token_file.h"

#include <sys/stat.h>

#include <algorithm>

#include "hindcast/fd.h"
#include "transport/durable_file.h"

namespace hindcast::transport {

Result<std::string> read_token_file(const std::string& path) {
  struct stat st {};
  if (::stat(path.c_str(), &st) != 0) return errno_error("cannot read the token file", path);
  if (st.st_mode & 077)
    return Error{Errc::permission,
                 "cannot use the token file " + path + ": others than its owner may read or change it",
                 {},
                 "chmod 600 " + path};
  HC_TRY(const auto bytes, read_small(path, 4096));
  std::string token(bytes.begin(), std::find(bytes.begin(), bytes.end(), '\n'));
  HC_TRY_VOID(check_token(token, path));
  return token;
}

Result<void> check_token(const std::string& token, const std::string& from) {
  const bool plain = std::all_of(token.begin(), token.end(), [](char c) { return c > 0x20 && c < 0x7f; });
  if (token.size() >= 16 && token.size() <= 512 && plain) return {};
  return Error{Errc::bad_input, "cannot use the token in " + from,
               "its first line is not 16 to 512 printable characters without blanks",
               "a server's is made so:  (umask 077; head -c 32 /dev/urandom | base64 > FILE)"};
}

}  // namespace hindcast::transport
