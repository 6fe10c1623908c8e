// Begins a window in a test.
#pragma once

#include <gtest/gtest.h>

#include <csignal>

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

}  // namespace hindcast::test
