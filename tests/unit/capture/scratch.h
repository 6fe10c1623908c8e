// For tests: a folder that disappears, files as bytes, and whether this kernel lets us trace at all.
#pragma once

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "capture/sideband.h"
#include "capture/text_file.h"

namespace hindcast::capture {

class Scratch {
 public:
  Scratch() {
    std::string name = (std::filesystem::temp_directory_path() / "hindcast-test-XXXXXX").string();
    HC_CHECK(::mkdtemp(name.data()) != nullptr);
    dir_ = name;
  }
  ~Scratch() {
    std::error_code ignored;
    std::filesystem::remove_all(dir_, ignored);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  const std::string& dir() const { return dir_; }
  std::string path(const std::string& name) const { return dir_ + "/" + name; }
  /// Makes the folders above it, too.
  void write(const std::string& name, const std::string& text) const {
    std::filesystem::create_directories(std::filesystem::path(path(name)).parent_path());
    std::ofstream(path(name), std::ios::binary) << text;
  }
  std::vector<std::string> names() const {
    std::vector<std::string> out;
    for (const auto& e : std::filesystem::directory_iterator(dir_)) out.push_back(e.path().filename());
    std::sort(out.begin(), out.end());
    return out;
  }

 private:
  std::string dir_;
};

inline std::vector<uint8_t> read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

struct SidebandProbe {
  Result<void> usable() const {
    HC_TRY(const auto cpus, online_cpus());
    SidebandConfig c;
    c.cpus = cpus;
    c.ring_bytes = 4096;
    std::vector<std::string> notes;
    HC_TRY([[maybe_unused]] const Sideband s, Sideband::open(kernel_perf_calls(), c, notes));
    return {};
  }
};

}  // namespace hindcast::capture
