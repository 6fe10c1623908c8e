// Names of code: address in an ELF image to function, source line and inlined calls; demangling.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "decode/dwarf_lines.h"
#include "hindcast/bytes.h"
#include "hindcast/result.h"

namespace hindcast::decode {

/// C++ (Itanium) and legacy Rust names made readable; anything else, Rust v0 included, comes back as it is.
/// Names above 1 KiB are left mangled, since a hostile name can expand without bound.
std::string demangle(std::string_view name);

/// The function that covers an address.
struct FunctionName {
  std::string name;    // demangled; "f@plt" for a PLT slot
  uint64_t begin = 0;  // link-time address of its first byte
  uint64_t size = 0;   // bytes; 0 when the file does not say
};

/// All names of one ELF image. Everything is read on first use and kept. Not thread-safe.
class ElfSymbols {
 public:
  /// Takes the whole ELF file. Errors: bad_input, unsupported.
  static Result<std::unique_ptr<ElfSymbols>> open(std::vector<uint8_t> elf);
  ~ElfSymbols();
  ElfSymbols(const ElfSymbols&) = delete;
  ElfSymbols& operator=(const ElfSymbols&) = delete;

  /// Adds the separate debug file of this image: its symbols and DWARF are used from now on. Errors:
  /// bad_input; also when both files carry a build-id and they differ.
  Result<void> add_debug_file(std::vector<uint8_t> elf);

  const std::string& build_id() const;
  /// The file name that .gnu_debuglink gives, or empty.
  const std::string& debug_link() const;
  bool has_dwarf() const;
  /// True when the file has a symbol table beyond the dynamic one.
  bool has_symtab() const;

  std::optional<uint64_t> address_of_offset(uint64_t file_offset) const;

  /// The nearest symbol at or before address whose size covers it; a symbol without a size covers up to the
  /// next one in its segment.
  std::optional<FunctionName> function_at(uint64_t address);
  /// Source frames, innermost first; empty without DWARF for the address.
  std::vector<SourceFrame> frames_at(uint64_t address);
  /// Functions whose demangled name is `name`, or whose demangled name up to "(" is. Reads all names: slow on
  /// first use.
  std::vector<FunctionName> find(std::string_view name);

 private:
  struct Impl;
  explicit ElfSymbols(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace hindcast::decode
