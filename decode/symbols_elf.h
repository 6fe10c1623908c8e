// The parts of an ELF file that names come from: sections, load segments, symbol tables, PLT slots, build-id.
//
// Borrowed bytes, nothing trusted: each offset and count is checked against the file before use, and what
// does not fit is left out. Only 64-bit little-endian x86-64 files.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "hindcast/bytes.h"
#include "hindcast/result.h"

namespace hindcast::decode {

struct ElfSection {
  std::string_view name;  // in the file's bytes
  uint32_t type = 0;
  uint64_t flags = 0;
  uint64_t address = 0;  // virtual, as linked
  uint64_t size = 0;
  uint64_t entry_size = 0;
  uint32_t link = 0;
  uint32_t info = 0;
  ByteSpan bytes;  // empty for NOBITS and for sections outside the file
};

struct ElfSegment {
  uint64_t file_offset = 0;
  uint64_t address = 0;  // virtual, as linked
  uint64_t file_size = 0;
  uint64_t memory_size = 0;
  bool executable = false;
};

/// A named range of code in link-time virtual addresses. size 0: the file does not say.
struct ElfSymbol {
  uint64_t address = 0;
  uint64_t size = 0;
  std::string_view name;  // in the file's bytes
  uint8_t rank = 0;       // among names of one address the highest is shown: global before weak before local
};

class ElfView {
 public:
  /// Errors: bad_input, unsupported (not 64-bit little-endian x86-64). The bytes are borrowed for the
  /// object's life.
  static Result<ElfView> parse(ByteSpan file);

  const std::vector<ElfSection>& sections() const { return sections_; }
  const std::vector<ElfSegment>& segments() const { return segments_; }
  const ElfSection* find_section(std::string_view name) const;

  /// Link-time address of the byte at this file offset, by the load segments.
  std::optional<uint64_t> address_of_offset(uint64_t file_offset) const;

  /// Function symbols of .symtab and .dynsym (code labels of assembly included), and "name@plt" for PLT
  /// slots; sorted by address, one per address. `plt_names` owns the PLT texts.
  std::vector<ElfSymbol> functions(std::vector<std::string>& plt_names) const;

  /// Lower-case hex of the GNU build-id note, or empty. Note segments, where linkers put it near the file's begin, come before
  /// note sections: the first part of a file is often enough.
  std::string build_id() const;
  /// The file name in .gnu_debuglink, or empty.
  std::string debug_link() const;
  bool has_dwarf() const;
  /// True when libdw may be given this file: sections lie inside it and compressed ones unpack to a bounded
  /// size.
  bool safe_for_dwarf() const;

 private:
  ByteSpan file_;
  std::vector<ElfSection> sections_;
  std::vector<ElfSegment> segments_;  // to load
  std::vector<ByteSpan> notes_;       // of segments
  bool sections_whole_ = true;        // every section that has bytes lies inside the file
};

}  // namespace hindcast::decode
