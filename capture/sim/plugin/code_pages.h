// SPDX-License-Identifier: MIT
// Pages of code whose bytes are in no file: sent to the daemon before they change or vanish, and when the process ends.
#pragma once

#include <cstdint>
#include <mutex>
#include <set>

#include "capture/sim/plugin/courier.h"

namespace hindcast::sim {

class CodePages {
 public:
  /// Code in [from, to) has been translated.
  void on_code(uint64_t from, uint64_t to);
  /// A system call that may change mappings or their protection is about to be done.
  void on_syscall(int64_t number, uint64_t address, uint64_t length, uint64_t flags, Courier& courier);
  /// Sends every remembered page that no file backs.
  void send_all(Courier& courier);
  std::mutex& mutex() { return mutex_; }

 private:
  void send_range(uint64_t from, uint64_t to, Courier& courier);

  std::mutex mutex_;
  std::set<uint64_t> pages_;  // by number: code was translated from it since it was sent last
  uint64_t last_page_ = 0;
  uint64_t sent_bytes_ = 0;
};

}  // namespace hindcast::sim
