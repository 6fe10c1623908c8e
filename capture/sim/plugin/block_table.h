// SPDX-License-Identifier: MIT
// The blocks of this process: one record and one dense id per (address, bytes), announced in the defs memfd.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "capture/sim/channel.h"
#include "capture/sim/plugin/instruction.h"

namespace hindcast::sim {

/// One block. Never freed: generated code holds its address.
struct Block {
  /// The stream's word, and in bit 31 whether the block needs a second look each time it runs (see the flags).
  std::atomic<uint32_t> word{0};
  uint32_t id = 0;
  uint64_t ip = 0;
  uint64_t last_ip = 0;      // of its last instruction
  uint64_t last_target = 0;  // where that goes when it is a direct branch or call
  uint16_t instructions = 0;
  uint16_t bytes = 0;
  InsnClass last = InsnClass::plain;
  bool begins_repeated = false;         // its first instruction is a repeated string instruction
  bool may_restart = false;             // one instruction that QEMU may run apart, having given up a longer block there
  std::atomic<bool> is_handler{false};  // a signal handler begins here
  std::unique_ptr<uint8_t[]> data;      // `bytes` code bytes, then `instructions` lengths

  static constexpr uint32_t kSecondLook = 0x80000000u;
  uint64_t end() const { return ip + bytes; }
  bool contains(uint64_t address) const { return address >= ip && address < end(); }
  const uint8_t* lengths() const { return data.get() + bytes; }
  /// How many instructions lie before address, which must be where one of them begins; -1 when it is not.
  int index_of(uint64_t address) const;
  /// The last instruction names ip as a place it may go to.
  bool leads_to(uint64_t address) const {
    if (last_target == address && (last == InsnClass::branch || last == InsnClass::call)) return true;
    return end() == address && (last == InsnClass::branch || last == InsnClass::plain || last == InsnClass::rep_string);
  }
};

/// All translating threads call it; a lock inside.
class BlockTable {
 public:
  /// Finds the block with these bytes or makes it. Returns null when the table or the defs memfd is full.
  Block* intern(uint64_t ip, const uint8_t* code, uint16_t bytes, const uint8_t* lengths, uint16_t instructions);

  /// The block of an id that intern() gave out.
  const Block& by_id(uint32_t id) const { return *chunks_[id / kChunk][id % kChunk]; }

  /// From now on blocks are written to this defs area of `capacity` bytes (after its header page), and so are those that
  /// exist already, but for ids below first_id.
  void set_defs(DefsHeader* defs, uint64_t capacity, uint32_t first_id);
  void forget_defs() { defs_ = nullptr; }
  uint32_t count() const { return count_; }

  /// A handler begins at ip: every block there, made or yet to be made, gets a second look.
  void mark_handler(uint64_t ip);

  std::mutex& mutex() { return mutex_; }  // held over fork, so that the child's copy is whole

 private:
  static constexpr uint32_t kChunk = 1u << 14;
  static constexpr uint32_t kChunks = 1u << 11;

  bool announce(const Block& b);
  void look_again(Block& b);

  std::mutex mutex_;
  std::unordered_multimap<uint64_t, Block*> by_ip_;
  std::vector<uint64_t> handlers_;
  std::unique_ptr<Block*[]> chunks_[kChunks];
  uint32_t count_ = 0;
  DefsHeader* defs_ = nullptr;
  uint64_t defs_capacity_ = 0;
};

}  // namespace hindcast::sim
