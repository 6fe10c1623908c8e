#include "decode/time_map_builder.h"

#include <utility>

namespace hindcast::decode {

TimeMapBuilder::Order TimeMapBuilder::order_of(Kind kind) {
  switch (kind) {
    case Kind::tnt:
    case Kind::tnt_long:
    case Kind::tip:
      return Order::branch;
    case Kind::tip_pge:
    case Kind::tip_pgd:
    case Kind::fup:
    case Kind::psb:
    case Kind::psbend:
    case Kind::pip:
    case Kind::mode_exec:
    case Kind::mode_tsx:
    case Kind::trace_stop:
    case Kind::ovf:
    case Kind::ptw:
    case Kind::cfe:
    case Kind::evd:
      return Order::barrier;
    default:
      return Order::neutral;
  }
}

void TimeMapBuilder::lost(const LostRange& range) {
  clock_.lose();
  bounded_ = false;
  release(range.from, std::max(newest_, passed_));
  newest_ = passed_ = 0;
}

TimeMap TimeMapBuilder::finish(uint64_t end, TscInterval traced) {
  release(end, std::max(newest_, passed_));
  if (highest_ > traced.latest.value()) {
    ++map_.contradictions_;
    traced.latest = Tsc::max();
  }
  if (const auto first = map_.upper_.at_or_after(0); first && *first < traced.earliest.value()) {
    ++map_.contradictions_;
    traced.earliest = Tsc::min();
  }
  map_.outer_ = traced;
  return std::move(map_);
}

void TimeMapBuilder::timing_packet(uint64_t offset, const PtClock::Reading& reading) {
  ++map_.readings_;
  release(offset, passed_);  // what waited before the branch packet in between has come out with it
  passed_ = 0;
  if (reading.latest < Tsc(highest_)) {
    contradict(reading.latest.value());
  } else if (TimeSteps& upper = map_.upper_;
             reading.latest != Tsc::max() && (!bounded_ || reading.latest.value() < upper.last_value())) {
    bounded_ = true;
    while (!upper.empty() && upper.last_value() >= reading.latest.value()) upper.pop();
    upper.append(offset, reading.latest.value());
  }
  newest_ = std::max(newest_, reading.earliest.value());
  highest_ = std::max(highest_, reading.earliest.value());
}

/// Earlier packets say that it was later than `latest` already. Either may be wrong: neither bound is used.
void TimeMapBuilder::contradict(uint64_t latest) {
  ++map_.contradictions_;
  TimeSteps& lower = map_.lower_;
  while (!lower.empty() && lower.last_value() > latest) lower.pop();
  highest_ = lower.empty() ? 0 : lower.last_value();
  if (newest_ > latest) newest_ = 0;
  highest_ = std::max(highest_, newest_);
  clock_.lose();
}

}  // namespace hindcast::decode
