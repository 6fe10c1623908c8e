// Branches of every kind: indirect jumps and calls through tables, recursion, returns that were not called for, and
// instructions that cross a page; about 1.2 M instructions.
#include "tests/programs/freestanding.h"

static u64 sum = 1;
static void note(u64 v) { sum = sum * 31 + v; }

// Instructions laid over page ends: the block before ends early, the instruction is alone, a branch itself crosses, a
// call's return address is in the next page, and a page ends exactly behind an instruction.
// clang-format off
__asm__(
    "  .text\n"
    "  .balign 4096\n"
    "  .globl over_pages\n"
    "over_pages:\n"
    "  mov %rdi, %rax\n"
    "  jmp 1f\n"
    "  .skip 4096 - (. - over_pages) - 4\n"
    "1: movabs $0x1122334455667788, %rdx\n"
    "  add %rdx, %rax\n"
    "  jmp 2f\n"
    "  .balign 4096\n"
    "page_2:\n"
    "  .skip 4096 - 9\n"
    "2: xor %rdi, %rax\n"
    "  add $3, %rax\n"
    "  jnz 3f\n"
    "  nop\n"
    "  .balign 4096\n"
    "page_3:\n"
    "  .skip 4096 - 5\n"
    "3: nop\n"
    "  call over_pages_leaf\n"
    "  add $0x12345678, %rax\n"
    "  jmp 4f\n"
    "  .balign 4096\n"
    "page_4:\n"
    "  .skip 4096 - 14\n"
    "4: mov %rax, %rcx\n"
    "  and $7, %ecx\n"
    "  .byte 0x66, 0x66, 0x66, 0x90\n"
    "  nop\n"
    "  jrcxz 5f\n"
    "6: loop 6b\n"
    "5: ret\n"
    "  .balign 4096\n"
    "page_5:\n"
    "  .skip 4096 - 2\n"
    "over_pages_leaf:\n"
    "  rol $5, %rax\n"
    "  mov $2, %ecx\n"
    "  mov %rsi, %rdi\n"
    "  rep stosb\n"
    "  ret\n");
// clang-format on
u64 over_pages(u64 x, u8* two_bytes);

typedef u64 (*Step)(u64);
static __attribute__((noinline)) u64 add_one(u64 x) { return x + 1; }
static __attribute__((noinline)) u64 twice(u64 x) { return 2 * x; }
static __attribute__((noinline)) u64 swap(u64 x) { return x << 32 | x >> 32; }
static __attribute__((noinline)) u64 deep(u64 x) { return x % 23 == 0 ? x : deep(x / 2) + 1; }
static const Step steps[] = {add_one, twice, swap, deep};

// A jump table by hand: the compiler may not make one.
static u64 table(u64 x, u64 way) {
  __asm__ volatile(
      "lea 9f(%%rip), %%rdx\n movslq (%%rdx,%1,4), %%rcx\n add %%rdx, %%rcx\n jmp *%%rcx\n"
      "1: add $5, %0\n jmp 8f\n"
      "2: imul $7, %0, %0\n jmp 8f\n"
      "3: bswap %0\n jmp 8f\n"
      "4: sub $9, %0\n jmp 8f\n"
      ".balign 4\n9: .long 1b-9b, 2b-9b, 3b-9b, 4b-9b\n8:"
      : "+r"(x)
      : "r"(way)
      : "rcx", "rdx", "cc");
  return x;
}

// A return that no call belongs to, and a call that never returns: both break a predicted return.
static u64 odd_returns(u64 x) {
  __asm__ volatile(
      "lea 1f(%%rip), %%rdx\n push %%rdx\n ret\n ud2\n"
      "1: inc %0\n call 2f\n ud2\n"
      "2: add $8, %%rsp\n call 3f\n3: pop %%rdx\n add $2, %0"
      : "+r"(x)
      :
      : "rdx", "memory", "cc");
  return x;
}

void run(void) {
  u8 two[2];
  u64 x = 12345;
  for (u64 round = 0; round < 9000; ++round) {
    x = steps[x >> 7 & 3](x ^ round);
    x = table(x, x >> 5 & 3);
    x = odd_returns(x);
    x = over_pages(x, two) + two[1];
    note(x);
    for (u64 i = 0; i < x % 11; ++i) x = x * 3 + (x & i ? 1 : i);
  }
  finish(sum, 0);
}
