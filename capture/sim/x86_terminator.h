// How a block of x86-64 code ends: what its last instruction does to the flow, and where a direct one goes.
#pragma once

#include <cstdint>

#include "hindcast/bytes.h"

namespace hindcast::sim {

/// Intel PT's view of an instruction (SDM Vol. 3C, "Change of Flow Instructions").
enum class Terminator : uint8_t {
  none,       // runs on behind the block
  cond,       // Jcc, LOOPcc, JrCXZ: a TNT bit
  jump,       // direct: no packet
  call,       // direct: no packet; its return address may be predicted
  call_zero,  // direct to the next instruction: not pushed (SDM "RET compression")
  ret,        // near
  indirect_jump,
  indirect_call,
  far,  // SYSCALL, INT n, INT3, IRET, far transfers: leaves user mode
};

struct TerminatorInfo {
  Terminator kind = Terminator::none;
  /// Where a direct branch goes. For none: another address control may go on at, the instruction itself when it is a
  /// repeated string instruction that is not done, else ip + size.
  uint64_t target = 0;
};

/// The instruction at ip whose bytes these are exactly. Bytes that are no instruction end nothing: Terminator::none.
TerminatorInfo classify_terminator(uint64_t ip, ByteSpan instruction);

}  // namespace hindcast::sim
