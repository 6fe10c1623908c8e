// Perf maps from anybody: names lie inside of the file, and the function that is found is one whose line covers the address.
#include <cstdlib>

#include "decode/perf_map.h"

using namespace hindcast;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const decode::PerfMap map = decode::PerfMap::parse({data, size});
  if (map.left_out() > size) abort();
  const auto* begin = reinterpret_cast<const char*>(data);
  // Addresses to look for are the file's own bytes, as they come, and as hex digits have them.
  for (size_t i = 0; i < size; ++i) {
    uint64_t digits = 0;
    for (size_t k = i; k < size && k < i + 16; ++k) {
      const uint8_t c = data[k];
      if ((c < '0' || c > '9') && (c < 'a' || c > 'f')) break;
      digits = digits << 4 | (c <= '9' ? c - '0' : c - 'a' + 10u);
    }
    for (const uint64_t address : {uint64_t{data[i]}, digits, digits - 1}) {
      const decode::PerfMapFunction* f = map.find(address);
      if (!f) continue;
      if (address < f->address || address - f->address >= f->bytes) abort();
      if (f->name.data() < begin || f->name.data() + f->name.size() > begin + size) abort();
    }
  }
  return 0;
}
