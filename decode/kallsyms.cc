#include "decode/kallsyms.h"

#include <algorithm>
#include <limits>

#include "hindcast/kallsyms.h"

namespace hindcast::decode {
namespace {

constexpr uint64_t kPage = 4096;

uint8_t rank_of(const KallsymsLine& line) {
  const int binding = line.type == 'T' ? 0 : line.type == 'W' || line.type == 'w' ? 1 : 2;
  const size_t underscores = std::min<size_t>(line.name.find_first_not_of('_'), 15);
  return static_cast<uint8_t>(binding << 4 | static_cast<int>(underscores));
}

}  // namespace

Kallsyms Kallsyms::parse(std::string_view text) {
  Kallsyms out;
  std::unordered_map<std::string_view, uint16_t> modules{{"", 0}};  // in the text
  out.left_out_ = for_each_kallsyms_line(text, [&](const KallsymsLine& s, std::string_view) {
    if (!s.is_text()) return;
    auto module = modules.find(s.module);
    const bool fits = out.entries_.size() < kMostSymbols &&
                      out.names_.size() + s.name.size() <= std::numeric_limits<uint32_t>::max() &&
                      (module != modules.end() || modules.size() <= std::numeric_limits<uint16_t>::max());
    if (!fits) {
      ++out.left_out_;
      return;
    }
    if (module == modules.end()) {
      module = modules.emplace(s.module, static_cast<uint16_t>(out.modules_.size())).first;
      out.modules_.emplace_back(s.module);
    }
    if (s.module.empty() && s.address != 0) {
      if (s.name == "_stext") out.text_begin_ = s.address;
      if (s.name == "_etext") out.text_end_ = s.address;
    }
    out.entries_.push_back({s.address, static_cast<uint32_t>(out.names_.size()), static_cast<uint16_t>(s.name.size()),
                            module->second, rank_of(s)});
    out.names_.append(s.name);
  });
  std::stable_sort(out.entries_.begin(), out.entries_.end(), [](const Entry& a, const Entry& b) {
    return a.address != b.address ? a.address < b.address : a.rank < b.rank;
  });
  const auto same = [](const Entry& a, const Entry& b) { return a.address == b.address; };
  out.entries_.erase(std::unique(out.entries_.begin(), out.entries_.end(), same), out.entries_.end());
  return out;
}

std::optional<Kallsyms::Symbol> Kallsyms::find(uint64_t address) const {
  const auto next = std::upper_bound(entries_.begin(), entries_.end(), address,
                                     [](uint64_t a, const Entry& e) { return a < e.address; });
  if (next == entries_.begin()) return std::nullopt;
  const Entry& e = *std::prev(next);
  Symbol s;
  s.name = std::string_view(names_).substr(e.name, e.length);
  s.module = modules_[e.module];
  s.begin = e.address;
  const uint64_t last = e.address | (kPage - 1);
  s.end = next != entries_.end() ? next->address : last == UINT64_MAX ? last : last + 1;
  if (address >= s.end) return std::nullopt;
  return s;
}

}  // namespace hindcast::decode
