// The perf-PID.map file, in which a process names the functions that it made: lines of "START SIZE name", in hex.
//
// Source: Linux, tools/perf/Documentation/jit-interface.txt. It tells neither bytes nor times.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "hindcast/bytes.h"

namespace hindcast::decode {

struct PerfMapFunction {
  uint64_t address = 0;
  uint64_t bytes = 0;
  std::string_view name;  // borrowed from the file's bytes
};

class PerfMap {
 public:
  static constexpr size_t kMost = size_t{1} << 21;  // functions; later lines are left out

  /// Borrows the bytes. Cost: O(bytes log lines).
  static PerfMap parse(ByteSpan file);
  /// What covers the address; of several the one whose line is the last, which is the newest. O(log lines).
  const PerfMapFunction* find(uint64_t address) const;
  /// Lines that are none of the format, or beyond kMost. A last line without an end is still being written: it is none.
  uint64_t left_out() const { return left_out_; }

 private:
  struct Part {
    uint64_t begin, end;
    uint32_t function;
  };
  std::vector<PerfMapFunction> functions_;
  std::vector<Part> parts_;  // ascending, not overlapping
  uint64_t left_out_ = 0;
};

}  // namespace hindcast::decode
