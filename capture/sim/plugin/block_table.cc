// SPDX-License-Identifier: MIT
#include "capture/sim/plugin/block_table.h"

#include <algorithm>
#include <cstring>

namespace hindcast::sim {

int Block::index_of(uint64_t address) const {
  uint64_t at = ip;
  for (int i = 0; i < instructions; ++i) {
    if (at == address) return i;
    at += lengths()[i];
  }
  return -1;
}

Block* BlockTable::intern(uint64_t ip, const uint8_t* code, uint16_t bytes, const uint8_t* lengths,
                          uint16_t instructions) {
  std::lock_guard lock(mutex_);
  auto [from, to] = by_ip_.equal_range(ip);
  for (auto it = from; it != to; ++it) {
    Block* b = it->second;
    if (b->bytes == bytes && b->instructions == instructions && std::memcmp(b->data.get(), code, bytes) == 0 &&
        std::memcmp(b->lengths(), lengths, instructions) == 0) {
      return b;
    }
  }
  if (count_ == kChunk * kChunks) return nullptr;
  auto made = std::make_unique<Block>();
  Block& b = *made;
  b.id = count_;
  b.ip = ip;
  b.instructions = instructions;
  b.bytes = bytes;
  b.data = std::make_unique<uint8_t[]>(size_t{bytes} + instructions);
  std::memcpy(b.data.get(), code, bytes);
  std::memcpy(b.data.get() + bytes, lengths, instructions);
  b.last_ip = ip + bytes - lengths[instructions - 1];
  const InsnInfo last = inspect_instruction(b.last_ip, code + (b.last_ip - ip), lengths[instructions - 1]);
  b.last = last.kind;
  b.last_target = last.target;
  b.begins_repeated = instructions == 1 ? b.last == InsnClass::rep_string
                                        : inspect_instruction(ip, code, lengths[0]).kind == InsnClass::rep_string;
  // QEMU gives up a block at an instruction that writes to the block's own page, or that it cannot do atomically beside
  // other threads, and runs that instruction alone.
  b.may_restart = instructions == 1 && (b.last == InsnClass::plain || b.last == InsnClass::call);
  b.word = b.id;
  if (std::find(handlers_.begin(), handlers_.end(), ip) != handlers_.end()) b.is_handler = true;
  look_again(b);

  auto& chunk = chunks_[b.id / kChunk];
  if (!chunk) chunk = std::make_unique<Block*[]>(kChunk);
  if (!announce(b)) return nullptr;
  chunk[b.id % kChunk] = &b;
  ++count_;
  by_ip_.emplace(ip, made.release());
  return &b;
}

void BlockTable::look_again(Block& b) {
  if (b.begins_repeated || b.may_restart || b.is_handler) b.word |= Block::kSecondLook;
}

bool BlockTable::announce(const Block& b) {
  if (!defs_) return true;  // written when the connection stands
  const uint64_t payload = uint64_t{b.bytes} + b.instructions;
  const uint64_t size = sizeof(BlockDef) + (payload + 7) / 8 * 8;
  const uint64_t used = defs_->used.load(std::memory_order_relaxed);
  if (defs_capacity_ - used < size) return false;
  uint8_t* p = reinterpret_cast<uint8_t*>(defs_) + kPageBytes + used;
  const BlockDef def{b.id, b.instructions, b.bytes, b.ip};
  std::memcpy(p, &def, sizeof def);
  std::memcpy(p + sizeof def, b.data.get(), payload);
  defs_->used.store(used + size, std::memory_order_release);
  return true;
}

void BlockTable::set_defs(DefsHeader* defs, uint64_t capacity, uint32_t first_id) {
  std::lock_guard lock(mutex_);
  defs_ = defs;
  defs_capacity_ = capacity;
  for (uint32_t id = first_id; id < count_; ++id) {
    if (!announce(by_id(id))) break;
  }
}

void BlockTable::mark_handler(uint64_t ip) {
  std::lock_guard lock(mutex_);
  if (std::find(handlers_.begin(), handlers_.end(), ip) != handlers_.end()) return;
  handlers_.push_back(ip);
  auto [from, to] = by_ip_.equal_range(ip);
  for (auto it = from; it != to; ++it) {
    it->second->is_handler = true;
    look_again(*it->second);
  }
}

}  // namespace hindcast::sim
