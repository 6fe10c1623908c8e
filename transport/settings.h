// Settings from a TOML file: each is asked for by name and type, and everything that is wrong is said at once.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "hindcast/result.h"

namespace hindcast::transport {

/// Getters give the default and note what is wrong; finish() says it all, and also what nobody asked for: a setting that is
/// misspelt must not be ignored. Names are "table.key".
class Settings {
 public:
  /// Errors: bad_input with the place when it is no TOML. `origin` names the text in messages.
  static Result<Settings> parse(const std::string& text, const std::string& origin);
  Settings(Settings&&) noexcept;
  ~Settings();

  std::string text(const char* name, const std::string& otherwise);
  std::string needed_text(const char* name);
  /// Whether it is this text. Of another it is for the other getters to say what is wrong.
  bool is_text(const char* name, const char* text);
  uint64_t number(const char* name, uint64_t otherwise, uint64_t least, uint64_t most);
  /// A count of bytes: 4096 or "64 GiB" (B, KiB, MiB, GiB, TiB).
  uint64_t bytes(const char* name, uint64_t otherwise);
  /// Seconds: "90 s", "15 min", "12 h" or "30 d".
  uint64_t seconds(const char* name, uint64_t otherwise);
  /// A list of texts, empty when it is not there.
  std::vector<std::string> texts(const char* name);
  void wrong(const char* name, const std::string& why);

  /// Errors: bad_input.
  Result<void> finish();

 private:
  struct Impl;
  explicit Settings(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace hindcast::transport
