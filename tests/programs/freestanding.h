// For programs without a C library: their entry, and the system calls they make. Nothing in them asks CPUID, so their
// path is the same on every machine.
#ifndef HINDCAST_TESTS_FREESTANDING_H
#define HINDCAST_TESTS_FREESTANDING_H

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long u64;
typedef long i64;

static inline i64 system_call(i64 number, i64 a, i64 b, i64 c, i64 d) {
  i64 result;
  register i64 r10 __asm__("r10") = d;
  __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
  return result;
}

enum {
  sys_write = 1,
  sys_mmap = 9,
  sys_mprotect = 10,
  sys_rt_sigaction = 13,
  sys_getpid = 39,
  sys_kill = 62,
  sys_exit_group = 231
};

// Prints a number and ends the program.
static inline void finish(u64 result, int code) {
  char text[24];
  int at = sizeof text;
  text[--at] = '\n';
  do {
    text[--at] = (char)('0' + result % 10);
    result /= 10;
  } while (result != 0);
  system_call(sys_write, 1, (i64)(text + at), (i64)sizeof text - at, 0);
  for (;;) system_call(sys_exit_group, code, 0, 0, 0);
}

void run(void);  // the program

// The stack as the ABI wants it at a function's start.
__asm__(".text\n.globl _start\n_start:\n xor %ebp, %ebp\n and $-16, %rsp\n call run\n hlt\n");

#endif
