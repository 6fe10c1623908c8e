// Begins a window in a test, and takes what it holds while it goes on.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <utility>

#include "capture/window.h"

namespace hindcast::test {

/// Opens and starts it, with the signals of this thread; a failure is the test's.
inline void start_window(capture::Window& window) {
  sigset_t mask;
  ::sigprocmask(SIG_SETMASK, nullptr, &mask);
  const auto opened = window.open(mask);
  ASSERT_TRUE(opened.ok()) << opened.error().text();
  const auto started = window.start();
  ASSERT_TRUE(started.ok()) << started.error().text();
}

/// What a window holds now, which goes on; a failure is the test's.
inline capture::Frozen snapshot_of(capture::Window& window) {
  EXPECT_TRUE(window.start_snapshot().ok());
  const auto end = capture::Window::Clock::now() + std::chrono::seconds(60);
  while (capture::Window::Clock::now() < end) {
    EXPECT_TRUE(window.step({}).ok());
    auto taken = window.take_snapshot();
    if (!taken.ok()) {
      ADD_FAILURE() << taken.error().text();
      return {};
    }
    if (*taken) return std::move(**taken);
  }
  ADD_FAILURE() << "no snapshot after 60 s";
  return {};
}

}  // namespace hindcast::test
