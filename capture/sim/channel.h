// What the QEMU plugin tells the daemon: executed blocks per thread, when and where, and what the blocks are.
//
// Shared by the plugin (MIT, loaded into QEMU) and the daemon; it includes nothing of ours.
//
//   socket   The daemon listens on an AF_UNIX SOCK_SEQPACKET socket whose path the plugin gets as channel=PATH. Each
//            process connects once (again after fork and exec) and sends Message values, some with one memfd attached
//            (SCM_RIGHTS). The plugin never waits for an answer, but for ring space. Every memfd is made with
//            MFD_ALLOW_SEALING: the daemon seals it against shrinking, so that reading it cannot fault.
//   ring     One memfd per thread: a RingHeader page, then `capacity` little-endian u32 words, a power of two. Single
//            writer, single reader. `written` and `taken` count words since the start and never wrap (u64). When full,
//            the guest thread sleeps until space comes or the daemon is gone (then recording ends, the program runs on).
//            `written` is published after every special word and before any wait. Words without a time (blocks, cuts)
//            between two words with one number at most kMaxUntimedWords. A thread may sleep for ring space while
//            others wait for it in QEMU, so the daemon must never hold one ring's words back until another ring moves.
//            `position` moves with every word; the words between `written` and it are blocks. It is only worth reading
//            while its thread stands still: off its CPU, or when the process is gone (its connection is closed). A ring
//            whose last word is a block (no exit word) does not say how far that block ran.
//   defs     One memfd per process: a DefsHeader page, then BlockDef entries back to back, append only; `used` is
//            published (release) after the entry is whole and before any ring names its id. A forked child starts its
//            own defs; ids below DefsHeader.first_id are its parent's, as they stood at the fork.
//
// A thread's stream of words:
//   0x00000000..0x7fffffff   block of this id ran from its first to its last instruction
//   0x80000000 | type << 24 | low24, then the type's fixed number of words (kWordsAfter); see Word below.
#pragma once

#include <atomic>
#include <cstdint>

namespace hindcast::sim {

inline constexpr uint32_t kChannelMagic = 0x48434d31;  // "1MCH"
inline constexpr uint32_t kChannelVersion = 2;
inline constexpr uint32_t kPageBytes = 4096;
inline constexpr uint64_t kRingWords = uint64_t{1} << 21;  // 8 MiB a thread
inline constexpr uint64_t kMaxUntimedWords = uint64_t{1} << 18;
inline constexpr uint64_t kDefsBytes = uint64_t{1} << 30;  // sparse; a memfd costs what is touched

enum class MessageKind : uint32_t {
  process = 1,  // first on each connection; fd = defs. value = parent pid when this is a fork, else 0 (exec or start)
  thread = 2,   // fd = ring; tid
  code = 3,     // the block with id `value` was translated at tsc, from memory whose bytes no file holds
  exec = 4,     // this process is about to execve. value 0: the new program will connect again; 1: it cannot be
                // followed (not an x86-64 program) and runs natively, untraced. The execve may still fail
  mapping = 5,  // a system call is about to change [address, address + length), in which such code was translated.
                // value 1: its protection, to prot; 0: what is there goes
};

struct Message {
  uint32_t magic = kChannelMagic;
  uint32_t version = kChannelVersion;
  MessageKind kind = MessageKind::process;
  int32_t pid = 0;
  int32_t tid = 0;
  uint32_t prot = 0;  // mapping: PROT_ bits of the guest
  uint64_t value = 0;
  uint64_t address = 0;
  uint64_t length = 0;
  uint64_t tsc = 0;                        // when
  uint64_t guest_low = 0, guest_high = 0;  // process: guest addresses lie in [low, high); QEMU's own do not
};

struct RingHeader {
  uint32_t magic;
  uint32_t version;
  int32_t pid;
  int32_t tid;
  uint64_t capacity;                           // words
  alignas(64) std::atomic<uint64_t> written;   // by the plugin
  std::atomic<uint32_t> closed;                // 1: the thread ended; nothing follows `written`
  alignas(64) std::atomic<uint64_t> taken;     // by the daemon
  alignas(64) std::atomic<uint64_t> position;  // where the plugin writes next
};
static_assert(sizeof(RingHeader) <= kPageBytes);

struct DefsHeader {
  uint32_t magic;
  uint32_t version;
  uint32_t first_id;
  uint32_t reserved;
  std::atomic<uint64_t> used;  // bytes of entries after the header page
};

/// Followed by `bytes` code bytes, then `instructions` u8 lengths, padded to a multiple of 8. Instructions are
/// contiguous from ip. Only a branch, SYSCALL or the like can be last without running on to ip + bytes.
struct BlockDef {
  uint32_t id;
  uint16_t instructions;
  uint16_t bytes;
  uint64_t ip;
};

enum class Word : uint8_t {
  mark = 1,            // words: tsc lo, hi; low24 = cpu. The boundary between the words before and after it was then
  syscall_enter = 2,   // words: tsc lo, hi; low24 = number & 0xffffff. The block before ends in SYSCALL
  syscall_return = 3,  // words: tsc lo, hi; low24 = cpu. Control goes on wherever the next block starts
  cut = 4,             // low24 = n: of the last block only its first n instructions ran (n may be 0). Directly after
                       //   its block: no mark comes between. Without a signal after it, the CPU started again at the
                       //   instruction that was cut off (the next block begins there) and nothing interrupted it
  signal = 5,          // words: tsc lo, hi, ip lo, hi: interrupted before ip ran (after a cut, if inside a block);
                       //   low24 = signal number. The next block is the handler's. After a syscall_return with no
                       //   block between, the kernel delivered it on its way out. Number 0: a software interrupt
                       //   (INT n other than INT3) entered the kernel at ip, and the next block is where it came back
  exit = 6,            // words: tsc lo, hi. Last word of a thread
  lost = 7,            // words: count lo, hi. The plugin dropped this many words (it must not, but says so). Count 0:
                       //   nothing was dropped, but how far the block before ran is not known
};

constexpr uint32_t words_after(Word w) {
  switch (w) {
    case Word::cut:
      return 0;
    case Word::signal:
      return 4;
    default:
      return 2;
  }
}
constexpr uint32_t special(Word w, uint32_t low24) {
  return 0x80000000u | (static_cast<uint32_t>(w) << 24) | (low24 & 0xffffffu);
}
constexpr bool is_special(uint32_t w) { return (w & 0x80000000u) != 0; }
constexpr Word special_type(uint32_t w) { return static_cast<Word>((w >> 24) & 0x7f); }
constexpr uint32_t special_low(uint32_t w) { return w & 0xffffffu; }

}  // namespace hindcast::sim
