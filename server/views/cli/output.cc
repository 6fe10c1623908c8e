#include "server/views/cli/output.h"

#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "hindcast/fd.h"

namespace hindcast::server::cli {

Output::Output(std::FILE* stream, std::FILE* owned) : stream_(stream), owned_(owned) {
  terminal_ = ::isatty(::fileno(stream)) == 1;
  const char* no_color = std::getenv("NO_COLOR");
  const char* term = std::getenv("TERM");
  colour_ = terminal_ && !(no_color && *no_color) && !(term && std::strcmp(term, "dumb") == 0);
}

Result<Output> Output::to_file(const std::string& path) {
  std::FILE* file = std::fopen(path.c_str(), "we");
  if (!file) return errno_error("cannot write", path);
  return Output(file, file);
}

void Output::text(std::string_view s) {
  if (failed_ || s.empty()) return;
  if (std::fwrite(s.data(), 1, s.size(), stream_) != s.size()) {
    failed_ = true;
    error_ = errno;
  }
}

void Output::line(std::string_view s) {
  text(s);
  text("\n");
}

std::string Output::paint(Colour c, std::string_view s) const {
  if (!colour_ || c == Colour::plain) return std::string(s);
  static constexpr const char* kCodes[] = {"", "1", "2", "31", "33", "32", "36"};
  return std::string("\x1b[") + kCodes[static_cast<uint8_t>(c)] + "m" + std::string(s) + "\x1b[0m";
}

Result<void> Output::finish() {
  const auto note = [this](int result) {
    if (result == 0 || failed_) return;
    failed_ = true;
    error_ = errno;
  };
  note(std::fflush(stream_));
  if (owned_) note(std::fclose(owned_.release()));
  if (failed_)
    return Error{Errc::io,
                 std::string("cannot write the answer: ") + std::strerror(error_),
                 {},
                 "the output is not complete; free space or write elsewhere, and ask again"};
  return {};
}

size_t width_of(std::string_view s) {
  size_t n = 0;
  for (const char c : s) n += (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  return n;
}

std::string pad_left(std::string_view s, size_t width) {
  const size_t w = width_of(s);
  return std::string(w < width ? width - w : 0, ' ') + std::string(s);
}

std::string pad_right(std::string_view s, size_t width) {
  const size_t w = width_of(s);
  return std::string(s) + std::string(w < width ? width - w : 0, ' ');
}

namespace {

std::string without_controls(std::string_view s, char allowed) {
  std::string out;
  for (const char c : s) {
    const auto u = static_cast<unsigned char>(c);
    if ((u >= 0x20 && u != 0x7f) || c == allowed) {
      out += c;
    } else {
      char hex[8];
      std::snprintf(hex, sizeof hex, "\\x%02x", unsigned{u});
      out += hex;
    }
  }
  return out;
}

}  // namespace

std::string printable(std::string_view s) { return without_controls(s, ' '); }

std::string printable_lines(std::string_view s) { return without_controls(s, '\n'); }

}  // namespace hindcast::server::cli
