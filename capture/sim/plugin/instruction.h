// SPDX-License-Identifier: MIT
// Length and class of one x86-64 instruction, as far as the channel needs them.
#pragma once

#include <cstddef>
#include <cstdint>

namespace hindcast::sim {

enum class InsnClass : uint8_t {
  plain,
  rep_string,  // MOVS, CMPS, STOS, LODS, SCAS, INS, OUTS with a repeat prefix
  branch,      // direct jump or Jcc, LOOP, JrCXZ: goes to target or on
  call,        // direct or not: stores a return address
  other_exit,  // indirect jump, RET, far transfers, SYSCALL, HLT, UD: goes elsewhere
  breakpoint,  // INT3, INT1
  soft_int,    // INT n
};

struct InsnInfo {
  uint8_t length = 0;  // 0: these bytes are no instruction
  InsnClass kind = InsnClass::plain;
  uint64_t target = 0;  // branch and direct call: where to; else 0
};

/// Cost: about 200 ns; asked once per instruction that ends or begins a new block.
InsnInfo inspect_instruction(uint64_t ip, const uint8_t* bytes, size_t n);

}  // namespace hindcast::sim
