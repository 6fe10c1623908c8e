#include "decode/perf_map.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <queue>

namespace hindcast::decode {
namespace {

/// The hex number at the text's beginning, and the blank behind it, are taken off it.
std::optional<uint64_t> take_hex(std::string_view& text) {
  if (text.starts_with("0x") || text.starts_with("0X")) text.remove_prefix(2);
  uint64_t v = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), v, 16);
  if (failed != std::errc{} || end == text.data() + text.size() || (*end != ' ' && *end != '\t')) return std::nullopt;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  text.remove_prefix(std::min(text.find_first_not_of(" \t"), text.size()));
  return v;
}

}  // namespace

PerfMap PerfMap::parse(ByteSpan file) {
  PerfMap out;
  std::string_view rest(reinterpret_cast<const char*>(file.data()), file.size());
  while (!rest.empty()) {
    const size_t end = rest.find('\n');
    if (end == std::string_view::npos) {
      ++out.left_out_;
      break;
    }
    std::string_view line = rest.substr(0, end);
    rest.remove_prefix(end + 1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    const auto address = take_hex(line);
    const auto bytes = address ? take_hex(line) : std::nullopt;
    if (!bytes || *bytes == 0 || *address + *bytes < *address || line.empty() || out.functions_.size() == kMost) {
      ++out.left_out_;
      continue;
    }
    out.functions_.push_back({*address, *bytes, line});
  }

  // Swept from low addresses to high ones; of the functions that are open the newest is on top.
  std::vector<uint32_t> by_address(out.functions_.size());
  for (uint32_t i = 0; i < by_address.size(); ++i) by_address[i] = i;
  std::stable_sort(by_address.begin(), by_address.end(),
                   [&](uint32_t a, uint32_t b) { return out.functions_[a].address < out.functions_[b].address; });
  std::priority_queue<uint32_t> open;
  const auto end_of = [&](uint32_t i) { return out.functions_[i].address + out.functions_[i].bytes; };
  const auto emit = [&](uint64_t begin, uint64_t end, uint32_t function) {
    if (begin >= end) return;
    if (!out.parts_.empty() && out.parts_.back().function == function && out.parts_.back().end == begin)
      out.parts_.back().end = end;
    else
      out.parts_.push_back({begin, end, function});
  };
  uint64_t at = 0;
  for (size_t i = 0; i < by_address.size() || !open.empty();) {
    if (open.empty()) at = out.functions_[by_address[i]].address;
    while (i < by_address.size() && out.functions_[by_address[i]].address <= at) open.push(by_address[i++]);
    while (!open.empty() && end_of(open.top()) <= at) open.pop();
    if (open.empty()) continue;
    uint64_t to = end_of(open.top());
    if (i < by_address.size()) to = std::min(to, out.functions_[by_address[i]].address);
    emit(at, to, open.top());
    at = to;
  }
  return out;
}

const PerfMapFunction* PerfMap::find(uint64_t address) const {
  auto after =
      std::upper_bound(parts_.begin(), parts_.end(), address, [](uint64_t a, const Part& p) { return a < p.begin; });
  if (after == parts_.begin()) return nullptr;
  --after;
  return address < after->end ? &functions_[after->function] : nullptr;
}

}  // namespace hindcast::decode
