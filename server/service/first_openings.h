// Opens each new bundle once before anybody asks: what a scan of it finds is kept, and the first answer comes at once.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>
#include <thread>

#include "server/service/log.h"
#include "server/service/run_command.h"

namespace hindcast::server {

/// One at a time, in a process of its own, with less right to CPUs than others. What is not opened here, because the server
/// ended or too many came, is opened when it is asked about.
class FirstOpenings {
 public:
  /// program: hindcast. options: as of the commands that answer questions. log is borrowed.
  FirstOpenings(std::string program, RunOptions options, Log& log);
  /// Ends the one that runs.
  ~FirstOpenings();

  /// bundle: its path in options.folder. Any thread.
  void add(const std::string& bundle);

  struct Counters {
    uint64_t opened = 0, failed = 0, left_out = 0;
  };
  Counters counters() const;

  static constexpr size_t kMostWaiting = 1024;

 private:
  static constexpr size_t kMostWords = 4096;  // of an error

  void work();
  bool open(const std::string& bundle);

  const std::string program_;
  RunOptions options_;
  Log& log_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::string> waiting_;
  Counters counters_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace hindcast::server
