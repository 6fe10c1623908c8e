// One x86 instruction as text, by Capstone.
#pragma once

#include <cstdint>
#include <string>

#include "hindcast/bytes.h"
#include "hindcast/units.h"

namespace hindcast::decode {

enum class AsmSyntax : uint8_t { att, intel };

/// Not thread-safe. Cost: about a microsecond an instruction.
class Disassembler {
 public:
  explicit Disassembler(AsmSyntax syntax = AsmSyntax::att, int bits = 64);
  ~Disassembler();
  Disassembler(Disassembler&& o) noexcept;
  Disassembler& operator=(Disassembler&& o) noexcept;

  /// "mov    %rsp,%rdi". insn holds exactly one instruction, whose length somebody else decided: when
  /// Capstone does not know it or disagrees about its length (Capstone 4 lacks some EVEX instructions), the
  /// text is its bytes:
  /// ".byte 0x62,0xf1,...".
  std::string text(Ip ip, ByteSpan insn);

 private:
  size_t handle_ = 0;  // Capstone's csh; 0: it could not be opened, so every text is bytes
};

}  // namespace hindcast::decode
