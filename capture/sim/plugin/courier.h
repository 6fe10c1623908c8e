// SPDX-License-Identifier: MIT
// The plugin's one thread: it holds the connection to the daemon, in a descriptor table of its own.
//
// A traced program may close every descriptor it finds, count them, or run out of them; and a program that inherits one
// of ours would see it. So no descriptor of ours is ever in its table: this thread leaves the shared table when it starts
// (close_range with CLOSE_RANGE_UNSHARE), and makes, sends and closes memfds there. Only mappings are shared.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <functional>
#include <mutex>
#include <string>

#include "capture/sim/channel.h"

namespace hindcast::sim {

class Courier {
 public:
  /// Starts the thread and connects. False when there is no daemon at socket_path or no thread can be made.
  bool start(const std::string& socket_path);

  // Each of these runs on the courier's thread while the caller waits; any thread of the program may call.

  /// Makes a memfd of `bytes`, maps it shared and writable, calls fill(mapping), then sends the message with it.
  /// Returns the mapping, which the caller owns; null when the daemon is gone or memory is short.
  void* send_shared(const Message& message, size_t bytes, const std::function<void(void*)>& fill);
  bool send(const Message& message);
  /// The daemon still holds its end.
  bool alive();
  /// Runs errand, which opens descriptors that the program must not see. It must not call the courier itself.
  void run(const std::function<void()>& errand);

 private:
  void thread_main();
  bool send_now(const Message& message, int fd);

  std::mutex callers_;  // one errand at a time
  std::mutex mutex_;
  std::condition_variable changed_;
  const std::function<void()>* errand_ = nullptr;
  bool done_ = false;
  bool started_ = false;
  std::string path_;
  int socket_ = -1;  // in the courier's descriptor table
};

}  // namespace hindcast::sim
