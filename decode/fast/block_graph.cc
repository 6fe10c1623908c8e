#include "decode/fast/block_graph.h"

#include <algorithm>
#include <atomic>

#include "decode/x86_insn.h"

namespace hindcast::decode {
namespace {

constexpr size_t kFirstTable = size_t{1} << 12;

uint32_t next_serial() {
  static std::atomic<uint32_t> last{0};
  uint32_t serial;
  do serial = ++last & 0x7fffff;
  while (serial == 0);
  return serial;
}

BlockKind kind_of_end(BlockEnd end) {
  switch (end) {
    case BlockEnd::none:
    case BlockEnd::direct_jump:
      return BlockKind::jump;
    case BlockEnd::cond_branch:
      return BlockKind::branch;
    case BlockEnd::direct_call:
      return BlockKind::call;
    case BlockEnd::indirect_jump:
      return BlockKind::indirect;
    case BlockEnd::indirect_call:
      return BlockKind::indirect_call;
    case BlockEnd::near_ret:
      return BlockKind::ret;
    case BlockEnd::far_transfer:
      return BlockKind::far;
  }
  return BlockKind::stop;
}

/// Code bytes in order, read in pieces: most blocks need one.
class CodeReader {
 public:
  CodeReader(const CodeImage& code, uint64_t ip) : code_(code), base_(ip) {}
  /// The bytes from ip on, 15 of them or up to where none are known. ip does not go back.
  ByteSpan at(uint64_t ip) {
    if (ip - base_ + 15 > have_) refill(ip);
    return {buffer_.data() + (ip - base_), have_ - (ip - base_)};
  }

 private:
  void refill(uint64_t ip) {
    const size_t rest = have_ - std::min<uint64_t>(ip - base_, have_);
    std::copy(buffer_.begin() + static_cast<ptrdiff_t>(have_ - rest), buffer_.begin() + static_cast<ptrdiff_t>(have_),
              buffer_.begin());
    base_ = ip;
    have_ = rest;
    while (have_ < buffer_.size()) {
      const size_t n = code_.read(Ip(base_ + have_), std::span(buffer_).subspan(have_));
      if (n == 0) break;
      have_ += std::min(n, buffer_.size() - have_);
    }
  }

  const CodeImage& code_;
  std::array<uint8_t, 64> buffer_;
  uint64_t base_;
  size_t have_ = 0;
};

}  // namespace

BlockGraph::BlockGraph(std::shared_ptr<const CodeImage> code, int bits)
    : code_(std::move(code)),
      bits_(bits),
      serial_(next_serial()),
      next_(1),
      blocks_(1),
      table_(kFirstTable, kNoBlock) {}

size_t BlockGraph::slot_of(uint64_t ip) const {
  const size_t mask = table_.size() - 1;
  size_t slot = (ip * 0x9e3779b97f4a7c15u >> 32) & mask;
  while (table_[slot] != kNoBlock && block(table_[slot]).ip != ip) slot = (slot + 1) & mask;
  return slot;
}

BlockId BlockGraph::at(uint64_t ip) {
  const BlockId known = table_[slot_of(ip)];
  return known != kNoBlock ? known : build(ip);
}

BlockId BlockGraph::build(uint64_t ip) {
  if (2 * blocks_.size() >= table_.size()) grow_table();
  CodeBlock b;
  b.ip = ip;
  BlockKind kind = BlockKind::jump;
  CodeReader code(*code_, ip);
  uint64_t at = ip;
  for (;;) {
    const ByteSpan bytes = code.at(at);
    const X86Insn i = decode_x86(bytes, Ip(at), bits_);
    if (i.length == 0) {
      kind = BlockKind::stop;
      b.bad = bytes.size() >= 15;  // else code that is not known may complete it
      break;
    }
    ++b.count;
    b.last = static_cast<uint32_t>(at - ip);
    b.length = i.length;
    b.end = i.end;
    if (i.end != BlockEnd::none) {
      kind = kind_of_end(i.end);
      b.target = i.target;
      // What pushes an address only to read it is no call to return from: the CPU does not keep it (SDM Vol. 3C, "RET
      // Compression").
      if (i.end == BlockEnd::direct_call && i.target == at + i.length) kind = BlockKind::jump;
      break;
    }
    at += i.length;
    if (b.count == kMostInstructions) {
      b.target = at;
      break;
    }
  }
  const auto id = static_cast<BlockId>(blocks_.size() << 3 | static_cast<BlockId>(kind));
  blocks_.push_back(b);
  next_.push_back({kNoBlock, kNoBlock});
  table_[slot_of(ip)] = id;
  return id;
}

void BlockGraph::grow_table() {
  const std::vector<BlockId> old = std::exchange(table_, std::vector<BlockId>(table_.size() * 2, kNoBlock));
  for (const BlockId id : old)
    if (id != kNoBlock) table_[slot_of(block(id).ip)] = id;
}

BlockId BlockGraph::find_next(BlockId id, bool taken) {
  const CodeBlock& b = block(id);
  const BlockId n = at(taken ? b.target : b.behind());
  next_[index_of(id)][taken] = n;
  return n;
}

std::optional<uint32_t> BlockGraph::instructions_before(BlockId id, uint64_t ip, uint64_t* last_ip) const {
  const CodeBlock& b = block(id);
  *last_ip = 0;
  if (ip < b.ip || (b.count == 0 ? ip != b.ip : ip >= b.behind())) {
    // Where known code ends: the instruction behind it is the one that was interrupted.
    if (kind_of(id) == BlockKind::stop && b.count != 0 && ip == b.behind()) {
      *last_ip = b.last_ip();
      return b.count;
    }
    return std::nullopt;
  }
  uint64_t at = b.ip;
  CodeReader code(*code_, at);
  for (uint32_t n = 0; n <= b.count; ++n) {
    if (at == ip) return n;
    if (at > ip) break;
    const X86Insn i = decode_x86(code.at(at), Ip(at), bits_);
    if (i.length == 0) break;
    *last_ip = at;
    at += i.length;
  }
  return std::nullopt;
}

}  // namespace hindcast::decode
