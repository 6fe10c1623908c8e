// What the encoder needs to know of a block of code, by its dense id.
#pragma once

#include <cstdint>

#include "capture/sim/x86_terminator.h"
#include "hindcast/bytes.h"

namespace hindcast::sim {

/// One block, 32 bytes. Its instructions are contiguous; lengths points at `instructions` bytes that outlive the encoder's
/// use of it.
struct BlockInfo {
  uint64_t ip = 0;
  uint64_t target = 0;  // TerminatorInfo::target
  const uint8_t* lengths = nullptr;
  uint16_t bytes = 0;
  uint16_t instructions = 0;
  Terminator kind = Terminator::none;

  uint64_t fall() const { return ip + bytes; }
  /// Its bytes, where the lengths lie behind them: of a block of a process.
  ByteSpan code() const { return {lengths - bytes, bytes}; }
  /// The address of instruction n; n == instructions gives the end.
  uint64_t ip_of(uint32_t n) const {
    uint64_t at = ip;
    for (uint32_t i = 0; i < n; ++i) at += lengths[i];
    return at;
  }
};

}  // namespace hindcast::sim
