#include "decode/fast/block_graph.h"

#include <algorithm>
#include <atomic>

#include "decode/x86_insn.h"

namespace hindcast::decode {
namespace {

constexpr size_t kFirstTable = size_t{1} << 12;

uint64_t next_serial() {
  static std::atomic<uint64_t> last{0};
  return ++last;
}

SuperKind kind_of_end(BlockEnd end) {
  switch (end) {
    case BlockEnd::cond_branch:
      return SuperKind::branch;
    case BlockEnd::near_ret:
      return SuperKind::ret;
    case BlockEnd::indirect_jump:
    case BlockEnd::indirect_call:
    case BlockEnd::far_transfer:
      return SuperKind::tip;
    case BlockEnd::none:
    case BlockEnd::direct_jump:
    case BlockEnd::direct_call:
      break;
  }
  return SuperKind::dead;
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
    : code_(std::move(code)), bits_(bits), serial_(next_serial()), table_(kFirstTable, kNoBlock) {
  add({});
}

void BlockGraph::add(const CodeBlock& block) {
  blocks_.push_back(block);
  next_.push_back({});
  push_.push_back({});
}

size_t BlockGraph::memory() const {
  return blocks_.memory() + next_.memory() + push_.memory() + table_.capacity() * sizeof(BlockId);
}

size_t BlockGraph::slot_of(uint64_t ip) const {
  const size_t mask = table_.size() - 1;
  size_t slot = (ip * 0x9e3779b97f4a7c15u >> 32) & mask;
  while (table_[slot] != kNoBlock && block(index_of(table_[slot])).ip != ip) slot = (slot + 1) & mask;
  return slot;
}

BlockId BlockGraph::find(uint64_t ip) {
  superblocks_.clear();
  superblocks_.push_back(static_cast<uint32_t>(blocks_.size()));
  add_superblock(ip);
  // push() says where calls return to, and those superblocks have calls, too.
  for (auto i = superblocks_.front(); i < blocks_.size() && blocks_.size() < superblocks_.front() + kMostAtOnce; ++i) {
    const uint64_t to = block(i).behind();
    if (!block(i).calls() || table_[slot_of(to)] != kNoBlock) continue;
    superblocks_.push_back(static_cast<uint32_t>(blocks_.size()));
    add_superblock(to);
  }
  // Each superblock flows into ones that were there before it.
  superblocks_.push_back(static_cast<uint32_t>(blocks_.size()));
  for (size_t s = 0; s + 1 < superblocks_.size(); ++s) fill_pushes(superblocks_[s], superblocks_[s + 1]);
  return table_[slot_of(ip)];
}

/// Appends blocks from ip up to the end of the superblock or to a block that is known, and gives each its id.
void BlockGraph::add_superblock(uint64_t ip) {
  const size_t first = blocks_.size();
  BlockId end = kNoBlock;  // of what was known
  bool circle = false;
  for (uint64_t at = ip;;) {
    const auto index = static_cast<uint32_t>(blocks_.size());
    while (4 * (blocks_.size() + 1) >= 3 * table_.size()) grow_table();
    add(disassemble(at));
    table_[slot_of(at)] = make_id(index, 0, SuperKind::none);
    if (!blocks_[index].flows() || index - first + 1 == kMostAtOnce) break;
    at = blocks_[index].target;
    if (const BlockId known = table_[slot_of(at)]; known != kNoBlock) {
      circle = kind_of(known) == SuperKind::none;
      end = known;
      break;
    }
  }

  for (size_t i = blocks_.size(); i-- > first;) {
    CodeBlock& b = blocks_[i];
    BlockId onward = i + 1 < blocks_.size() ? table_[slot_of(blocks_[i + 1].ip)] : end;
    unsigned calls = b.calls();
    SuperKind kind = b.stops ? SuperKind::dead : kind_of_end(b.end);
    uint64_t through = b.count;
    if (b.flows()) {
      if (circle)
        onward = i + 1 < blocks_.size() ? onward : kNoBlock;
      else if (onward == kNoBlock || calls + calls_of(onward) > kMostCalls)
        kind = SuperKind::cut, onward = kNoBlock;
      else
        kind = kind_of(onward);
      if (onward != kNoBlock) {
        b.onward = index_of(onward);
        calls = std::min(calls + calls_of(onward), kMostCalls);
        through += blocks_[b.onward].through;
      }
    }
    b.through = static_cast<uint32_t>(std::min<uint64_t>(through, 0xffffffffu));
    table_[slot_of(b.ip)] = make_id(static_cast<uint32_t>(i), calls, kind);
  }
}

/// Of the blocks of one superblock, when those that it flows into are filled.
void BlockGraph::fill_pushes(uint32_t from, uint32_t to) {
  for (uint32_t i = to; i-- > from;) {
    const CodeBlock& b = blocks_[i];
    Pair& push = push_[i];
    if (b.onward != 0) push = push_[b.onward];
    if (!b.calls()) continue;
    push[1] = push[0];
    const BlockId known = table_[slot_of(b.behind())];
    push[0] = known != kNoBlock ? known : make_id(i, 0, SuperKind::pending);
  }
}

CodeBlock BlockGraph::disassemble(uint64_t ip) const {
  CodeBlock b;
  b.ip = ip;
  CodeReader code(*code_, ip);
  for (uint64_t at = ip;;) {
    const ByteSpan bytes = code.at(at);
    const X86Insn i = decode_x86(bytes, Ip(at), bits_);
    if (i.length == 0) {
      b.stops = true;
      b.bad = bytes.size() >= 15;  // else code that is not known may complete it
      return b;
    }
    ++b.count;
    b.last = static_cast<uint16_t>(at - ip);
    b.length = i.length;
    b.end = i.end;
    b.target = i.target;
    if (i.end != BlockEnd::none) return b;
    at += i.length;
    b.sets_cr3 = i.sends == InsnSends::pip;
    if (b.sets_cr3 || b.count == kMostInstructions) {
      b.target = at;
      return b;
    }
  }
}

void BlockGraph::grow_table() {
  const std::vector<BlockId> old = std::exchange(table_, std::vector<BlockId>(table_.size() * 2, kNoBlock));
  for (const BlockId id : old)
    if (id != kNoBlock) table_[slot_of(block(index_of(id)).ip)] = id;
}

const CodeBlock& BlockGraph::last_block(BlockId id) const {
  uint32_t i = index_of(id);
  while (blocks_[i].onward != 0) i = blocks_[i].onward;
  return blocks_[i];
}

BlockId BlockGraph::find_next(BlockId id, bool taken) {
  const CodeBlock& b = last_block(id);
  const BlockId next = at(taken ? b.target : b.behind());
  next_[index_of(id)][taken] = next;
  return next;
}

std::optional<uint32_t> BlockGraph::instructions_before(uint32_t index, uint64_t ip, uint64_t* last_ip) const {
  const CodeBlock& b = block(index);
  *last_ip = 0;
  if (ip < b.ip || (b.count == 0 ? ip != b.ip : ip >= b.behind())) {
    // Where known code ends: the instruction behind it is the one that was interrupted.
    if (b.stops && b.count != 0 && ip == b.behind()) {
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

std::optional<BlockGraph::Found> BlockGraph::first_that_sends(uint32_t index, InsnSends packet) const {
  const CodeBlock& b = block(index);
  CodeReader code(*code_, b.ip);
  for (uint64_t at = b.ip, n = 1; n <= b.count; ++n) {
    const X86Insn i = decode_x86(code.at(at), Ip(at), bits_);
    if (i.sends == packet) return Found{static_cast<uint32_t>(n), at, at + i.length};
    at += i.length;
  }
  return std::nullopt;
}

}  // namespace hindcast::decode
