// Our example settings files, and what they comment out.
#pragma once

#include <algorithm>
#include <fstream>
#include <string>

namespace hindcast::test {

/// A file of the source tree.
inline std::string example_settings(const std::string& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}

/// Settings that are commented out ("#name", while words are "# words") taken as said.
inline std::string with_all_said(const std::string& text) {
  std::string all;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    std::string line = text.substr(at, end - at);
    at = end + 1;
    if (line.size() > 1 && line[0] == '#' && line[1] != ' ') line.erase(0, 1);
    all += line + "\n";
  }
  return all;
}

}  // namespace hindcast::test
