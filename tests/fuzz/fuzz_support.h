// What fuzz targets share: an assertion that names its line, and a mutator that begins at a template.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <vector>

#include "hindcast/bytes.h"

#define MUST(x)                                                              \
  do {                                                                       \
    if (!(x)) {                                                              \
      std::fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #x); \
      std::abort();                                                          \
    }                                                                        \
  } while (0)

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace hindcast {

/// For LLVMFuzzerCustomMutator: short inputs, and now and then others, become the template before they are mutated, so
/// that a run without a seed corpus soon gets past the first check of the format.
inline size_t mutate_from_template(ByteSpan seed, uint8_t* data, size_t size, size_t max_size, unsigned random) {
  if ((size < 4 || random % 512 == 0) && seed.size() <= max_size) {
    std::memcpy(data, seed.data(), seed.size());
    size = seed.size();
  }
  return LLVMFuzzerMutate(data, size, max_size);
}
inline size_t mutate_from_template(std::string_view seed, uint8_t* data, size_t size, size_t max_size,
                                   unsigned random) {
  return mutate_from_template(ByteSpan(reinterpret_cast<const uint8_t*>(seed.data()), seed.size()), data, size,
                              max_size, random);
}

}  // namespace hindcast
