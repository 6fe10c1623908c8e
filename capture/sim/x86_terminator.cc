#include "capture/sim/x86_terminator.h"

#include <Zydis/Zydis.h>

#include "hindcast/result.h"

namespace hindcast::sim {
namespace {

bool is_cond(ZydisMnemonic m) {
  switch (m) {
    case ZYDIS_MNEMONIC_JB:
    case ZYDIS_MNEMONIC_JBE:
    case ZYDIS_MNEMONIC_JCXZ:
    case ZYDIS_MNEMONIC_JECXZ:
    case ZYDIS_MNEMONIC_JL:
    case ZYDIS_MNEMONIC_JLE:
    case ZYDIS_MNEMONIC_JNB:
    case ZYDIS_MNEMONIC_JNBE:
    case ZYDIS_MNEMONIC_JNL:
    case ZYDIS_MNEMONIC_JNLE:
    case ZYDIS_MNEMONIC_JNO:
    case ZYDIS_MNEMONIC_JNP:
    case ZYDIS_MNEMONIC_JNS:
    case ZYDIS_MNEMONIC_JNZ:
    case ZYDIS_MNEMONIC_JO:
    case ZYDIS_MNEMONIC_JP:
    case ZYDIS_MNEMONIC_JRCXZ:
    case ZYDIS_MNEMONIC_JS:
    case ZYDIS_MNEMONIC_JZ:
    case ZYDIS_MNEMONIC_LOOP:
    case ZYDIS_MNEMONIC_LOOPE:
    case ZYDIS_MNEMONIC_LOOPNE:
      return true;
    default:
      return false;
  }
}

bool is_far(ZydisMnemonic m) {
  switch (m) {
    case ZYDIS_MNEMONIC_SYSCALL:
    case ZYDIS_MNEMONIC_SYSENTER:
    case ZYDIS_MNEMONIC_SYSRET:
    case ZYDIS_MNEMONIC_SYSEXIT:
    case ZYDIS_MNEMONIC_INT:
    case ZYDIS_MNEMONIC_INT1:
    case ZYDIS_MNEMONIC_INT3:
    case ZYDIS_MNEMONIC_INTO:
    case ZYDIS_MNEMONIC_IRET:
    case ZYDIS_MNEMONIC_IRETD:
    case ZYDIS_MNEMONIC_IRETQ:
    case ZYDIS_MNEMONIC_VMCALL:
    case ZYDIS_MNEMONIC_VMMCALL:
    case ZYDIS_MNEMONIC_VMLAUNCH:
    case ZYDIS_MNEMONIC_VMRESUME:
      return true;
    default:
      return false;
  }
}

}  // namespace

TerminatorInfo classify_terminator(uint64_t ip, ByteSpan instruction) {
  static const ZydisDecoder decoder = [] {
    ZydisDecoder d;
    HC_CHECK(ZYAN_SUCCESS(ZydisDecoderInit(&d, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64)));
    return d;
  }();
  const uint64_t fall = ip + instruction.size();
  TerminatorInfo out{Terminator::none, fall};
  ZydisDecodedInstruction in;
  ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
  if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, instruction.data(), instruction.size(), &in, operands)) ||
      in.length != instruction.size())
    return out;

  const auto direct = [&] { return in.operand_count_visible > 0 && operands[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE; };
  const auto target = [&] { return fall + static_cast<uint64_t>(operands[0].imm.value.s); };
  const bool far_branch = in.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR;
  if (is_cond(in.mnemonic)) {
    out = {Terminator::cond, target()};
  } else if (is_far(in.mnemonic) || far_branch) {
    out = {Terminator::far, fall};
  } else if (in.mnemonic == ZYDIS_MNEMONIC_JMP) {
    out = direct() ? TerminatorInfo{Terminator::jump, target()} : TerminatorInfo{Terminator::indirect_jump, 0};
  } else if (in.mnemonic == ZYDIS_MNEMONIC_CALL) {
    out = direct() ? TerminatorInfo{target() == fall ? Terminator::call_zero : Terminator::call, target()}
                   : TerminatorInfo{Terminator::indirect_call, 0};
  } else if (in.mnemonic == ZYDIS_MNEMONIC_RET) {
    out = {Terminator::ret, 0};
  } else if (in.attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE)) {
    out.target = ip;
  }
  return out;
}

}  // namespace hindcast::sim
