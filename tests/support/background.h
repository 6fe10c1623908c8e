// A program that runs while a test goes on.
#pragma once

#include <string>
#include <vector>

#include "tests/support/place.h"

namespace hindcast::test {

/// Started with /dev/null as its three files; killed by its own process id and reaped when this is destroyed.
class Background {
 public:
  /// stderr_file: what it says there is appended to this file instead.
  explicit Background(const std::vector<std::string>& argv, const std::string& stderr_file = {},
                      const Place& place = {});
  ~Background();
  Background(const Background&) = delete;
  Background& operator=(const Background&) = delete;
  int pid() const { return pid_; }
  bool running();
  /// Its exit status (128 + signal when killed); waits at most so long, then -1.
  int wait(double seconds);
  void kill();  // -9, and reaped

 private:
  int pid_ = -1;
  int status_ = -1;
};

}  // namespace hindcast::test
