// The block graph of one code image: blocks found as they are met, each disassembled once, with its successors in an array.
//
// A block id carries its kind, so a walk knows what to do next without a look at the block:
//
//   id = index << 3 | kind          next_[index] = {not taken, taken}; 0: not looked up yet
//
// kind             ended by                                          next block
//   branch         Jcc, LOOPcc, JrCXZ                                one TNT bit chooses from next
//   jump           direct jump, CALL to what follows it, a cut of a  next[1]
//                  very long run
//   call           direct call                                       next[1]; next[0] is where it returns to
//   indirect       indirect jump                                     a TIP; next[0] is the last target
//   indirect_call  indirect call                                     a TIP; next[0] is where it returns to
//   ret            near RET                                          a TNT bit and the return stack, or a TIP
//   far            SYSCALL, IRET, INT n, far branches                a TIP, or tracing ends
//   stop           no known code behind it                           none
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "hindcast/decoder.h"

namespace hindcast::decode {

enum class BlockKind : uint8_t { branch, jump, call, indirect, indirect_call, ret, far, stop };

using BlockId = uint32_t;
inline constexpr BlockId kNoBlock = 0;

constexpr BlockKind kind_of(BlockId id) { return static_cast<BlockKind>(id & 7); }
constexpr size_t index_of(BlockId id) { return id >> 3; }

struct CodeBlock {
  uint64_t ip = 0;
  uint64_t target = 0;  // branch, jump, call: where a taken one goes
  uint32_t count = 0;   // instructions; 0: there is no code at ip (kind stop)
  uint32_t last = 0;    // offset of the last instruction from ip
  uint8_t length = 0;   // of the last instruction
  BlockEnd end = BlockEnd::none;
  bool bad = false;  // stop: the bytes behind it are no instruction (else: none are known)

  uint64_t last_ip() const { return ip + last; }
  uint64_t behind() const { return ip + last + length; }
};

/// Grows as it is asked; what it knows stays true. One thread at a time. Memory: at most kMostBlocks times 64 bytes; full()
/// says that it is there, and whoever holds ids throws all of them away with the graph.
class BlockGraph {
 public:
  static constexpr size_t kMostBlocks = size_t{1} << 22;
  static constexpr uint32_t kMostInstructions = 1 << 16;  // of a block; longer runs are cut into several

  BlockGraph(std::shared_ptr<const CodeImage> code, int bits);

  /// The block that begins at ip. O(1) when it is known, else it is disassembled.
  BlockId at(uint64_t ip);
  const CodeBlock& block(BlockId id) const { return blocks_[index_of(id)]; }

  // Successors: at() of what the block says, remembered.
  BlockId next(BlockId id, bool taken) {
    const BlockId n = next_[index_of(id)][taken];
    return n != kNoBlock ? n : find_next(id, taken);
  }
  /// Of call and indirect_call: the block that it returns to.
  BlockId return_of(BlockId id) {
    const BlockId n = next_[index_of(id)][0];
    return n != kNoBlock ? n : find_next(id, false);
  }
  /// Of a TIP behind an indirect branch.
  BlockId target(BlockId id, uint64_t ip) {
    if (kind_of(id) != BlockKind::indirect) return at(ip);
    BlockId& last = next_[index_of(id)][0];
    if (last == kNoBlock || block(last).ip != ip) {
      const BlockId n = at(ip);
      next_[index_of(id)][0] = n;
      return n;
    }
    return last;
  }

  /// How many instructions of the block come before ip; nothing when none of them begins there. ip == block.ip: 0.
  std::optional<uint32_t> instructions_before(BlockId id, uint64_t ip, uint64_t* last_ip) const;

  size_t size() const { return blocks_.size(); }
  bool full() const { return blocks_.size() >= kMostBlocks; }
  const std::shared_ptr<const CodeImage>& code() const { return code_; }
  int bits() const { return bits_; }
  /// 23 bits, not 0; the same for graphs only when 8 million were made in between.
  uint32_t serial() const { return serial_; }

 private:
  BlockId find_next(BlockId id, bool taken);
  BlockId build(uint64_t ip);
  void grow_table();
  size_t slot_of(uint64_t ip) const;

  std::shared_ptr<const CodeImage> code_;
  int bits_;
  uint32_t serial_;
  std::vector<std::array<BlockId, 2>> next_;
  std::vector<CodeBlock> blocks_;  // [0] is none
  std::vector<BlockId> table_;     // open addressing by ip; a power of two
};

}  // namespace hindcast::decode
