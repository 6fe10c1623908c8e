// Where the kernel's code lies, as /proc/kallsyms and /proc/modules say.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "hindcast/result.h"

namespace hindcast::capture {

/// [begin, end)
struct AddressRange {
  uint64_t begin = 0, end = 0;
  bool operator==(const AddressRange&) const = default;
};

struct KernelModule {
  std::string name;      // no '/' in it
  uint64_t bytes = 0;    // of all its parts
  uint64_t address = 0;  // where its text begins
  bool live = false;     // else it is being loaded, or removed
  bool operator==(const KernelModule&) const = default;
};

/// The lines of /proc/modules; those that break the format are left out. At most 4,096.
std::vector<KernelModule> parse_modules(std::string_view text);
/// Empty: none are loaded. Errors: unavailable (a kernel without modules), permission, io, too_large.
Result<std::vector<KernelModule>> read_modules(const std::string& proc);

/// What capture needs of the symbols. Text of 64 MiB takes a second.
class KernelSymbols {
 public:
  static constexpr size_t kMostBytes = size_t{64} << 20;

  static KernelSymbols parse(std::string_view text);
  /// Errors: unavailable (this kernel tells none), permission (it hides their addresses), io, too_large; with what to do.
  static Result<KernelSymbols> read(const std::string& proc);

  /// No line has an address.
  bool hidden() const { return hidden_; }
  /// [_stext, _etext). None: a symbol is missing, or there twice with two addresses.
  std::optional<AddressRange> kernel_text() const { return text_; }
  /// From a module's first byte of text to the end of the page of its last symbol, but not into what others have. None: it
  /// has no text symbol where /proc/modules says it lies.
  std::optional<AddressRange> text_of(const KernelModule& module) const;
  bool has_modules() const;

  /// Code that was made at run time: what BPF, ftrace and kprobes made.
  struct Made {
    uint64_t address = 0;
    uint64_t most = 0;  // bytes to the end of its page or to the next symbol; its length is not told
    std::string name;
  };
  /// By address.
  const std::vector<Made>& made() const { return made_; }

  /// The lines of text symbols: what an image of kind kallsyms holds.
  const std::string& lines() const { return lines_; }
  std::string take_lines() { return std::move(lines_); }

 private:
  struct Symbol {
    uint64_t address;
    uint32_t module;  // index in modules_
    bool text;
  };
  uint64_t next_after(uint64_t address, std::optional<uint32_t> unless) const;

  bool hidden_ = true;
  std::optional<AddressRange> text_;
  std::vector<std::string> modules_;
  std::vector<Symbol> symbols_;  // not the kernel's own; by address
  std::vector<Made> made_;
  std::string lines_;
};

}  // namespace hindcast::capture
