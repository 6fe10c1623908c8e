// BPF programs that the kernel compiled: their machine code, where it stands, and what its functions are called.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "hindcast/result.h"

namespace hindcast::capture {

struct JitedFunction {
  std::string
      name;  // as kallsyms and KSYMBOL records name it: "bpf_prog_" and its tag, and its name where that is known
  uint64_t address = 0;
  std::vector<uint8_t> code;
};

struct JitedProgram {
  uint32_t id = 0;
  uint64_t loaded_ns = 0;  // CLOCK_BOOTTIME; before its KSYMBOL records
  std::vector<JitedFunction> functions;
};

/// Asks for them. Tests replace it.
class JitedPrograms {
 public:
  virtual ~JitedPrograms() = default;
  /// Of all programs there are now, ascending; at most kMostIds. Errors: permission, unavailable, each with what to do.
  virtual Result<std::vector<uint32_t>> ids() = 0;
  /// One program, all of it as it was at one moment. None: it is gone, or was not compiled. Errors: permission; too_large;
  /// bad_input (the kernel's answer contradicts itself).
  virtual Result<std::optional<JitedProgram>> read(uint32_t id) = 0;

  static constexpr size_t kMostIds = 16384;
  static constexpr size_t kMostCode = size_t{16} << 20;  // of one program
  static constexpr size_t kMostFunctions = 4096;         // of one program
};

/// The real kernel's, by bpf(2). Cost of read(): tens of microseconds.
JitedPrograms& kernel_programs();

}  // namespace hindcast::capture
