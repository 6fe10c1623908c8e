// Wakes a thread that waits in poll().
#pragma once

#include <sys/eventfd.h>

#include "hindcast/fd.h"

namespace hindcast::transport {

class WakeFd {
 public:
  WakeFd() : fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) { HC_CHECK(fd_.valid()); }
  void wake() {
    const uint64_t one = 1;
    (void)!::write(fd_.get(), &one, sizeof one);
  }
  void clear() {
    uint64_t n = 0;
    (void)!::read(fd_.get(), &n, sizeof n);
  }
  int get() const { return fd_.get(); }

 private:
  Fd fd_;
};

}  // namespace hindcast::transport
