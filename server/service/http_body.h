// The body of an HTTP request as it comes in.
#pragma once

#include <httplib.h>

#include <functional>
#include <string>

#include "hindcast/result.h"

namespace hindcast::server {

/// A request's body, read once.
class Body {
 public:
  explicit Body(const httplib::ContentReader& reader) : reader_(reader) {}

  /// Hands on what comes until `take` returns false. What nobody wants is read and thrown away, up to a limit: a connection
  /// that is closed with bytes unread is reset, and the client may never see the answer. False: not all was there and taken.
  bool read(const std::function<bool(const char*, size_t)>& take) {
    constexpr size_t kMostThrownAway = size_t{16} << 20;
    size_t thrown_away = 0;
    bool wanted = true;
    const bool whole = reader_([&](const char* data, size_t n) {
      if (wanted) wanted = take(data, n);
      if (!wanted) thrown_away += n;
      return thrown_away < kMostThrownAway;
    });
    return whole && wanted;
  }

  /// All of it, at most `most` bytes, whatever the request says of its length or encoding.
  Result<std::string> text(size_t most) {
    std::string body;
    bool too_long = false;
    const bool whole = read([&](const char* data, size_t n) {
      too_long = n > most - body.size();
      if (!too_long) body.append(data, n);
      return !too_long;
    });
    if (too_long)
      return Error{Errc::too_large,
                   "refused a request: its body is too large",
                   "at most " + std::to_string(most) + " bytes",
                   {}};
    if (!whole) return Error{Errc::bad_input, "refused a request: its body ends early", {}, "send it again"};
    return body;
  }
  void throw_away() {
    (void)read([](const char*, size_t) { return false; });
  }

 private:
  const httplib::ContentReader& reader_;
};

}  // namespace hindcast::server
