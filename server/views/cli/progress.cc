#include "server/views/cli/progress.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>

namespace hindcast::server::cli {
namespace {

void draw(const std::string& what, std::chrono::seconds since, uint64_t done, uint64_t total) {
  if (total == 0) {
    std::fprintf(stderr, "\r\x1b[K%s ... %d s", what.c_str(), static_cast<int>(since.count()));
  } else {
    constexpr int kWidth = 30;
    const double part = std::min(1.0, static_cast<double>(done) / static_cast<double>(total));
    const int filled = static_cast<int>(part * kWidth);
    std::fprintf(stderr, "\r\x1b[K%s [%.*s%*s] %3.0f %%", what.c_str(), filled, "##############################",
                 kWidth - filled, "", part * 100);
  }
  std::fflush(stderr);
}

}  // namespace

ProgressBar::ProgressBar(std::string what, bool quiet) : what_(std::move(what)) {
  if (!quiet && ::isatty(2) == 1) drawer_ = std::thread([this] { draw_until_stopped(); });
}

ProgressBar::~ProgressBar() { clear(); }

void ProgressBar::clear() {
  if (!drawer_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_one();
  drawer_.join();
}

void ProgressBar::draw_until_stopped() {
  const auto start = std::chrono::steady_clock::now();
  std::unique_lock lock(mutex_);
  const auto stopped = [this] { return stop_; };
  if (wake_.wait_for(lock, std::chrono::seconds(1), stopped)) return;  // short answers show no bar
  do {
    draw(what_, std::chrono::duration_cast<std::chrono::seconds>(std::chrono::steady_clock::now() - start),
         done_.load(std::memory_order_relaxed), total_.load(std::memory_order_relaxed));
  } while (!wake_.wait_for(lock, std::chrono::milliseconds(150), stopped));
  std::fputs("\r\x1b[K", stderr);
  std::fflush(stderr);
}

Progress ProgressBar::callback() {
  return [this](uint64_t done, uint64_t total) { update(done, total); };
}

}  // namespace hindcast::server::cli
