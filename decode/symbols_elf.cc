#include "decode/symbols_elf.h"

#include <elf.h>

#include <algorithm>
#include <unordered_map>

namespace hindcast::decode {
namespace {

constexpr size_t kMaxSections = 65536;
constexpr size_t kMaxSegments = 4096;
constexpr size_t kMaxSymbols = size_t{16} << 20;
constexpr uint64_t kMaxUncompressedDwarf = uint64_t{1} << 31;

/// The bytes [offset, offset + size) of the file, or nothing.
std::optional<ByteSpan> slice(ByteSpan file, uint64_t offset, uint64_t size) {
  if (offset > file.size() || size > file.size() - offset) return std::nullopt;
  return file.subspan(static_cast<size_t>(offset), static_cast<size_t>(size));
}

template <class T>
std::optional<T> read_at(ByteSpan bytes, uint64_t offset) {
  const auto s = slice(bytes, offset, sizeof(T));
  if (!s) return std::nullopt;
  T v;
  std::memcpy(&v, s->data(), sizeof(T));
  return v;
}

std::string_view string_at(ByteSpan table, uint64_t offset) {
  if (offset >= table.size()) return {};
  ByteReader r(table.subspan(static_cast<size_t>(offset)));
  return r.c_string(r.left());
}

/// GOT slot address to symbol name, from the relocations that fill it.
std::unordered_map<uint64_t, std::string_view> got_names(const std::vector<ElfSection>& sections) {
  std::unordered_map<uint64_t, std::string_view> names;
  for (const ElfSection& rela : sections) {
    if (rela.type != SHT_RELA || !(rela.flags & SHF_ALLOC) || rela.link >= sections.size()) continue;
    const ElfSection& symbols = sections[rela.link];
    if (symbols.type != SHT_DYNSYM || symbols.link >= sections.size()) continue;
    const ByteSpan strings = sections[symbols.link].bytes;
    const size_t n = std::min(rela.bytes.size() / sizeof(Elf64_Rela), kMaxSymbols);
    for (size_t i = 0; i < n; ++i) {
      const auto r = *read_at<Elf64_Rela>(rela.bytes, i * sizeof(Elf64_Rela));
      const uint64_t type = ELF64_R_TYPE(r.r_info);
      if (type != R_X86_64_JUMP_SLOT && type != R_X86_64_GLOB_DAT) continue;
      const auto s = read_at<Elf64_Sym>(symbols.bytes, ELF64_R_SYM(r.r_info) * sizeof(Elf64_Sym));
      if (!s) continue;
      const std::string_view name = string_at(strings, s->st_name);
      if (!name.empty()) names.emplace(r.r_offset, name);
    }
  }
  return names;
}

/// A PLT slot jumps through a GOT slot with `jmp *disp32(%rip)` (ff 25), maybe after ENDBR64 and a BND
/// prefix: naming slots by the GOT address they use works for .plt, .plt.sec and .plt.got of every linker.
void add_plt_slots(const ElfSection& plt, const std::unordered_map<uint64_t, std::string_view>& got,
                   std::vector<std::string>& owned, std::vector<ElfSymbol>& out) {
  const uint64_t step = plt.entry_size >= 8 && plt.entry_size <= 64 ? plt.entry_size : plt.name == ".plt.got" ? 8 : 16;
  for (uint64_t at = 0; at + 6 <= plt.bytes.size(); at += step) {
    const uint64_t end = std::min<uint64_t>(at + step, plt.bytes.size());
    for (uint64_t i = at; i + 6 <= end; ++i) {
      if (plt.bytes[i] != 0xff || plt.bytes[i + 1] != 0x25) continue;
      const auto disp = *read_at<int32_t>(plt.bytes, i + 2);
      const auto it = got.find(plt.address + i + 6 + static_cast<uint64_t>(int64_t{disp}));
      if (it == got.end()) continue;
      owned.push_back(std::string(it->second) + "@plt");
      out.push_back({plt.address + at, step, {}, 1});
      break;
    }
  }
}

/// Lower-case hex, or empty.
std::string gnu_build_id(ByteSpan notes) {
  ByteReader r(notes);
  while (r.left() >= 12) {
    const uint32_t name_bytes = r.u32(), data_bytes = r.u32(), type = r.u32();
    const auto padded = [](uint32_t n) { return (size_t{n} + 3) & ~size_t{3}; };
    const ByteSpan name = r.take(padded(name_bytes)), data = r.take(padded(data_bytes));
    if (r.failed()) break;
    if (type != NT_GNU_BUILD_ID || name_bytes != 4 || std::memcmp(name.data(), "GNU", 4) != 0 || data_bytes > 64)
      continue;
    std::string hex;
    for (size_t i = 0; i < data_bytes; ++i) {
      hex += "0123456789abcdef"[data[i] >> 4];
      hex += "0123456789abcdef"[data[i] & 15];
    }
    return hex;
  }
  return {};
}

}  // namespace

Result<ElfView> ElfView::parse(ByteSpan file) {
  const auto h = read_at<Elf64_Ehdr>(file, 0);
  if (!h || std::memcmp(h->e_ident, ELFMAG, SELFMAG) != 0)
    return Error{Errc::bad_input, "not an ELF file: no ELF header", {}, {}};
  if (h->e_ident[EI_CLASS] != ELFCLASS64 || h->e_ident[EI_DATA] != ELFDATA2LSB || h->e_machine != EM_X86_64)
    return Error{Errc::unsupported,
                 "cannot read this ELF file",
                 "class " + std::to_string(h->e_ident[EI_CLASS]) + ", machine " + std::to_string(h->e_machine) +
                     "; only 64-bit little-endian x86-64 is supported",
                 {}};
  ElfView v;
  v.file_ = file;
  if (h->e_phentsize == sizeof(Elf64_Phdr)) {
    for (size_t i = 0; i < std::min<size_t>(h->e_phnum, kMaxSegments); ++i) {
      if (h->e_phoff > file.size()) break;
      const auto p = read_at<Elf64_Phdr>(file, h->e_phoff + i * sizeof(Elf64_Phdr));
      if (!p) break;
      if (p->p_type == PT_LOAD)
        v.segments_.push_back({p->p_offset, p->p_vaddr, p->p_filesz, p->p_memsz, (p->p_flags & PF_X) != 0});
      else if (p->p_type == PT_NOTE)
        if (const auto notes = slice(file, p->p_offset, p->p_filesz)) v.notes_.push_back(*notes);
    }
  }
  if (h->e_shentsize != sizeof(Elf64_Shdr) || h->e_shoff == 0 || h->e_shoff > file.size()) return v;
  const auto first = read_at<Elf64_Shdr>(file, h->e_shoff);
  if (!first) {
    v.sections_whole_ = false;
    return v;
  }
  // More sections than fit the header's 16 bits are counted in section 0.
  const uint64_t count = h->e_shnum ? h->e_shnum : first->sh_size;
  const uint64_t names_at = h->e_shstrndx == SHN_XINDEX ? first->sh_link : h->e_shstrndx;
  std::vector<uint32_t> name_offsets;
  for (uint64_t i = 0; i < std::min<uint64_t>(count, kMaxSections); ++i) {
    const auto s = read_at<Elf64_Shdr>(file, h->e_shoff + i * sizeof(Elf64_Shdr));
    if (!s) {
      v.sections_whole_ = false;
      break;
    }
    ElfSection out{{}, s->sh_type, s->sh_flags, s->sh_addr, s->sh_size, s->sh_entsize, s->sh_link, s->sh_info, {}};
    if (s->sh_type != SHT_NOBITS && s->sh_type != SHT_NULL) {
      if (const auto bytes = slice(file, s->sh_offset, s->sh_size))
        out.bytes = *bytes;
      else
        v.sections_whole_ = false;
    }
    v.sections_.push_back(out);
    name_offsets.push_back(s->sh_name);
  }
  if (count > kMaxSections) v.sections_whole_ = false;
  if (names_at < v.sections_.size()) {
    const ByteSpan names = v.sections_[static_cast<size_t>(names_at)].bytes;
    for (size_t i = 0; i < v.sections_.size(); ++i) v.sections_[i].name = string_at(names, name_offsets[i]);
  }
  return v;
}

const ElfSection* ElfView::find_section(std::string_view name) const {
  for (const ElfSection& s : sections_)
    if (s.name == name) return &s;
  return nullptr;
}

std::optional<uint64_t> ElfView::address_of_offset(uint64_t file_offset) const {
  // Executable segments first: at a page that two segments share, code is what is asked for.
  for (const bool executable : {true, false})
    for (const ElfSegment& s : segments_)
      if (s.executable == executable && file_offset >= s.file_offset && file_offset - s.file_offset < s.file_size)
        return s.address + (file_offset - s.file_offset);
  return std::nullopt;
}

std::vector<ElfSymbol> ElfView::functions(std::vector<std::string>& plt_names) const {
  std::vector<ElfSymbol> out;
  for (const ElfSection& table : sections_) {
    if ((table.type != SHT_SYMTAB && table.type != SHT_DYNSYM) || table.link >= sections_.size()) continue;
    const ByteSpan strings = sections_[table.link].bytes;
    const size_t n = std::min(table.bytes.size() / sizeof(Elf64_Sym), kMaxSymbols);
    for (size_t i = 0; i < n; ++i) {
      const auto s = *read_at<Elf64_Sym>(table.bytes, i * sizeof(Elf64_Sym));
      const uint8_t type = ELF64_ST_TYPE(s.st_info);
      if (s.st_shndx == SHN_UNDEF || s.st_shndx == SHN_ABS || s.st_shndx == SHN_COMMON) continue;
      const bool function = type == STT_FUNC || type == STT_GNU_IFUNC;
      // Hand-written assembly leaves its entry points untyped.
      const bool label =
          type == STT_NOTYPE && s.st_shndx < sections_.size() && (sections_[s.st_shndx].flags & SHF_EXECINSTR) != 0;
      if (!function && !label) continue;
      const std::string_view name = string_at(strings, s.st_name);
      if (name.empty()) continue;
      const uint8_t bind = ELF64_ST_BIND(s.st_info);
      const uint8_t rank = static_cast<uint8_t>((function ? 8 : 0) + (s.st_size ? 4 : 0) +
                                                (bind == STB_GLOBAL ? 3
                                                 : bind == STB_WEAK ? 2
                                                                    : 1));
      out.push_back({s.st_value, s.st_size, name, rank});
    }
  }
  const auto got = got_names(sections_);
  const size_t plt_begin = out.size();
  plt_names.clear();
  for (const ElfSection& s : sections_)
    if (s.type == SHT_PROGBITS && s.name.starts_with(".plt")) add_plt_slots(s, got, plt_names, out);
  for (size_t i = plt_begin; i < out.size(); ++i) out[i].name = plt_names[i - plt_begin];

  std::stable_sort(out.begin(), out.end(), [](const ElfSymbol& a, const ElfSymbol& b) {
    return a.address != b.address ? a.address < b.address : a.rank > b.rank;
  });
  out.erase(std::unique(out.begin(), out.end(),
                        [](const ElfSymbol& a, const ElfSymbol& b) { return a.address == b.address; }),
            out.end());
  return out;
}

std::string ElfView::build_id() const {
  for (const ByteSpan notes : notes_)
    if (const std::string id = gnu_build_id(notes); !id.empty()) return id;
  for (const ElfSection& s : sections_) {
    if (s.type != SHT_NOTE) continue;
    if (const std::string id = gnu_build_id(s.bytes); !id.empty()) return id;
  }
  return {};
}

std::string ElfView::debug_link() const {
  const ElfSection* s = find_section(".gnu_debuglink");
  return s ? std::string(string_at(s->bytes, 0)) : std::string();
}

bool ElfView::has_dwarf() const {
  const ElfSection* s = find_section(".debug_info");
  if (!s) s = find_section(".zdebug_info");
  return s && !s->bytes.empty();
}

bool ElfView::safe_for_dwarf() const {
  if (!sections_whole_) return false;
  uint64_t unpacked = 0;
  for (const ElfSection& s : sections_) {
    uint64_t size = s.bytes.size();
    if (s.flags & SHF_COMPRESSED) {
      const auto c = read_at<Elf64_Chdr>(s.bytes, 0);
      if (!c) return false;
      size = c->ch_size;
      // zlib's best case is about 1:1032; a header that promises more is made to hurt.
      if (size > s.bytes.size() * uint64_t{1100} + 4096) return false;
    } else if (s.name.starts_with(".zdebug")) {
      return false;  // the form of before 2015: nothing still in use writes it
    }
    if (size > kMaxUncompressedDwarf || (unpacked += size) > kMaxUncompressedDwarf) return false;
  }
  return true;
}

}  // namespace hindcast::decode
