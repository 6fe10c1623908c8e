#include "decode/pt_time_steps.h"

namespace hindcast::decode {

void TimeSteps::pack(ByteWriter& out) const {
  out.u64(runs_.size());
  for (const Run& run : runs_) {
    out.u64(run.key);
    out.u64(run.value);
    out.u64(run.first);
  }
  out.u64(steps_.size());
  for (const Step& step : steps_) {
    out.u16(step.key);
    out.u16(step.value);
  }
}

bool TimeSteps::unpack(ByteReader& in) {
  *this = {};
  const uint64_t runs = in.u64();
  if (runs > in.left() / sizeof(Run)) return false;
  for (uint64_t i = 0; i < runs; ++i) runs_.push_back({in.u64(), in.u64(), in.u64()});
  const uint64_t steps = in.u64();
  if (in.failed() || steps > in.left() / sizeof(Step)) return false;
  ByteReader all(in.take(steps * sizeof(Step)));
  size_t run = 0;
  uint64_t key = 0, value = 0;
  bool right = (runs == 0) == (steps == 0);
  for (uint64_t i = 0; i < steps && right; ++i) {
    const Step step{all.u16(), all.u16()};
    const bool begins = run < runs && runs_[run].first == i;
    if (begins) ++run;
    right = run != 0;
    if (!right) break;
    const Run& r = runs_[run - 1];
    right = begins ? step.key == 0 && step.value == 0 && (i == 0 || (r.key > key && r.value >= value))
                   : r.key + step.key > key && r.value + step.value >= value;
    key = r.key + step.key;
    value = r.value + step.value;
    steps_.push_back(step);
  }
  if (right && run == runs) return true;
  *this = {};
  return false;
}

}  // namespace hindcast::decode
