// A progress bar on stderr, for anything over a second and only when stderr is a terminal.
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

#include "server/query.h"

namespace hindcast::server::cli {

/// Drawn by a thread of its own, so that a call that cannot report still shows that it is at work.
class ProgressBar {
 public:
  /// quiet: never show anything (the answer itself goes to the same terminal).
  explicit ProgressBar(std::string what, bool quiet = false);
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  /// total 0: how much there is to do is not known. Cheap; from any thread.
  void update(uint64_t done, uint64_t total) {
    done_.store(done, std::memory_order_relaxed);
    total_.store(total, std::memory_order_relaxed);
  }
  /// For calls that report; borrows this.
  Progress callback();
  /// Wipes what is shown; nothing is drawn afterwards.
  void clear();

 private:
  void draw_until_stopped();

  const std::string what_;
  std::atomic<uint64_t> done_{0}, total_{0};
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stop_ = false;   // under mutex_
  std::thread drawer_;  // none when disabled
};

}  // namespace hindcast::server::cli
