// The threads that answer HTTP requests, and how many of them may be busy with what takes long.
#pragma once

#include <httplib.h>

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>

namespace hindcast::server {

/// A fixed number of threads. When all are busy no further connection is accepted: it waits in the kernel's bounded queue.
class HttpWorkers : public httplib::TaskQueue {
 public:
  explicit HttpWorkers(size_t threads) : free_(threads), pool_(threads) {}

  void enqueue(std::function<void()> work) override {
    {
      std::unique_lock lock(mutex_);
      one_is_free_.wait(lock, [this] { return free_ > 0; });
      --free_;
    }
    pool_.enqueue([this, work = std::move(work)] {
      work();
      {
        std::lock_guard lock(mutex_);
        ++free_;
      }
      one_is_free_.notify_one();
    });
  }
  void shutdown() override { pool_.shutdown(); }

 private:
  std::mutex mutex_;  // guards free_
  size_t free_;
  std::condition_variable one_is_free_;
  httplib::ThreadPool pool_;
};

/// So many at a time may hold a slot.
class Slots {
 public:
  explicit Slots(size_t limit) : left_(static_cast<int64_t>(limit)) {}

  struct Free {
    void operator()(std::atomic<int64_t>* left) const { ++*left; }
  };
  /// Held until it is destroyed; false when none was left. Must not outlive the Slots.
  using Slot = std::unique_ptr<std::atomic<int64_t>, Free>;
  Slot take() {
    if (left_.fetch_sub(1) > 0) return Slot(&left_);
    ++left_;
    return {};
  }

 private:
  std::atomic<int64_t> left_;
};

}  // namespace hindcast::server
