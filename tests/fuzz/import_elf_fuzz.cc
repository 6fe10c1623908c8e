// ELF files from a stranger, placed at an address that the input chooses.
//
// Opinions: the parts are the PT_LOAD segments that elfutils sees; they lie inside the file; loading at an address moves
// all parts by the same distance and lets none wrap.
#include <gelf.h>

#include <algorithm>
#include <optional>

#include "server/import/elf_placement.h"
#include "tests/fuzz/fuzz_support.h"
#include "tests/unit/server/import_support.h"

using namespace hindcast;          // NOLINT
using namespace hindcast::server;  // NOLINT

namespace {

/// Nothing when elfutils refuses the whole file, as it does when sections that we do not look at are damaged.
std::optional<std::vector<ElfLayout::Part>> parts_by_elfutils(std::vector<uint8_t>& file) {
  std::vector<ElfLayout::Part> out;
  Elf* elf = elf_memory(reinterpret_cast<char*>(file.data()), file.size());
  if (!elf) return std::nullopt;
  size_t n = 0;
  MUST(elf_getphdrnum(elf, &n) == 0);
  for (size_t i = 0; i < n; ++i) {
    GElf_Phdr p;
    MUST(gelf_getphdr(elf, static_cast<int>(i), &p) != nullptr);
    const uint64_t length = std::min(p.p_filesz, p.p_memsz);
    if (p.p_type == PT_LOAD && length) out.push_back({p.p_vaddr, length, p.p_offset});
  }
  elf_end(elf);
  return out;
}

}  // namespace

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned random) {
  static const std::vector<uint8_t> seed = [] {
    SmallElf elf;
    elf.type = ET_DYN;
    elf.loads = {{0x1000, 0, 0x200, 0x200}, {0x3010, 0x100, 0x10, 0x5000}, {0x9000, 0, 0, 8}};
    elf.file_size = 0x300;
    auto bytes = elf.bytes();
    bytes.insert(bytes.begin(), {0, 0, 0x10, 0, 0, 0, 0, 0});  // the load address
    return bytes;
  }();
  return mutate_from_template(seed, data, size, max_size, random);
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  ByteReader in({data, size});
  const uint64_t load_address = in.u64();
  std::vector<uint8_t> file(data + in.offset(), data + size);
  const auto layout = read_elf_layout(file);
  if (!layout.ok()) {
    MUST(!layout.error().what.empty());
    return 0;
  }
  static const unsigned version = elf_version(EV_CURRENT);
  MUST(version != EV_NONE);
  const auto other = parts_by_elfutils(file);
  MUST(!other || std::equal(layout->parts.begin(), layout->parts.end(), other->begin(), other->end(),
                            [](const auto& a, const auto& b) {
                              return a.address == b.address && a.length == b.length && a.offset == b.offset;
                            }));
  for (const auto& part : layout->parts)
    MUST(part.length > 0 && part.offset <= file.size() && part.length <= file.size() - part.offset);
  const auto linked = place_elf(*layout, std::nullopt), loaded = place_elf(*layout, load_address);
  for (const auto* placed : {&linked, &loaded}) {
    if (!placed->ok()) continue;
    const uint64_t base = placed == &loaded ? load_address : layout->lowest_page;
    MUST((*placed)->size() == layout->parts.size());
    for (size_t i = 0; i < layout->parts.size(); ++i) {
      const PlacementInfo& p = (**placed)[i];
      MUST(p.address >= base && p.address - base == layout->parts[i].address - layout->lowest_page);
      MUST(p.length - 1 <= UINT64_MAX - p.address);
      MUST(p.image_offset == layout->parts[i].offset && p.length == layout->parts[i].length);
    }
  }
  return 0;
}
