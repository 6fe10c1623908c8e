// Keeps one CPU busy with branches, calls and memory: primes, a string search and a hash table. Prints one number.
//   cpu_bound [ROUNDS]     a round is about 4 M instructions
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { kSlots = 1 << 12 };
static uint32_t keys[kSlots], values[kSlots];

static __attribute__((noinline)) uint32_t mix(uint32_t x) {
  x ^= x >> 16;
  x *= 0x7feb352du;
  x ^= x >> 15;
  x *= 0x846ca68bu;
  return x ^ x >> 16;
}

static __attribute__((noinline)) uint32_t* slot_of(uint32_t key) {
  uint32_t i = mix(key) % kSlots;
  while (keys[i] != 0 && keys[i] != key) i = (i + 1) % kSlots;
  keys[i] = key;
  return &values[i];
}

static uint32_t count_primes(uint32_t below) {
  static uint8_t composite[20000];
  uint32_t primes = 0;
  memset(composite, 0, sizeof composite);
  for (uint32_t i = 2; i < below; ++i) {
    if (composite[i]) continue;
    ++primes;
    for (uint32_t k = i * i; i < 200 && k < below; k += i) composite[k] = 1;
  }
  return primes;
}

static uint32_t fibonacci(uint32_t n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? atoi(argv[1]) : 10;
  uint32_t sum = 0;
  for (int round = 0; round < rounds; ++round) {
    sum += count_primes(20000);
    memset(keys, 0, sizeof keys);
    for (uint32_t i = 1; i < 100000; ++i) *slot_of(mix(i) % 2048 + 1) += i;
    for (uint32_t i = 0; i < kSlots; ++i) sum = sum * 31 + values[i];
    sum += fibonacci(20 + round % 3);
  }
  printf("%u\n", sum);
  return 0;
}
