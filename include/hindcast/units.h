// Numbers that refuse to be mixed up. A Tsc is not a Nanos is not an Ip; conversion is always a named call.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <limits>

namespace hindcast {

template <class Tag, class Rep>
class Number {
 public:
  using rep = Rep;
  constexpr Number() = default;
  constexpr explicit Number(Rep v) : v_(v) {}
  constexpr Rep value() const { return v_; }
  constexpr auto operator<=>(const Number&) const = default;
  static constexpr Number min() { return Number(std::numeric_limits<Rep>::min()); }
  static constexpr Number max() { return Number(std::numeric_limits<Rep>::max()); }

 private:
  Rep v_ = 0;
};

using Tsc = Number<struct TscTag, uint64_t>;                // time-stamp counter ticks of one host
using RecordTime = Number<struct RecordTimeTag, uint64_t>;  // ns on the clock that stamps perf records
using Ip = Number<struct IpTag, uint64_t>;                  // a virtual address of code in the traced process
using CpuId = Number<struct CpuIdTag, uint32_t>;            // logical CPU number of one host
using Pid = Number<struct PidTag, int32_t>;                 // process (thread group) id; -1 unknown, 0 idle
using Tid = Number<struct TidTag, int32_t>;                 // thread id; -1 unknown, 0 idle

inline constexpr CpuId kNoCpu{0xffffffffu};
inline constexpr Tid kNoTid{-1};
inline constexpr Pid kNoPid{-1};

/// Earliest and latest possible value, both inclusive. All claims about time are intervals.
template <class T>
struct Interval {
  T earliest = T::min();
  T latest = T::max();

  static constexpr Interval unknown() { return {}; }
  static constexpr Interval at(T t) { return {t, t}; }
  constexpr bool is_unknown() const { return earliest == T::min() || latest == T::max(); }
  constexpr bool contains(T t) const { return earliest <= t && t <= latest; }
  /// True when every point of this lies before every point of o: the only way to claim an order.
  constexpr bool before(const Interval& o) const { return latest < o.earliest; }
  constexpr bool overlaps(const Interval& o) const { return !before(o) && !o.before(*this); }
  constexpr bool operator==(const Interval&) const = default;
};

using TscInterval = Interval<Tsc>;

}  // namespace hindcast

template <class Tag, class Rep>
struct std::hash<hindcast::Number<Tag, Rep>> {
  size_t operator()(const hindcast::Number<Tag, Rep>& n) const noexcept { return std::hash<Rep>{}(n.value()); }
};
