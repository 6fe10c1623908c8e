// The jit-PID.dump file, in which a JIT compiler says what code it put where and when.
//
// Source: Linux, tools/perf/Documentation/jitdump-specification.txt. All is little-endian here: files of machines with the
// other byte order hold no code that an x86 CPU ran.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "hindcast/bytes.h"
#include "hindcast/result.h"
#include "hindcast/units.h"

namespace hindcast::decode {

/// Of one address, as JIT_CODE_DEBUG_INFO says it. The file's name is borrowed.
struct JitLine {
  uint64_t address = 0;
  uint32_t line = 0;
  std::string_view file;
};

/// JIT_CODE_LOAD, or JIT_CODE_MOVE. Texts are borrowed from the file's bytes.
struct JitRecord {
  bool moved = false;
  uint64_t time = 0;  // ns of CLOCK_MONOTONIC, or TSC ticks: JitDump::tsc_times
  Pid pid = kNoPid;
  Tid tid = kNoTid;
  uint64_t address = 0;  // where the code is from then on
  uint64_t bytes = 0;
  uint64_t index = 0;                  // of the function: a move names the same as its load
  uint64_t old_address = 0;            // move: where it was
  uint64_t code_offset = 0;            // load: of its bytes in the file
  std::string_view name;               // load
  uint32_t first_line = 0, lines = 0;  // load: of JitDump::lines, by ascending address
};

struct JitDump {
  Pid pid = kNoPid;
  bool tsc_times = false;          // JITDUMP_FLAGS_ARCH_TIMESTAMP
  bool closed = false;             // JIT_CODE_CLOSE: nothing was to follow
  std::vector<JitRecord> records;  // in the order of the file
  std::vector<JitLine> lines;
  uint64_t read_bytes = 0;  // up to here the file could be read
  std::string damage;       // why not to its end; empty: it could. A record that the file's end cuts short is damage
  std::optional<JitRecord> cut;  // that record, if its fields are there
};

/// Bounds, each far above what compilers write: beyond them the rest of the file is damage.
inline constexpr size_t kMostJitRecords = size_t{1} << 20;
inline constexpr size_t kMostJitLines = size_t{1} << 23;

/// Borrows the bytes. Records of unknown kinds are skipped by their size. Errors: bad_input, of a file that does not begin as
/// one; unsupported, of another byte order, version or machine. Cost: O(bytes).
Result<JitDump> parse_jitdump(ByteSpan file);

}  // namespace hindcast::decode
