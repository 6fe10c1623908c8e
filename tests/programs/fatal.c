// Ends itself by a signal without a handler, in the middle of a block.
//   fatal segv | trap | abort | term | kill | thread     thread: another thread faults while this one waits
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static volatile unsigned sink;

static __attribute__((noinline)) void spin(unsigned n) {
  for (unsigned i = 0; i < n; ++i) sink = sink * 1664525u + i;
}

static __attribute__((noinline)) void fault(volatile int* p) {
  __asm__ volatile("nop\n nop\n movl $1, (%0)\n nop\n nop" : : "r"(p) : "memory");
}

static void* other(void* p) {
  spin(1000);
  fault(p);
  return p;
}

int main(int argc, char** argv) {
  const char* how = argc > 1 ? argv[1] : "segv";
  spin(5000);
  if (strcmp(how, "segv") == 0) fault((int*)16);
  if (strcmp(how, "trap") == 0) __asm__ volatile("nop\n int3\n nop");
  if (strcmp(how, "abort") == 0) abort();
  if (strcmp(how, "term") == 0) raise(SIGTERM);
  if (strcmp(how, "kill") == 0) raise(SIGKILL);
  if (strcmp(how, "thread") == 0) {
    pthread_t t;
    pthread_create(&t, NULL, other, (void*)16);
    pthread_join(t, NULL);
  }
  return 1;
}
