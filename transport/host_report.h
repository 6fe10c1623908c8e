// What a host tells the server of itself: plain values that both ends of the transport share.
#pragma once

#include <string>
#include <vector>

#include "hindcast/units.h"

namespace hindcast::transport {

struct HostStatus {
  std::string state;  // for people: armed, frozen, shipping, ...
  uint64_t spool_bytes = 0, spool_limit_bytes = 0;
  uint32_t snapshots_waiting = 0;
  std::vector<std::string> notes;
};

struct CpuCover {
  CpuId cpu;
  Tsc from, to;  // the oldest and the newest moment that the frozen ring covers
};

}  // namespace hindcast::transport
