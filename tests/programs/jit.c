// Writes functions into anonymous executable memory and runs them; the second replaces the first in place.
//   jit [CALLS]
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

typedef uint64_t (*Function)(uint64_t);

// sum of 0..n-1, times factor: xor eax,eax; test rdi,rdi; jz end; loop: dec rdi; add rax,rdi; jnz loop;
// end: imul rax,rax,factor; ret. The add leaves ZF of the sum, so the loop tests RDI.
static size_t emit(uint8_t* code, int8_t factor) {
  const uint8_t text[] = {0x31, 0xc0, 0x48, 0x85, 0xff, 0x74, 0x0b, 0x48, 0xff, 0xcf, 0x48,
                          0x01, 0xf8, 0x48, 0x85, 0xff, 0x75, 0xf5, 0x48, 0x6b, 0xc0, (uint8_t)factor,
                          0xc3};
  memcpy(code, text, sizeof text);
  return sizeof text;
}

int main(int argc, char** argv) {
  const int calls = argc > 1 ? atoi(argv[1]) : 1000;
  uint8_t* code = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (code == MAP_FAILED) return 1;
  uint64_t sum = 0;
  for (int generation = 0; generation < 4; ++generation) {
    if (mprotect(code, 8192, PROT_READ | PROT_WRITE) != 0) return 2;
    emit(code + 64, (int8_t)(generation + 2));
    if (mprotect(code, 8192, PROT_READ | PROT_EXEC) != 0) return 3;
    const Function f = (Function)(void*)(code + 64);
    for (int i = 0; i < calls; ++i) sum += f((uint64_t)(i % 50));
  }
  // The same in memory that stays writable: no system call tells of the change.
  uint8_t* open_code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (open_code == MAP_FAILED) return 4;
  for (int generation = 0; generation < 4; ++generation) {
    emit(open_code, (int8_t)(generation + 5));
    const Function f = (Function)(void*)open_code;
    for (int i = 0; i < calls; ++i) sum += f((uint64_t)(i % 30));
  }
  printf("%llu\n", (unsigned long long)sum);
  return 0;
}
