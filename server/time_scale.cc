// Ticks to nanoseconds since a snapshot's origin, and back.
#include <cmath>

#include "server/query.h"

namespace hindcast::server {

double TimeScale::ns(Tsc t) const {
  // The difference is exact; only it is rounded to a double.
  const double ticks =
      t >= origin ? static_cast<double>(t.value() - origin.value()) : -static_cast<double>(origin.value() - t.value());
  return known() ? ticks * ns_per_tick : ticks;
}

Tsc TimeScale::tsc(double ns) const {
  const double ticks = std::nearbyint(known() ? ns / ns_per_tick : ns);
  if (ticks < 0) {
    const double back = -ticks;
    return back >= static_cast<double>(origin.value()) ? Tsc::min() : Tsc(origin.value() - static_cast<uint64_t>(back));
  }
  const uint64_t room = UINT64_MAX - origin.value();
  return ticks >= static_cast<double>(room) ? Tsc::max() : Tsc(origin.value() + static_cast<uint64_t>(ticks));
}

}  // namespace hindcast::server
