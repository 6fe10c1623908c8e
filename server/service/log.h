// One line for each event, on stderr or wherever `write` puts it; a flood is cut short. Thread-safe.
#pragma once

#include <functional>
#include <mutex>
#include <string>

#include "transport/line_limit.h"
#include "transport/one_line.h"

namespace hindcast::server {

class Log {
 public:
  explicit Log(std::function<void(const std::string&)> write) : limit_(std::move(write)) {}
  void operator()(const std::string& line) {
    std::lock_guard lock(mutex_);
    limit_(transport::one_line(line, 4096));
  }

 private:
  std::mutex mutex_;
  transport::LineLimit limit_;
};

}  // namespace hindcast::server
