#include "server/views/export/memory_elf.h"

#include <elf.h>

#include "hindcast/result.h"

namespace hindcast::server::views {
namespace {

/// A string table under construction; offset 0 is the empty name.
struct Names {
  std::string bytes = std::string(1, '\0');
  uint32_t add(const std::string& name) {
    const auto at = static_cast<uint32_t>(bytes.size());
    bytes += name;
    bytes += '\0';
    return at;
  }
};

void pad(std::vector<uint8_t>& out, size_t to) {
  HC_CHECK(out.size() <= to);
  out.resize(to);
}

}  // namespace

std::vector<uint8_t> memory_elf(ByteSpan code, const std::array<uint8_t, 20>& build_id, const std::string& name) {
  constexpr uint64_t kNoteAt = sizeof(Elf64_Ehdr) + 2 * sizeof(Elf64_Phdr);
  constexpr uint64_t kNoteBytes = sizeof(Elf64_Nhdr) + 4 + 20;
  std::vector<uint8_t> out;
  ByteWriter w(out);
  Names names, symbols;

  const uint64_t symtab_at = (kMemoryElfCode + code.size() + 7) & ~uint64_t{7};
  Elf64_Sym function{};
  function.st_name = symbols.add(name);
  function.st_info = ELF64_ST_INFO(STB_GLOBAL, STT_FUNC);
  function.st_shndx = 1;
  function.st_value = kMemoryElfCode;
  function.st_size = code.size();
  const uint64_t strtab_at = symtab_at + 2 * sizeof(Elf64_Sym);

  std::array<Elf64_Shdr, 6> sections{};
  const auto section = [&](size_t i, const char* called, uint32_t type, uint64_t flags, uint64_t at, uint64_t size) {
    sections[i].sh_name = names.add(called);
    sections[i].sh_type = type;
    sections[i].sh_flags = flags;
    sections[i].sh_addr = flags & SHF_ALLOC ? at : 0;
    sections[i].sh_offset = at;
    sections[i].sh_size = size;
    sections[i].sh_addralign = 1;
  };
  section(1, ".text", SHT_PROGBITS, SHF_ALLOC | SHF_EXECINSTR, kMemoryElfCode, code.size());
  section(2, ".note.gnu.build-id", SHT_NOTE, SHF_ALLOC, kNoteAt, kNoteBytes);
  section(3, ".symtab", SHT_SYMTAB, 0, symtab_at, 2 * sizeof(Elf64_Sym));
  sections[3].sh_link = 4;
  sections[3].sh_info = 1;
  sections[3].sh_entsize = sizeof(Elf64_Sym);
  section(4, ".strtab", SHT_STRTAB, 0, strtab_at, symbols.bytes.size());
  const uint64_t shstrtab_at = strtab_at + symbols.bytes.size();
  section(5, ".shstrtab", SHT_STRTAB, 0, shstrtab_at, 0);
  sections[5].sh_size = names.bytes.size();
  const uint64_t sections_at = (shstrtab_at + names.bytes.size() + 7) & ~uint64_t{7};

  Elf64_Ehdr h{};
  std::memcpy(h.e_ident, ELFMAG, SELFMAG);
  h.e_ident[EI_CLASS] = ELFCLASS64;
  h.e_ident[EI_DATA] = ELFDATA2LSB;
  h.e_ident[EI_VERSION] = EV_CURRENT;
  h.e_type = ET_DYN;
  h.e_machine = EM_X86_64;
  h.e_version = EV_CURRENT;
  h.e_phoff = sizeof h;
  h.e_shoff = sections_at;
  h.e_ehsize = sizeof h;
  h.e_phentsize = sizeof(Elf64_Phdr);
  h.e_phnum = 2;
  h.e_shentsize = sizeof(Elf64_Shdr);
  h.e_shnum = sections.size();
  h.e_shstrndx = 5;
  w.put(h);
  const auto segment = [&](uint32_t type, uint32_t flags, uint64_t at, uint64_t size, uint64_t align) {
    Elf64_Phdr p{};
    p.p_type = type;
    p.p_flags = flags;
    p.p_offset = p.p_vaddr = p.p_paddr = at;
    p.p_filesz = p.p_memsz = size;
    p.p_align = align;
    w.put(p);
  };
  segment(PT_LOAD, PF_R | PF_X, kMemoryElfCode, code.size(), 4096);
  segment(PT_NOTE, PF_R, kNoteAt, kNoteBytes, 4);
  w.put(Elf64_Nhdr{4, static_cast<Elf64_Word>(build_id.size()), NT_GNU_BUILD_ID});
  w.text(std::string_view("GNU\0", 4));
  w.bytes(build_id);
  pad(out, kMemoryElfCode);
  w.bytes(code);
  pad(out, symtab_at);
  w.put(Elf64_Sym{});
  w.put(function);
  w.text(symbols.bytes);
  w.text(names.bytes);
  pad(out, sections_at);
  for (const Elf64_Shdr& s : sections) w.put(s);
  return out;
}

}  // namespace hindcast::server::views
