// PT_LOAD segments to placements.
#include "server/import/elf_placement.h"

#include <elf.h>

#include <algorithm>
#include <cstring>

#include "decode/symbols_elf.h"

namespace hindcast::server {
namespace {
constexpr uint64_t kPage = 4096;
constexpr size_t kMaxProgramHeaders = 4096;  // ElfView's own limit
}  // namespace

Result<ElfLayout> read_elf_layout(ByteSpan file) {
  HC_TRY(const decode::ElfView elf, decode::ElfView::parse(file));
  Elf64_Ehdr header;
  HC_CHECK(file.size() >= sizeof header);
  std::memcpy(&header, file.data(), sizeof header);
  if (header.e_type != ET_DYN && header.e_type != ET_EXEC)
    return Error{Errc::unsupported,
                 "it is neither a program nor a shared library",
                 "ELF type " + std::to_string(header.e_type),
                 {}};
  if (header.e_ident[EI_VERSION] != EV_CURRENT || header.e_phoff < sizeof header)
    return Error{Errc::bad_input, "its ELF header is damaged", {}, "copy the file again"};
  // ElfView leaves out what does not fit; a program with a segment missing would be silently wrong here.
  if (header.e_phentsize != sizeof(Elf64_Phdr) || header.e_phnum > kMaxProgramHeaders || header.e_phoff > file.size() ||
      header.e_phnum * sizeof(Elf64_Phdr) > file.size() - header.e_phoff)
    return Error{Errc::bad_input, "its program headers are not all there", {}, "copy the file again; it is cut"};
  ElfLayout out;
  out.build_id = elf.build_id();
  out.position_independent = header.e_type == ET_DYN;
  uint64_t lowest = UINT64_MAX;
  for (const auto& s : elf.segments()) {
    lowest = std::min(lowest, s.address);
    const uint64_t length = std::min(s.file_size, s.memory_size);
    if (length == 0) continue;
    if (s.file_offset > file.size() || length > file.size() - s.file_offset)
      return Error{Errc::bad_input, "its segments lie beyond its end", {}, "copy the file again; it is cut"};
    out.parts.push_back({s.address, length, s.file_offset});
  }
  if (out.parts.empty()) return Error{Errc::bad_input, "it has no PT_LOAD segment with bytes", {}, {}};
  out.lowest_page = lowest & ~(kPage - 1);
  return out;
}

Result<std::vector<PlacementInfo>> place_elf(const ElfLayout& layout, std::optional<uint64_t> load_address) {
  if (load_address && *load_address % kPage != 0)
    return Error{Errc::bad_input, "it cannot be loaded where no page begins", {}, "give the address of its first page"};
  const uint64_t base = load_address.value_or(layout.lowest_page);
  std::vector<PlacementInfo> out;
  for (const auto& part : layout.parts) {
    PlacementInfo p;
    const uint64_t above_base = part.address - layout.lowest_page;
    p.address = base + above_base;
    p.length = part.length;
    p.image_offset = part.offset;
    if (above_base > UINT64_MAX - base || p.length - 1 > UINT64_MAX - p.address)
      return Error{Errc::bad_input, "a segment would wrap around the end of the address space", {}, {}};
    out.push_back(p);
  }
  return out;
}

}  // namespace hindcast::server
