// SPDX-License-Identifier: MIT
// A file of truth, appended to through a shared mapping that moves along; no descriptor stays open.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "hindcast/truth_format.h"

namespace hindcast::sim {

class TruthFile {
 public:
  /// Makes DIR/stem.N.extension for the first N from 0 that does not exist yet.
  bool create(const std::string& directory, const std::string& stem, const std::string& extension, TruthHeader header);
  void append(const void* bytes, size_t n);
  void append_word(uint32_t w) {
    if (at_ + sizeof w > window_end_ && !move_window()) return;
    *reinterpret_cast<uint32_t*>(at_) = w;
    at_ += sizeof w;
  }
  /// N of create().
  uint32_t sequence() const { return sequence_; }
  /// Gives the mappings back; what was written stays.
  void close();

 private:
  static constexpr size_t kWindow = size_t{4} << 20;
  bool move_window();

  std::string path_;
  uint32_t sequence_ = 0;
  TruthHeader* header_ = nullptr;
  uint64_t file_bytes_ = 0;
  uint8_t* window_ = nullptr;
  uint8_t* at_ = nullptr;
  uint8_t* window_end_ = nullptr;
};

}  // namespace hindcast::sim
