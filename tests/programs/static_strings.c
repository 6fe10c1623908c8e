// String instructions of every kind and length, LOOP and JRCXZ; about 1.3 M instructions.
#include "tests/programs/freestanding.h"

static u8 from[4096], to[4096];
static u64 sum = 1;

static void note(u64 v) { sum = sum * 31 + v; }

static void strings(u64 n) {
  u64 c = n;
  u8 *s = from, *d = to;
  __asm__ volatile("rep movsb" : "+c"(c), "+S"(s), "+D"(d) : : "memory");
  note((u64)(s - from) + c);
  c = n / 8, d = to;
  __asm__ volatile("rep stosq" : "+c"(c), "+D"(d) : "a"(n * 0x0101010101010101ul) : "memory");
  note((u64)(d - to));
  c = n, d = from;
  __asm__ volatile("repne scasb" : "+c"(c), "+D"(d) : "a"((u8)(n * 7)) : "memory", "cc");
  note(c);
  c = n, d = to;
  __asm__ volatile("repe scasb" : "+c"(c), "+D"(d) : "a"((u8)n) : "memory", "cc");
  note(c);
  c = n, s = from, d = to;
  __asm__ volatile("repe cmpsb" : "+c"(c), "+S"(s), "+D"(d) : : "memory", "cc");
  note(c);
  c = n % 17, s = from;
  u64 a = 0;
  __asm__ volatile("rep lodsb" : "+c"(c), "+S"(s), "+a"(a) : : "memory");
  note(a);
  c = n, s = from + n, d = to + n;
  __asm__ volatile("std\n rep movsb\n cld" : "+c"(c), "+S"(s), "+D"(d) : : "memory");
  note((u64)(s - from));
  // Without a repeat prefix, and two repeated ones in a row: the second may run zero times.
  c = n & 1, s = from, d = to;
  __asm__ volatile("movsb\n rep movsb\n rep stosb" : "+c"(c), "+S"(s), "+D"(d), "+a"(a) : : "memory");
  note((u64)(d - to));
}

static u64 loops(u64 n) {
  u64 x = 0, c = n;
  __asm__ volatile(
      "jrcxz 2f\n"
      "1: add %%rcx, %0\n test $3, %%cl\n jz 3f\n ror $3, %0\n3: loop 1b\n"
      "2:"
      : "+r"(x), "+c"(c)
      :
      : "cc");
  c = n % 50 + 1;
  __asm__ volatile("1: loop 1b" : "+c"(c));  // an instruction that jumps to itself
  c = n % 9 + 1;
  __asm__ volatile("1: dec %0\n cmp $0, %0\n loopne 1b" : "+r"(x), "+c"(c) : : "cc");
  return x + c;
}

void run(void) {
  for (u32 i = 0; i < sizeof from; ++i) from[i] = (u8)(i * 13 + (i >> 5));
  for (u64 round = 0; round < 3300; ++round) {
    strings((round * round + round / 3) % (round % 50 == 0 ? 300 : 13));
    note(loops(round % 90));
  }
  finish(sum, 0);
}
