// How many payload bytes each host may have under way: per host and in total, first come first served.
//
// Counted in cost_of() bytes. For each session:   received <= granted,   stored <= received,   and the memory that may be
// needed for it is granted - stored. Their sum over all sessions never exceeds the total.
#pragma once

#include <cstdint>

#include "hindcast/result.h"

namespace hindcast::transport {

struct CreditAccount {
  uint64_t granted = 0, received = 0, stored = 0;
  uint32_t epoch = 0;    // of the host's last giving back
  bool waiting = false;  // wants more than it has
  uint64_t outstanding() const { return granted - stored; }
};

class CreditPool {
 public:
  CreditPool(uint64_t host_bytes, uint64_t total_bytes) : host_(host_bytes), total_(total_bytes) {}

  uint64_t outstanding() const { return outstanding_; }

  /// Tops the account up to the host's share, as far as the total allows. True when it was raised. Small raises are not
  /// worth a message: at least an eighth of the share, or all that is left to it.
  bool top_up(CreditAccount& a) {
    const uint64_t room = host_ - a.outstanding();
    const uint64_t grant = room < total_ - outstanding_ ? room : total_ - outstanding_;
    if (grant == 0 || grant < host_ / 8) return false;
    a.granted += grant;
    outstanding_ += grant;
    return true;
  }
  /// False: the host sent more than it may.
  bool receive(CreditAccount& a, uint64_t cost) {
    if (cost > a.granted - a.received) return false;
    a.received += cost;
    return true;
  }
  /// Its memory is free again.
  void store(CreditAccount& a, uint64_t cost) {
    HC_CHECK(cost <= a.received - a.stored && cost <= outstanding_);
    a.stored += cost;
    outstanding_ -= cost;
  }
  /// What the host will not use.
  void give_back(CreditAccount& a) {
    outstanding_ -= a.granted - a.received;
    a.granted = a.received;
  }

 private:
  uint64_t host_, total_;
  uint64_t outstanding_ = 0;
};

}  // namespace hindcast::transport
