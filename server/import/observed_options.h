// What the packets of a trace say about how it was made, for formats that do not record it.
#pragma once

#include "hindcast/bytes.h"
#include "hindcast/pt_config.h"

namespace hindcast::server {

struct ObservedPt {
  bool psb = false;  // there is at least one place to begin
  bool tsc = false, mtc = false, cyc = false, ptw = false, pwr_evt = false, event = false;
  bool kernel_ip = false;  // an address in the upper half: the kernel was traced

  void add(const ObservedPt& o);
  /// The options that these packets show; codes and RET compression cannot be seen and keep their defaults.
  PtOptions options() const;
};

/// One pass over the packets, from the first PSB; damage is skipped to the next PSB.
ObservedPt observe_pt(ByteSpan trace);

}  // namespace hindcast::server
