// What the daemon's threads tell each other: orders from the server, and what was taken and is to be written.
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <string>

#include "capture/window.h"
#include "transport/sender.h"

namespace hindcast::capture {

/// A freeze on its way from the rings to the spool.
struct Taken {
  std::string incident;
  Frozen frozen;
};

/// Thread-safe.
class FreezeQueue {
 public:
  void order(const transport::FreezeOrder& order) {
    std::lock_guard lock(mutex_);
    orders_.push_back(order);
  }
  /// The oldest order, unless something is being written: then it has to wait.
  std::optional<transport::FreezeOrder> next_order() {
    std::lock_guard lock(mutex_);
    if (orders_.empty() || taken_ || writing_) return std::nullopt;
    transport::FreezeOrder o = std::move(orders_.front());
    orders_.pop_front();
    return o;
  }
  void write(Taken taken) {
    {
      std::lock_guard lock(mutex_);
      taken_ = std::move(taken);
    }
    more_.notify_one();
  }
  /// For the writer: blocks; none at the end.
  std::optional<Taken> next_taken() {
    std::unique_lock lock(mutex_);
    writing_ = false;
    more_.wait(lock, [this] { return taken_ || closed_; });
    if (!taken_) return std::nullopt;
    writing_ = true;
    return std::exchange(taken_, std::nullopt);
  }
  bool writing() const {
    std::lock_guard lock(mutex_);
    return taken_ || writing_;
  }
  void close() {
    {
      std::lock_guard lock(mutex_);
      closed_ = true;
    }
    more_.notify_one();
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable more_;
  std::deque<transport::FreezeOrder> orders_;  // the Sender passes each incident on once
  std::optional<Taken> taken_;
  bool writing_ = false, closed_ = false;
};

}  // namespace hindcast::capture
