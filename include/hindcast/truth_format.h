// SPDX-License-Identifier: MIT
// Ground truth of a simulated run: files that say what each thread executed, written apart from the channel.
//
// The plugin, given truth=DIR, writes into DIR
//   PID.K.blocks     one per process image (K counts them: an exec starts a new one); TruthHeader, then entries:
//                    TruthBlock, then `instructions` TruthInstruction. number 0 ends the file.
//   PID.K.TID.J.thread   one per thread; TruthHeader, then u32 words. A zero word ends the file.
// All numbers are little-endian. Files are written through shared mappings, so that what a killed process did is there;
// they are longer than what they hold, and the rest is zero.
//
// Words: 1..0x7fffffff is a block's number: the thread began it. It ran to its end unless a `partial` follows directly.
// Others are 0x80000000 | TruthWord << 24 | low 24 bits, then as many words as truth_words_after() says. 64-bit numbers
// are two words, the low one first. A thread whose last word is a block's number (the process was killed) does not say
// how far that block ran.
//
// Executed means, as for PT: a repeated string instruction counts once, when it completes; an instruction that faults
// does not count; INT3 and INT n do not count; SYSCALL does.
#pragma once

#include <cstdint>

namespace hindcast::sim {

inline constexpr uint64_t kTruthMagic = 0x31485452544348ull;  // "HCTRTH1"
inline constexpr uint32_t kTruthVersion = 1;

struct TruthHeader {
  uint64_t magic;
  uint32_t version;
  int32_t pid;
  int32_t tid;         // 0 in a blocks file
  int32_t parent_pid;  // in a blocks file of a fork's child; else 0
  uint64_t tsc;        // when the file was begun
  uint32_t failed;     // 1: the file could not be made longer, so its end is not the thread's end
  uint32_t reserved[7];
};
static_assert(sizeof(TruthHeader) == 64);

struct TruthBlock {
  uint32_t number;  // from 1, dense in a file but for a fork's child, which repeats its parent's
  uint32_t instructions;
};

enum class TruthClass : uint8_t { other = 0, call = 1, ret = 2 };

struct TruthInstruction {
  uint64_t ip;
  uint8_t length;
  TruthClass kind;
  uint8_t reserved[6];
};
static_assert(sizeof(TruthInstruction) == 16);

enum class TruthWord : uint8_t {
  mark = 1,            // low24 = CPU; tsc. What stands before it had run by then, what follows had not begun
  partial = 2,         // low24 = how many instructions of the block before were executed
  signal = 3,          // low24 = signal (0: INT n); interrupted address, tsc. A handler begins next
  syscall_enter = 4,   // low24 = number; tsc
  syscall_return = 5,  // low24 = CPU; tsc
  end = 6,             // tsc. The thread ended, or is about to exec (if that fails, more words follow)
};

constexpr uint32_t truth_words_after(TruthWord w) {
  return w == TruthWord::partial ? 0 : w == TruthWord::signal ? 4 : 2;
}
constexpr uint32_t truth_word(TruthWord w, uint32_t low24) {
  return 0x80000000u | static_cast<uint32_t>(w) << 24 | (low24 & 0xffffffu);
}

}  // namespace hindcast::sim
