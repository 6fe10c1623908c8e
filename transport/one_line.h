// Text from outside, made fit for one line of a log or an answer.
#pragma once

#include <string>
#include <string_view>

namespace hindcast::transport {

/// Control characters become blanks; what is longer than `most` bytes ends in "...", never inside a UTF-8 sequence.
inline std::string one_line(std::string_view text, size_t most) {
  std::string s(text.substr(0, most + 1));
  if (s.size() > most) {
    s.resize(most > 3 ? most - 3 : 0);
    while (!s.empty() && (static_cast<unsigned char>(text[s.size()]) & 0xc0) == 0x80) s.pop_back();
    s += "...";
  }
  for (char& c : s)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  return s;
}

}  // namespace hindcast::transport
