// Where the segments of an ELF file lie in a process, from where its first one was loaded.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "hindcast/bytes.h"
#include "hindcast/cut.h"
#include "hindcast/result.h"

namespace hindcast::server {

/// What placing needs to know of an x86-64 ELF file.
struct ElfLayout {
  struct Part {
    uint64_t address = 0;  // as linked
    uint64_t length = 0;   // > 0; bytes of the file, without the zeros of .bss, which are never code
    uint64_t offset = 0;   // in the file; offset + length lies inside it
  };
  std::vector<Part> parts;            // one per PT_LOAD that has bytes, in the file's order
  uint64_t lowest_page = 0;           // of the lowest PT_LOAD address
  std::string build_id;               // lower-case hex, or empty
  bool position_independent = false;  // ELF type DYN
};

/// Errors: bad_input (damaged, cut, nothing to load), unsupported (not a program or library for x86-64).
Result<ElfLayout> read_elf_layout(ByteSpan file);

/// One placement per part; image and pid are left to the caller. load_address: of the lowest page; nothing: as linked.
/// Errors: bad_input when it is not on a page or a part would wrap the address space.
Result<std::vector<PlacementInfo>> place_elf(const ElfLayout& layout, std::optional<uint64_t> load_address);

}  // namespace hindcast::server
