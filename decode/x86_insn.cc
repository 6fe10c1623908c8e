#include "decode/x86_insn.h"

#include <algorithm>
#include <array>
#include <list>
#include <unordered_map>
#include <vector>

#include <Zydis/Zydis.h>

namespace hindcast::decode {
namespace {

constexpr size_t kMaxInsn = 15;  // SDM Vol. 2A, 2.3.11: a longer instruction faults

struct Decoders {
  ZydisDecoder d16, d32, d64;
  Decoders() {
    ZydisDecoderInit(&d16, ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16);
    ZydisDecoderInit(&d32, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
    ZydisDecoderInit(&d64, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
  }
  const ZydisDecoder& of(int bits) const { return bits == 64 ? d64 : bits == 32 ? d32 : d16; }
};

const Decoders& decoders() {
  static const Decoders d;
  return d;
}

BlockEnd classify(const ZydisDecodedInstruction& i) {
  const bool direct = i.raw.imm[0].is_relative;
  switch (i.meta.category) {
    case ZYDIS_CATEGORY_COND_BR:
      // XBEGIN sits in this category but is no branch: an abort shows as MODE.TSX and FUP.
      return i.mnemonic == ZYDIS_MNEMONIC_XBEGIN ? BlockEnd::none : BlockEnd::cond_branch;
    case ZYDIS_CATEGORY_UNCOND_BR:
      if (i.mnemonic != ZYDIS_MNEMONIC_JMP) return BlockEnd::none;  // XABORT
      if (i.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR) return BlockEnd::far_transfer;
      return direct ? BlockEnd::direct_jump : BlockEnd::indirect_jump;
    case ZYDIS_CATEGORY_CALL:
      if (i.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR) return BlockEnd::far_transfer;
      return direct ? BlockEnd::direct_call : BlockEnd::indirect_call;
    case ZYDIS_CATEGORY_RET:
      return i.mnemonic == ZYDIS_MNEMONIC_RET && i.meta.branch_type != ZYDIS_BRANCH_TYPE_FAR ? BlockEnd::near_ret
                                                                                             : BlockEnd::far_transfer;
    case ZYDIS_CATEGORY_SYSCALL:
    case ZYDIS_CATEGORY_SYSRET:
    case ZYDIS_CATEGORY_INTERRUPT:
      return i.mnemonic == ZYDIS_MNEMONIC_BOUND ? BlockEnd::none : BlockEnd::far_transfer;  // it goes on, or faults
    default:
      break;
  }
  switch (i.mnemonic) {
    case ZYDIS_MNEMONIC_UD0:
    case ZYDIS_MNEMONIC_UD1:
    case ZYDIS_MNEMONIC_UD2:
      return BlockEnd::none;  // faults; never retires
    case ZYDIS_MNEMONIC_VMLAUNCH:
    case ZYDIS_MNEMONIC_VMRESUME:
    case ZYDIS_MNEMONIC_RSM:
    case ZYDIS_MNEMONIC_UIRET:
      return BlockEnd::far_transfer;
    default:
      return BlockEnd::none;
  }
}

}  // namespace

X86Insn decode_x86(ByteSpan bytes, Ip ip, int bits) {
  ZydisDecodedInstruction i;
  if (!ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(&decoders().of(bits), nullptr, bytes.data(),
                                                  std::min(bytes.size(), kMaxInsn), &i)))
    return {};
  X86Insn r;
  r.length = i.length;
  r.end = classify(i);
  if (i.mnemonic == ZYDIS_MNEMONIC_MOV && i.opcode_map == ZYDIS_OPCODE_MAP_0F && i.opcode == 0x22 &&
      i.raw.modrm.reg == 3 && i.raw.rex.R == 0)
    r.sends = InsnSends::pip;
  else if (i.mnemonic == ZYDIS_MNEMONIC_PTWRITE)
    r.sends = InsnSends::ptw;
  else if (i.mnemonic == ZYDIS_MNEMONIC_VMPTRLD)
    r.sends = InsnSends::vmcs;
  if (i.raw.imm[0].is_relative) {
    r.target = ip.value() + i.length + static_cast<uint64_t>(i.raw.imm[0].value.s);
    if (bits != 64) r.target &= 0xffffffffu;
  }
  return r;
}

namespace {

using Buffer = std::array<uint8_t, kMaxInsn>;

/// How many bytes from ip on are known, up to those that an instruction needs at most.
size_t read_insn(const CodeImage& image, Ip ip, Buffer& out) {
  size_t have = 0;
  while (have < out.size()) {
    const size_t n = image.read(Ip(ip.value() + have), std::span(out).subspan(have));
    if (n == 0) break;
    have += std::min(n, out.size() - have);
  }
  return have;
}

}  // namespace

X86Insn decode_x86(const CodeImage& image, Ip ip, int bits) {
  Buffer buf;
  const size_t have = read_insn(image, ip, buf);
  return decode_x86(ByteSpan(buf.data(), have), ip, bits);
}

GapCause why_no_instruction(const CodeImage& image, Ip ip) {
  Buffer buf;
  const size_t have = read_insn(image, ip, buf);
  return image.version_unknown(Ip(ip.value() + have)) ? GapCause::code_version_unknown : GapCause::image_missing;
}

struct BlockExpander::Impl {
  struct Key {
    uint64_t ip, last;
    uint32_t count;
    bool operator==(const Key&) const = default;
  };
  struct Hash {
    size_t operator()(const Key& k) const {
      return (k.ip * 0x9e3779b97f4a7c15u) ^ (k.last * 0xc2b2ae3d27d4eb4fu) ^ k.count;
    }
  };
  using Blocks = std::unordered_map<Key, std::vector<uint64_t>, Hash>;
  struct PerImage {
    std::shared_ptr<const CodeImage> image;  // held: its address must not be reused for another image
    Blocks blocks;
  };
  static constexpr size_t kImages = 16;
  static constexpr size_t kBlocksPerImage = size_t{1} << 18;

  std::list<PerImage> recent;  // most recently used first

  Blocks& of(const std::shared_ptr<const CodeImage>& image) {
    for (auto it = recent.begin(); it != recent.end(); ++it) {
      if (it->image == image) {
        recent.splice(recent.begin(), recent, it);
        return recent.front().blocks;
      }
    }
    if (recent.size() == kImages) recent.pop_back();
    recent.push_front({image, {}});
    return recent.front().blocks;
  }
};

BlockExpander::BlockExpander() : impl_(std::make_unique<Impl>()) {}
BlockExpander::~BlockExpander() = default;

std::span<const uint64_t> BlockExpander::instructions(const std::shared_ptr<const CodeImage>& image,
                                                      const Event& block) {
  if (!image || block.kind != EventKind::block) return {};
  Impl::Blocks& blocks = impl_->of(image);
  const Impl::Key key{block.ip, block.last_ip, block.count};
  if (const auto it = blocks.find(key); it != blocks.end()) return it->second;
  if (blocks.size() >= Impl::kBlocksPerImage) blocks.clear();
  std::vector<uint64_t>& ips = blocks[key];
  uint64_t ip = block.ip;
  while (ips.size() < block.count) {
    const X86Insn i = decode_x86(*image, Ip(ip));
    if (i.length == 0) break;
    ips.push_back(ip);
    if (ip == block.last_ip) break;
    ip += i.length;
  }
  // What does not end where the block says is not its instructions: keep only the certain first one.
  if (!ips.empty() && (ips.size() != block.count || ips.back() != block.last_ip)) ips.resize(1);
  return ips;
}

}  // namespace hindcast::decode
