// SPDX-License-Identifier: MIT
#include "capture/sim/plugin/instruction.h"

#include <Zydis/Zydis.h>

namespace hindcast::sim {
namespace {

ZydisDecoder make_decoder() {
  ZydisDecoder d;
  ZydisDecoderInit(&d, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
  return d;
}

// Any of the two repeats a string instruction, also the one that the manual does not list for it.
bool has_repeat_prefix(const ZydisDecodedInstruction& insn) {
  for (uint8_t i = 0; i < insn.raw.prefix_count; ++i) {
    if (insn.raw.prefixes[i].value == 0xf2 || insn.raw.prefixes[i].value == 0xf3) return true;
  }
  return false;
}

InsnClass class_of(const ZydisDecodedInstruction& insn) {
  switch (insn.meta.category) {
    case ZYDIS_CATEGORY_STRINGOP:
    case ZYDIS_CATEGORY_IOSTRINGOP:
      return has_repeat_prefix(insn) ? InsnClass::rep_string : InsnClass::plain;
    case ZYDIS_CATEGORY_COND_BR:
      return InsnClass::branch;
    case ZYDIS_CATEGORY_UNCOND_BR:
      return insn.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR ? InsnClass::other_exit : InsnClass::branch;
    case ZYDIS_CATEGORY_CALL:
      return InsnClass::call;
    case ZYDIS_CATEGORY_INTERRUPT:
      if (insn.mnemonic == ZYDIS_MNEMONIC_INT3 || insn.mnemonic == ZYDIS_MNEMONIC_INT1) return InsnClass::breakpoint;
      return insn.mnemonic == ZYDIS_MNEMONIC_INT ? InsnClass::soft_int : InsnClass::other_exit;
    case ZYDIS_CATEGORY_RET:
    case ZYDIS_CATEGORY_SYSCALL:
    case ZYDIS_CATEGORY_SYSRET:
      return InsnClass::other_exit;
    default:
      break;
  }
  switch (insn.mnemonic) {
    case ZYDIS_MNEMONIC_HLT:
    case ZYDIS_MNEMONIC_UD0:
    case ZYDIS_MNEMONIC_UD1:
    case ZYDIS_MNEMONIC_UD2:
    case ZYDIS_MNEMONIC_XABORT:
      return InsnClass::other_exit;
    default:
      return InsnClass::plain;
  }
}

}  // namespace

InsnInfo inspect_instruction(uint64_t ip, const uint8_t* bytes, size_t n) {
  static const ZydisDecoder decoder = make_decoder();
  ZydisDecodedInstruction insn;
  ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
  if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, bytes, n, &insn, operands))) return {};
  InsnInfo info{insn.length, class_of(insn), 0};
  if (info.kind == InsnClass::branch || info.kind == InsnClass::call) {
    ZyanU64 target = 0;
    const bool direct = insn.operand_count > 0 && operands[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE &&
                        ZYAN_SUCCESS(ZydisCalcAbsoluteAddress(&insn, &operands[0], ip, &target));
    if (direct) info.target = target;
    if (!direct && info.kind == InsnClass::branch) info.kind = InsnClass::other_exit;
  }
  return info;
}

}  // namespace hindcast::sim
