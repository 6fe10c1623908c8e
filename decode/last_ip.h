// The last-IP state machine: compressed IP payloads to whole addresses.
#pragma once

#include <cstdint>

#include "decode/pt_opcodes.h"

namespace hindcast::decode {

/// Fed every IP packet in stream order, including those whose IP nobody wants. Reset by PSB only: it survives
/// TIP.PGD, OVF and changes of address space. Source: SDM Vol. 3C, "IP Compression".
class LastIp {
 public:
  void reset() { ip_ = 0; }
  uint64_t value() const { return ip_; }

  /// The address that a payload stands for. A suppressed IP leaves the state alone and yields it: callers
  /// test first.
  uint64_t expand(IpBytes form, uint64_t payload) {
    switch (form) {
      case IpBytes::suppressed:
        break;
      case IpBytes::update16:
        ip_ = (ip_ & ~0xffffull) | payload;
        break;
      case IpBytes::update32:
        ip_ = (ip_ & ~0xffffffffull) | payload;
        break;
      case IpBytes::sext48:
        ip_ = static_cast<uint64_t>(static_cast<int64_t>(payload << 16) >> 16);
        break;
      case IpBytes::update48:
        ip_ = (ip_ & ~0xffffffffffffull) | payload;
        break;
      case IpBytes::full:
        ip_ = payload;
        break;
    }
    return ip_;
  }

 private:
  uint64_t ip_ = 0;
};

}  // namespace hindcast::decode
