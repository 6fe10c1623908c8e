// The lines of /proc/kallsyms, which an image of kind kallsyms holds: "ffffffff81000000 T _text", and of a module's symbol
// "ffffffffc0a01230 t nft_do_chain\t[nf_tables]". Nothing in them is trusted.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace hindcast {

struct KallsymsLine {
  uint64_t address = 0;
  char type = 0;            // as nm has it
  std::string_view name;    // in the line
  std::string_view module;  // in the line; empty: the kernel itself. "bpf", "__builtin__ftrace": code made at run time
  /// A function, or a label in code. Capital letters are global, w is weak.
  bool is_text() const { return type == 't' || type == 'T' || type == 'w' || type == 'W'; }
};

inline constexpr size_t kMaxKernelName = 512;  // KSYM_NAME_LEN; of modules, too

/// A line without its line end; none when it breaks the format. Cost: O(length), whatever it holds.
inline std::optional<KallsymsLine> parse_kallsyms_line(std::string_view line) {
  KallsymsLine out;
  size_t at = 0;
  for (; at < line.size() && at < 16; ++at) {
    const char c = line[at];
    const bool digit = c >= '0' && c <= '9', letter = c >= 'a' && c <= 'f';
    if (!digit && !letter) break;
    out.address = out.address << 4 | static_cast<uint64_t>(digit ? c - '0' : c - 'a' + 10);
  }
  if (at == 0 || line.size() - at < 4 || line[at] != ' ' || line[at + 2] != ' ') return std::nullopt;
  out.type = line[at + 1];
  if (!((out.type >= 'a' && out.type <= 'z') || (out.type >= 'A' && out.type <= 'Z'))) return std::nullopt;
  line.remove_prefix(at + 3);
  const auto plain = [](std::string_view word) {
    if (word.empty() || word.size() > kMaxKernelName) return false;
    for (const char c : word)
      if (c <= ' ' || c > '~') return false;
    return true;
  };
  const size_t tab = line.find('\t');
  out.name = line.substr(0, tab);
  if (!plain(out.name)) return std::nullopt;
  if (tab == std::string_view::npos) return out;
  const std::string_view module = line.substr(tab + 1);
  if (module.size() < 3 || module.front() != '[' || module.back() != ']') return std::nullopt;
  out.module = module.substr(1, module.size() - 2);
  if (!plain(out.module)) return std::nullopt;
  return out;
}

/// Calls take(line, whole) for each well-formed line; `whole` is its text without the line end. Returns how many others there
/// were.
template <class Take>
uint64_t for_each_kallsyms_line(std::string_view text, Take&& take) {
  uint64_t malformed = 0;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (const auto parsed = parse_kallsyms_line(line))
      take(*parsed, line);
    else
      ++malformed;
  }
  return malformed;
}

}  // namespace hindcast
