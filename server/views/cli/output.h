// Where answers go: stdout, buffered, every failure noticed; colours only for a terminal.
#pragma once

#include <cstdio>
#include <memory>
#include <string>
#include <string_view>

#include "hindcast/result.h"

namespace hindcast::server::cli {

enum class Colour : uint8_t { plain, bold, dim, red, yellow, green, cyan };

/// Text for a person or lines of JSON, on stdout or in a file. A closed pipe ends the process by SIGPIPE, as with every filter.
class Output {
 public:
  /// stdout. colour: it is a terminal and NO_COLOR is unset (https://no-color.org).
  Output() : Output(stdout, nullptr) {}
  /// A file instead; one that exists is replaced. Errors: io.
  static Result<Output> to_file(const std::string& path);
  bool colour() const { return colour_; }
  bool terminal() const { return terminal_; }

  void text(std::string_view s);
  void line(std::string_view s);
  /// s in a colour when colours are on; else s.
  std::string paint(Colour c, std::string_view s) const;

  /// Flushes; an Error when anything written since the start did not reach the stream.
  Result<void> finish();
  bool failed() const { return failed_; }

 private:
  Output(std::FILE* stream, std::FILE* owned);

  struct Close {
    void operator()(std::FILE* f) const { std::fclose(f); }
  };
  std::FILE* stream_;
  std::unique_ptr<std::FILE, Close> owned_;
  bool terminal_, colour_;
  bool failed_ = false;
  int error_ = 0;
};

/// Columns a string takes on a terminal: UTF-8 sequences count one.
size_t width_of(std::string_view s);
std::string pad_left(std::string_view s, size_t width);
std::string pad_right(std::string_view s, size_t width);
/// Control characters as \xHH: names from a recording must not play tricks on a terminal.
std::string printable(std::string_view s);
/// The same of text whose lines stay lines; pieces of any size give what the whole gives.
std::string printable_lines(std::string_view s);

}  // namespace hindcast::server::cli
