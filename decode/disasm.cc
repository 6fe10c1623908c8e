#include "decode/disasm.h"

#include <capstone/capstone.h>

#include <cstdio>
#include <cstring>
#include <utility>

namespace hindcast::decode {
namespace {

std::string bytes_text(ByteSpan insn) {
  std::string s = ".byte";
  char hex[8];
  for (size_t i = 0; i < insn.size(); ++i) {
    std::snprintf(hex, sizeof hex, "%c0x%02x", i ? ',' : ' ', insn[i]);
    s += hex;
  }
  return s;
}

}  // namespace

Disassembler::Disassembler(AsmSyntax syntax, int bits) {
  const cs_mode mode = bits == 16 ? CS_MODE_16 : bits == 32 ? CS_MODE_32 : CS_MODE_64;
  csh h = 0;
  if (cs_open(CS_ARCH_X86, mode, &h) != CS_ERR_OK) return;
  cs_option(h, CS_OPT_SYNTAX, syntax == AsmSyntax::att ? CS_OPT_SYNTAX_ATT : CS_OPT_SYNTAX_INTEL);
  handle_ = h;
}

Disassembler::~Disassembler() {
  csh h = handle_;
  if (h) cs_close(&h);
}

Disassembler::Disassembler(Disassembler&& o) noexcept : handle_(std::exchange(o.handle_, 0)) {}

Disassembler& Disassembler::operator=(Disassembler&& o) noexcept {
  std::swap(handle_, o.handle_);
  return *this;
}

std::string Disassembler::text(Ip ip, ByteSpan insn) {
  cs_insn* out = nullptr;
  const size_t n = handle_ ? cs_disasm(handle_, insn.data(), insn.size(), ip.value(), 1, &out) : 0;
  if (n == 0) return bytes_text(insn);
  std::string s;
  if (out->size == insn.size()) {
    s = out->mnemonic;
    if (out->op_str[0]) {
      s.append(s.size() < 6 ? 6 - s.size() : 0, ' ');
      s += ' ';
      for (const char* p = out->op_str; *p; ++p) {  // "a, b" as the binutils write it: "a,b"
        s += *p;
        if (*p == ',' && p[1] == ' ') ++p;
      }
    }
  }
  cs_free(out, n);
  return s.empty() ? bytes_text(insn) : s;
}

}  // namespace hindcast::decode
