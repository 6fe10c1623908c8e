// Kernel addresses to names, by the text of an image of kind kallsyms.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace hindcast::decode {

/// Text symbols only. Of several at one address the best known name is kept: global before weak before local, then the one
/// with the fewest underscores in front, then the first.
class Kallsyms {
 public:
  static constexpr size_t kMostSymbols = size_t{1} << 21;

  /// Takes what fits the format, in whatever order; lines that do not, and symbols beyond kMostSymbols, are counted.
  static Kallsyms parse(std::string_view text);

  struct Symbol {
    std::string_view name, module;  // of this object; module "" is the kernel itself
    uint64_t begin = 0;
    uint64_t end = 0;  // of the next symbol, whose it may be; of the last one the end of its page
  };
  /// The last symbol at or before address, unless the address is beyond its end.
  std::optional<Symbol> find(uint64_t address) const;
  /// In [_stext, _etext): no module's.
  bool in_kernel_text(uint64_t address) const { return text_begin_ <= address && address < text_end_; }

  size_t size() const { return entries_.size(); }
  uint64_t left_out() const { return left_out_; }

 private:
  struct Entry {
    uint64_t address;
    uint32_t name;  // offset in names_
    uint16_t length;
    uint16_t module;  // index in modules_
    uint8_t rank;     // lower is better
  };
  std::vector<Entry> entries_;  // by address, which differ
  std::string names_;
  std::vector<std::string> modules_{{}};
  uint64_t text_begin_ = 0, text_end_ = 0;
  uint64_t left_out_ = 0;
};

}  // namespace hindcast::decode
