// Runs a static program natively, one instruction at a time, and says which it executed.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "hindcast/result.h"

namespace hindcast::test {

struct SteppedRun {
  uint64_t instructions = 0;
  uint64_t signals = 0;  // delivered
  int exit_code = -1;    // -1 when a signal ended it
  int end_signal = 0;
};

/// Calls executed(ip) for each instruction that completed, in order, counting as truth_format.h does: a repeated string
/// instruction once, INT3, INT n and what faults not at all.
/// Errors: unavailable when ptrace is not allowed; io; too_large after `limit` instructions.
/// Cost: about 10 µs an instruction.
Result<SteppedRun> step_program(const std::vector<std::string>& argv, uint64_t limit,
                                const std::function<void(uint64_t ip)>& executed);

}  // namespace hindcast::test
