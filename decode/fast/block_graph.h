// The block graph of one code image: blocks found as they are met, each disassembled once.
//
// A block is a run of instructions up to a branch. A superblock is a block and those that follow it without using trace: over
// direct jumps, into direct calls. It belongs to its first block, so every block begins one. Its id says how it ends, so a
// walk knows what it needs next while it loads the rest:
//
//   id = index of the first block << 5 | calls inside << 3 | kind
//
// kind      ended by                                                  what follows
//   branch  Jcc, LOOPcc, JrCXZ                                        next()[index][TNT bit]
//   ret     near RET                                                  the return stack and a TNT bit, or a TIP
//   tip     indirect jump or call, SYSCALL, IRET, INT n, far branch   a TIP
//   cut     more than two calls, or very many blocks                  next()[index][1]
//   dead    no known code behind it, or a circle without trace        nothing
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "decode/fast/growing_array.h"
#include "decode/x86_insn.h"
#include "hindcast/decoder.h"

namespace hindcast::decode {

enum class SuperKind : uint8_t {
  none,  // kNoBlock
  branch,
  ret,
  tip,
  cut,
  dead,
  // On the return stack only:
  pending,  // where the call at the end of block `index` returns to
  foreign,  // an address that the stack keeps
};

/// Of a superblock.
using BlockId = uint32_t;
inline constexpr BlockId kNoBlock = 0;

constexpr SuperKind kind_of(BlockId id) { return static_cast<SuperKind>(id & 7); }
constexpr unsigned calls_of(BlockId id) { return id >> 3 & 3; }
constexpr uint32_t index_of(BlockId id) { return id >> 5; }
constexpr BlockId make_id(uint32_t index, unsigned calls, SuperKind kind) {
  return index << 5 | calls << 3 | static_cast<BlockId>(kind);
}

struct CodeBlock {
  uint64_t ip = 0;
  uint64_t target = 0;   // direct branches: where a taken one goes; a cut run: behind()
  uint32_t onward = 0;   // index of the block that follows in the superblock; 0: it ends here
  uint32_t through = 0;  // instructions of the superblock that begins here
  uint16_t count = 0;    // instructions; 0: there is no code at ip
  uint16_t last = 0;     // offset of the last instruction from ip
  uint8_t length = 0;    // of the last instruction
  BlockEnd end = BlockEnd::none;
  bool stops : 1 = false;     // no known code behind it
  bool bad : 1 = false;       // it stops because the bytes behind it are no instruction (else: none are known)
  bool sets_cr3 : 1 = false;  // with its last instruction: where CR3 is filtered, tracing may turn off behind it

  uint64_t last_ip() const { return ip + last; }
  uint64_t behind() const { return ip + last + length; }
  /// Goes on without trace.
  bool flows() const {
    return !stops && (end == BlockEnd::none || end == BlockEnd::direct_jump || end == BlockEnd::direct_call);
  }
  /// What pushes an address only to read it is no call to return from: the CPU does not keep it (SDM Vol. 3C, "RET
  /// Compression").
  bool calls() const { return end == BlockEnd::indirect_call || (end == BlockEnd::direct_call && target != behind()); }
};
static_assert(sizeof(CodeBlock) == 32);

/// Grows as it is asked; what it knows stays true. One thread at a time. Memory: kMostBlocks, and what one look-up adds, of 64
/// bytes at most each, and 6 more while the table grows; full() says that they are there, and whoever holds ids throws all of
/// them away with the graph.
class BlockGraph {
 public:
  using Pair = std::array<BlockId, 2>;
  static constexpr unsigned kMostCalls = 2;  // inside a superblock
  static constexpr size_t kMostBlocks = size_t{1} << 22;
  static constexpr unsigned kMostInstructions = 256;  // of a block; longer runs are several
  /// New blocks of a superblock; beyond it is cut. And new blocks of a look-up before it leaves for later where calls return
  /// to: a TIP of three bytes must not cost more.
  static constexpr unsigned kMostAtOnce = 256;

  BlockGraph(std::shared_ptr<const CodeImage> code, int bits);

  /// The superblock that begins at ip. O(1) when it is known, else it is disassembled, and what its calls return to.
  BlockId at(uint64_t ip) {
    const BlockId known = table_[slot_of(ip)];
    return known != kNoBlock ? known : find(ip);
  }
  /// What follows a branch (taken or not) or a cut (taken), looked up and remembered.
  BlockId find_next(BlockId id, bool taken);

  const CodeBlock& block(uint32_t index) const { return blocks_[index]; }
  const CodeBlock& last_block(BlockId id) const;
  // By index, until the next call that may add to them:
  /// What follows a branch, {not taken, taken}, or a cut, {-, next}. kNoBlock: not looked up yet.
  const Pair* next() const { return next_.data(); }
  /// Where the calls inside return to, oldest first.
  const Pair* push() const { return push_.data(); }
  /// The block behind one that flows(): its superblock may end in front of it.
  uint32_t after(uint32_t index) { return index_of(at(blocks_[index].target)); }

  /// How many instructions of the block come before ip; nothing when none of them begins there. ip == block.ip: 0.
  std::optional<uint32_t> instructions_before(uint32_t index, uint64_t ip, uint64_t* last_ip) const;

  struct Found {
    uint32_t count = 0;  // instructions of the block up to and with it
    uint64_t ip = 0, behind = 0;
  };
  /// The first instruction of the block that sends such a packet.
  std::optional<Found> first_that_sends(uint32_t index, InsnSends packet) const;

  size_t size() const { return blocks_.size(); }
  /// Bytes that it takes beside the code: 64 a block at most, and 28 KiB.
  size_t memory() const;
  bool full() const { return blocks_.size() >= kMostBlocks; }
  const std::shared_ptr<const CodeImage>& code() const { return code_; }
  int bits() const { return bits_; }
  /// No other graph of this process has it. Not 0.
  uint64_t serial() const { return serial_; }

 private:
  BlockId find(uint64_t ip);
  void add(const CodeBlock& block);
  void add_superblock(uint64_t ip);
  CodeBlock disassemble(uint64_t ip) const;
  void fill_pushes(uint32_t from, uint32_t to);
  void grow_table();
  size_t slot_of(uint64_t ip) const;

  std::shared_ptr<const CodeImage> code_;
  int bits_;
  uint64_t serial_;
  GrowingArray<Pair> next_, push_;
  GrowingArray<CodeBlock> blocks_;     // [0] is none
  std::vector<BlockId> table_;         // open addressing by ip; a power of two
  std::vector<uint32_t> superblocks_;  // of one find(): where they begin
};

}  // namespace hindcast::decode
