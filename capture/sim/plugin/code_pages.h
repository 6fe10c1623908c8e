// SPDX-License-Identifier: MIT
// Code whose bytes are in no file: the daemon is told whenever a block of it is translated, and what is done to its memory.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <vector>

#include "capture/sim/plugin/courier.h"

namespace hindcast::sim {

class CodePages {
 public:
  /// The block with this id, code in [from, to), has been translated: from now on it runs with these bytes. Without a
  /// courier it is told when one comes. name_time: called when no file holds them; it puts the time between what the thread
  /// ran until now and the block, so that the trace keeps them on their sides of it.
  void on_block(uint32_t id, uint64_t from, uint64_t to, Courier* courier, const std::function<uint64_t()>& name_time);
  void on_connected(Courier& courier);
  /// A system call that may change mappings or their protection is about to be done.
  void on_syscall(int64_t number, const uint64_t* args, Courier& courier);
  std::mutex& mutex() { return mutex_; }

 private:
  struct Waiting {
    uint32_t id;
    uint64_t from, to, tsc;
  };
  void tell(const Waiting& block, Courier& courier, const std::function<uint64_t()>& name_time);

  std::mutex mutex_;
  std::map<uint64_t, bool> pages_;  // by number, those with code: whether no file holds their bytes
  std::vector<Waiting> waiting_;
};

}  // namespace hindcast::sim
