// A log that an attacker cannot flood.
#pragma once

#include <chrono>
#include <functional>
#include <string>

namespace hindcast::transport {

/// Passes lines on, at most kLines a second; then says how many were left out.
class LineLimit {
 public:
  explicit LineLimit(std::function<void(const std::string&)> say) : say_(std::move(say)) {}

  void operator()(const std::string& line) {
    if (!say_) return;
    const auto now = std::chrono::steady_clock::now();
    if (now - second_ >= std::chrono::seconds(1)) {
      if (left_out_ > 0) say_(std::to_string(left_out_) + " more lines were left out");
      second_ = now;
      said_ = left_out_ = 0;
    }
    if (++said_ <= kLines)
      say_(line);
    else
      ++left_out_;
  }

 private:
  static constexpr uint64_t kLines = 20;
  std::function<void(const std::string&)> say_;
  std::chrono::steady_clock::time_point second_{};
  uint64_t said_ = 0, left_out_ = 0;
};

}  // namespace hindcast::transport
