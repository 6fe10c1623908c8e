// The kernel's memory, through the ELF core file that /proc/kcore is.
#pragma once

#include <string>
#include <vector>

#include "capture/build_id.h"
#include "hindcast/bytes.h"
#include "hindcast/result.h"

namespace hindcast::capture {

/// Nothing that the file says is trusted. Not thread-safe.
class Kcore {
 public:
  struct Segment {
    uint64_t address = 0;
    uint64_t bytes = 0;
    uint64_t offset = 0;  // in the file
  };

  /// PROC/kcore. Errors: unavailable (this kernel has none), permission: with what was found and what to do; bad_input.
  static Result<Kcore> open(const std::string& proc, const std::string& sys);
  /// Any other core file. Reads its headers: 4,096 of them at most. Errors: bad_input, unsupported.
  static Result<Kcore> over(ReadAt read);

  /// The memory at [address, address + bytes), as it is now. What is not mapped there, the kernel shows as zeros. Errors:
  /// not_found (no segment holds all of it), io.
  Result<std::vector<uint8_t>> read(uint64_t address, uint64_t bytes) const;

  const std::vector<Segment>& segments() const { return segments_; }

 private:
  ReadAt read_;
  std::vector<Segment> segments_;  // to load; none wraps around
};

}  // namespace hindcast::capture
