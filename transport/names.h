// Which texts may name a host or an incident: they become file names on both sides, and come from outside.
#pragma once

#include <string_view>

namespace hindcast::transport {

inline constexpr size_t kMaxNameBytes = 128;
inline constexpr const char* kNameRule = "1 to 128 letters, digits, '.', '_' or '-', beginning with a letter or digit";

/// ASCII letters, digits, '.', '_' and '-'; the first a letter or digit. So no separators, no "..", nothing hidden.
constexpr bool is_name(std::string_view s) {
  const auto alnum = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); };
  if (s.empty() || s.size() > kMaxNameBytes || !alnum(s[0])) return false;
  for (const char c : s)
    if (!alnum(c) && c != '.' && c != '_' && c != '-') return false;
  return true;
}

}  // namespace hindcast::transport
