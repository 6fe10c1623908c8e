// Runs one of our programs as a user would, and keeps what it said.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "tests/support/place.h"

namespace hindcast::test {

struct Ran {
  int code = -1;                                // exit code; 128 + N when signal N ended it
  std::string out;                              // stdout
  std::string err;                              // stderr
  std::vector<std::string> lines() const;       // of out
  std::vector<nlohmann::json> objects() const;  // out as one JSON object per line; a line that is none fails loudly
};

/// argv[0] is a path; stdin is /dev/null; NO environment is changed but by `env` ("NAME=value").
Ran run_program(const std::vector<std::string>& argv, const std::vector<std::string>& env = {},
                const Place& place = {});

/// A folder that is removed with all it holds.
class TempFolder {
 public:
  TempFolder();
  ~TempFolder();
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  /// Writes a shell script that stands in for a program; its path. There is one at a time.
  std::string script(const std::string& text) const;

 private:
  std::string path_;
};

}  // namespace hindcast::test
