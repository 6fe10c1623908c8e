// A bad network on loopback: passes bytes between clients and one port, and does them harm as it is told.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <thread>

namespace hindcast::test {

/// Chances per piece of up to 16 KiB that passes in either direction.
struct NetworkHarm {
  double cut = 0;        // the connection ends
  double flip = 0;       // one bit changes
  double drop = 0;       // the piece never arrives, what follows does
  double duplicate = 0;  // it arrives twice
  double swap = 0;       // its two halves change places
  double delay = 0;      // everything waits up to 30 ms
};

class TcpProxy {
 public:
  TcpProxy(uint16_t to_port, uint32_t seed);
  ~TcpProxy();
  TcpProxy(const TcpProxy&) = delete;
  TcpProxy& operator=(const TcpProxy&) = delete;
  uint16_t port() const { return port_; }
  void set(const NetworkHarm& harm);
  uint64_t harmed() const { return harmed_.load(); }  // pieces

 private:
  void run();

  uint16_t to_port_, port_ = 0;
  uint32_t seed_;
  int listener_ = -1, stop_[2] = {-1, -1};
  std::mutex mutex_;
  NetworkHarm harm_;  // guarded by mutex_
  std::atomic<uint64_t> harmed_{0};
  std::thread thread_;
};

/// A port of loopback that was free just now.
uint16_t free_port();

}  // namespace hindcast::test
