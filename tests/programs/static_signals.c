// Takes signals that come at the same instruction each time: INT3, UD2, a division by zero, faults in and between
// blocks and inside a string instruction, a bad jump, HLT, and kill() to itself; about 1.1 M instructions.
#include "tests/programs/freestanding.h"

enum { SIGILL_ = 4, SIGTRAP_ = 5, SIGFPE_ = 8, SIGUSR1_ = 10, SIGSEGV_ = 11, SIGUSR2_ = 12 };
enum { kRax = 13, kRip = 16 };  // indexes of gregs in the ucontext

struct kernel_sigaction {
  void* handler;
  u64 flags;
  void* restorer;
  u64 mask;
};

struct ucontext {
  u64 flags, link, stack[3];
  u64 gregs[23];
};

static u64 sum = 1, resume_at;
static u32 counts[32];
static u8* page;
static void note(u64 v) { sum = sum * 31 + v; }

__asm__(".text\nrestorer: mov $15, %eax\n syscall\n");
extern void restorer(void);

// What to do about the instruction: run it again (the page is open now), or go on behind it.
static void on_fault(int sig, void* info, struct ucontext* c) {
  (void)info;
  ++counts[sig];
  if (resume_at != 0) {
    c->gregs[kRip] = resume_at;
    resume_at = 0;
  } else if (sig == SIGSEGV_) {
    system_call(sys_mprotect, (i64)page, 4096, 3, 0);
  } else if (sig == SIGILL_ || sig == SIGFPE_) {
    c->gregs[kRip] += 2;
  }
  note(c->gregs[kRax] & 0xff);
}

static void on_user(int sig) {
  ++counts[sig];
  for (u32 i = 0; i < 5; ++i) note(i);
  if (sig == SIGUSR1_ && counts[sig] % 2) system_call(sys_kill, system_call(sys_getpid, 0, 0, 0, 0), SIGUSR2_, 0, 0);
}

static void handle(int sig, void* handler, u64 flags) {
  struct kernel_sigaction a = {handler, flags | 0x04000000, restorer, 0};  // SA_RESTORER
  if (system_call(sys_rt_sigaction, sig, (i64)&a, 0, 8) != 0) finish(0, 2);
}

static void close_page(void) { system_call(sys_mprotect, (i64)page, 4096, 0, 0); }

static __attribute__((noinline)) void fill(u8* p, u64 n) {
  __asm__ volatile("1: movb $7, (%0)\n inc %0\n dec %1\n jnz 1b" : "+r"(p), "+r"(n) : : "memory", "cc");
}

static __attribute__((noinline)) u64 busy(u64 n) {
  u64 x = n;
  for (u64 i = 0; i < n; ++i) x = x * 6364136223846793005u + (x >> 60 ? i : 1);
  return x;
}

void run(void) {
  page = (u8*)system_call(sys_mmap, 0x200000, 3 * 4096, 3, 0x32);  // private, anonymous, fixed
  __asm__ volatile("" : : : "memory");
  if (page != (u8*)0x200000) finish(1, 2);
  page += 4096;
  // SA_NODEFER: a debugger that steps through this handler raises SIGTRAP too, and blocked it would be reset.
  handle(SIGTRAP_, on_fault, 4 | 0x40000000);
  handle(SIGILL_, on_fault, 4);
  handle(SIGFPE_, on_fault, 4);
  handle(SIGSEGV_, on_fault, 4 | 0x40000000);
  handle(SIGUSR1_, on_user, 0);
  handle(SIGUSR2_, on_user, 0);
  const i64 self = system_call(sys_getpid, 0, 0, 0, 0);
  for (u64 round = 0; round < 200; ++round) {
    note(busy(600 + round));
    __asm__ volatile("nop\n int3\n nop" : : : "memory");
    __asm__ volatile("mov $3, %%eax\n ud2\n add $1, %%eax" : : : "rax", "cc", "memory");
    __asm__ volatile("xor %%ecx, %%ecx\n mov $1, %%eax\n xor %%edx, %%edx\n div %%ecx\n inc %%ecx"
                     :
                     :
                     : "rax", "rcx", "rdx", "cc", "memory");
    close_page();
    fill(page - 50 + round % 40, 100);  // in the middle of its loop
    close_page();
    fill(page, 3);  // at its first instruction
    close_page();
    {
      u64 c = 300;
      u8* d = page - round;
      __asm__ volatile("rep stosb" : "+c"(c), "+D"(d) : "a"((u8)round) : "memory");
    }
    close_page();
    // A call whose push faults, and a return whose pop does.
    __asm__ volatile("mov %%rsp, %%rbx\n lea 8(%0), %%rsp\n call 1f\n jmp 2f\n1: ret\n2: mov %%rbx, %%rsp"
                     :
                     : "r"(page)
                     : "rbx", "memory", "cc");
    // A jump to where nothing is: the jump ran, what it reached did not.
    __asm__ volatile("lea 1f(%%rip), %%rdx\n mov %%rdx, %0\n xor %%edx, %%edx\n jmp *%%rdx\n1:"
                     : "=m"(resume_at)
                     :
                     : "rdx", "cc", "memory");
    __asm__ volatile("lea 1f(%%rip), %%rdx\n mov %%rdx, %0\n nop\n hlt\n1:" : "=m"(resume_at) : : "rdx", "memory");
    system_call(sys_kill, self, SIGUSR1_, 0, 0);
  }
  for (u32 i = 0; i < 32; ++i) note(counts[i]);
  finish(sum, 0);
}
