// Takes signals of every kind: timers, raise, faults inside loops and string instructions, on another stack, nested, two
// at once, left by siglongjmp. Prints how many of each that does not depend on time.
//   signals [ROUNDS]
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

static volatile sig_atomic_t alarms, users, faults, traps, nested, pairs;
static sigjmp_buf out;
static char* page;

static void on_alarm(int sig) {
  (void)sig;
  ++alarms;
}

static void on_user1(int sig) {
  (void)sig;
  ++users;
  if (users % 3 == 0) raise(SIGUSR2);  // nested: not blocked here
}

static void on_user2(int sig) {
  (void)sig;
  ++nested;
}

static void on_pair(int sig) {
  (void)sig;
  ++pairs;
}

// Makes the page accessible, so that the instruction runs when it is tried again.
static void on_fault(int sig, siginfo_t* info, void* context) {
  (void)sig;
  (void)context;
  ++faults;
  if ((char*)info->si_addr < page || (char*)info->si_addr >= page + 4096) _exit(3);
  mprotect(page, 4096, PROT_READ | PROT_WRITE);
}

static void on_trap(int sig, siginfo_t* info, void* context) {
  (void)info;
  ucontext_t* c = context;
  ++traps;
  if (sig == SIGILL || sig == SIGFPE) c->uc_mcontext.gregs[REG_RIP] += 2;  // over UD2, over DIV of 2 bytes
}

static void on_escape(int sig) { siglongjmp(out, sig); }

static void handle(int sig, void (*plain)(int), void (*full)(int, siginfo_t*, void*), int flags) {
  struct sigaction a;
  memset(&a, 0, sizeof a);
  a.sa_flags = flags | (full ? SA_SIGINFO : 0);
  if (full) {
    a.sa_sigaction = full;
  } else {
    a.sa_handler = plain;
  }
  if (sigaction(sig, &a, NULL) != 0) exit(2);
}

static __attribute__((noinline)) uint64_t busy(uint64_t n) {
  uint64_t x = 1;
  for (uint64_t i = 0; i < n; ++i) {
    x = x * 6364136223846793005u + 1442695040888963407u;
    if (x >> 63) x ^= i;
  }
  return x;
}

static __attribute__((noinline)) void copy(char* to, const char* from, size_t n) {
  __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
}

// The first instruction of this loop is the one that faults, and the loop is one block.
static __attribute__((noinline)) void fill(volatile char* p, size_t n) {
  __asm__ volatile("1: movb $7, (%0)\n inc %0\n dec %1\n jnz 1b" : "+r"(p), "+r"(n) : : "memory", "cc");
}

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? atoi(argv[1]) : 20;
  static char stack_memory[65536], source[8192];
  stack_t other = {.ss_sp = stack_memory, .ss_size = sizeof stack_memory};
  if (sigaltstack(&other, NULL) != 0) return 2;
  page = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) return 2;
  page += 4096;
  handle(SIGALRM, on_alarm, NULL, SA_RESTART);
  handle(SIGUSR1, on_user1, NULL, SA_ONSTACK);
  handle(SIGUSR2, on_user2, NULL, 0);
  handle(SIGRTMIN, on_pair, NULL, 0);
  handle(SIGRTMIN + 1, on_pair, NULL, 0);
  handle(SIGSEGV, NULL, on_fault, SA_ONSTACK);
  handle(SIGTRAP, NULL, on_trap, 0);
  handle(SIGILL, NULL, on_trap, 0);
  handle(SIGFPE, NULL, on_trap, 0);
  handle(SIGTERM, on_escape, NULL, 0);
  const struct itimerval every_ms = {{0, 1000}, {0, 1000}};
  if (setitimer(ITIMER_REAL, &every_ms, NULL) != 0) return 2;

  uint64_t sum = 0;
  for (int round = 0; round < rounds; ++round) {
    sum += busy(200000);
    raise(SIGUSR1);

    mprotect(page, 4096, PROT_NONE);
    fill(page - 100 + round, 4096);  // faults in the middle of its loop
    mprotect(page, 4096, PROT_NONE);
    fill(page, 10);  // at its start
    mprotect(page, 4096, PROT_NONE);
    copy(page - 4096, source, sizeof source);  // in the middle of one instruction
    mprotect(page, 4096, PROT_READ);
    copy(page + 4095, source, 2);
    for (int i = 0; i < 50; ++i) copy(page - 4096, source, sizeof source);  // the timer strikes here too

    __asm__ volatile("int3");
    __asm__ volatile("ud2");
    __asm__ volatile("xor %%ecx, %%ecx\n mov $1, %%eax\n xor %%edx, %%edx\n div %%ecx" : : : "eax", "ecx", "edx", "cc");

    sigset_t both, before;
    sigemptyset(&both);
    sigaddset(&both, SIGRTMIN);
    sigaddset(&both, SIGRTMIN + 1);
    sigprocmask(SIG_BLOCK, &both, &before);
    raise(SIGRTMIN);
    raise(SIGRTMIN + 1);
    sigprocmask(SIG_SETMASK, &before, NULL);  // both are delivered at once

    if (sigsetjmp(out, 1) == 0) raise(SIGTERM);
  }
  const struct itimerval never = {{0, 0}, {0, 0}};
  setitimer(ITIMER_REAL, &never, NULL);
  printf("%d users %d nested %d faults %d traps %d pairs %llu\n", users, nested, faults, traps, pairs,
         (unsigned long long)sum);
  return 0;
}
