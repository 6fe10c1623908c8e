// Source lines and inlined calls of an address, from DWARF, through elfutils' libdw.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "hindcast/bytes.h"
#include "hindcast/result.h"

namespace hindcast::decode {

/// One source-level frame at an address.
struct SourceFrame {
  std::string function;  // demangled; empty when DWARF does not name it
  std::string file;      // as the compiler wrote it, directory joined; empty when unknown
  uint32_t line = 0;     // 1-based; 0 unknown
  uint32_t column = 0;   // 1-based; 0 unknown
  bool inlined = false;  // this frame's code was inlined into the next one
  bool operator==(const SourceFrame&) const = default;
};

/// Reads DWARF 2 to 5 of one ELF file, lazily, one compile unit at a time. Opens no file: units whose DWARF
/// is elsewhere (split .dwo files, dwz) yield what is in the file itself. Not thread-safe.
class DwarfLines {
 public:
  /// elf must satisfy ElfView::safe_for_dwarf(); it is borrowed for the object's life.
  /// Errors: bad_input when libdw finds no usable DWARF.
  static Result<std::unique_ptr<DwarfLines>> open(ByteSpan elf);
  ~DwarfLines();
  DwarfLines(const DwarfLines&) = delete;
  DwarfLines& operator=(const DwarfLines&) = delete;

  /// The frames at a link-time address, innermost first; empty when no unit covers it. Cost: the first
  /// question in a unit reads that unit; later ones are binary searches.
  std::vector<SourceFrame> frames_at(uint64_t address);

 private:
  struct Impl;
  explicit DwarfLines(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace hindcast::decode
