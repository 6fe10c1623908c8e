// Length and branch class of one x86 instruction, by Zydis.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "hindcast/decoder.h"
#include "hindcast/event.h"

namespace hindcast::decode {

/// A packet that the CPU may send of an instruction, besides those of a branch.
enum class InsnSends : uint8_t {
  nothing,
  pip,   // MOV to CR3
  ptw,   // PTWRITE
  vmcs,  // VMPTRLD
};

/// `length` is 0 when the bytes are no instruction (or too few for one).
struct X86Insn {
  uint8_t length = 0;
  BlockEnd end = BlockEnd::none;
  uint64_t target = 0;  // of a direct branch
  InsnSends sends = InsnSends::nothing;
};

/// bits: 16, 32 or 64. `bytes` start at ip; 15 are always enough.
X86Insn decode_x86(ByteSpan bytes, Ip ip, int bits = 64);
/// The same, reading from an image. Handles instructions that cross sections.
X86Insn decode_x86(const CodeImage& image, Ip ip, int bits = 64);

/// Why the instruction at ip cannot be read where bytes for it are missing: image_missing or code_version_unknown.
GapCause why_no_instruction(const CodeImage& image, Ip ip);

/// Addresses of a block's instructions: event.count of them, from event.ip to event.last_ip. Remembers what
/// it decoded, so that a block that runs again costs a look-up. Not thread-safe.
class BlockExpander {
 public:
  BlockExpander();
  ~BlockExpander();
  /// Borrowed until the next call. Shorter than event.count when the image lacks bytes or its code does not
  /// lead from ip to last_ip in that many steps: then it holds what is certain.
  std::span<const uint64_t> instructions(const std::shared_ptr<const CodeImage>& image, const Event& block);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace hindcast::decode
