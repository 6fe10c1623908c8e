// How deep JSON text is nested, before a parser that has no limit of its own sees it.
#pragma once

#include <cstdint>
#include <string_view>

namespace hindcast::transport {

/// Counts brackets outside strings. For text that is not JSON the answer means nothing but is still bounded work.
constexpr bool nested_deeper_than(std::string_view text, uint32_t limit) {
  uint32_t depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\')
        ++i;
      else if (c == '"')
        in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      if (++depth > limit) return true;
    } else if ((c == '}' || c == ']') && depth > 0) {
      --depth;
    }
  }
  return false;
}

}  // namespace hindcast::transport
