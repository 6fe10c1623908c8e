// Build-ids of hostile ELF files: bounded reads, and an id of legal length or none.
#include <cstdlib>
#include <cstring>

#include "capture/build_id.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hindcast;
  using namespace hindcast::capture;
  uint64_t reads = 0;
  const ElfIdentity identity = read_elf_identity([&](uint64_t offset, std::span<uint8_t> out) -> size_t {
    reads++;
    if (offset >= size) return 0;
    const size_t n = out.size() < size - offset ? out.size() : size - offset;
    if (n) std::memcpy(out.data(), data + offset, n);
    return n;
  });
  if (identity.build_id.size() > 20 || (!identity.is_elf && !identity.build_id.empty())) std::abort();
  if (reads > 2 + 2 * 1024) std::abort();
  const auto note = find_build_id_note({data, size});
  if (note && (note->empty() || note->size() > 20)) std::abort();
  return 0;
}
