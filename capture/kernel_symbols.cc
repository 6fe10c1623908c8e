#include "capture/kernel_symbols.h"

#include <algorithm>
#include <unordered_map>

#include <linux/capability.h>

#include "capture/privilege.h"
#include "capture/text_file.h"
#include "hindcast/kallsyms.h"

namespace hindcast::capture {

namespace {

constexpr size_t kMostModules = 4096;
constexpr size_t kMostModuleBytes = size_t{1} << 20;  // of /proc/modules
constexpr uint64_t kPage = 4096;

/// The last page ends one byte early.
uint64_t page_end(uint64_t address) {
  const uint64_t last = address | (kPage - 1);
  return last == UINT64_MAX ? last : last + 1;
}

std::string_view take_word(std::string_view& line) {
  const size_t end = line.find(' ');
  const std::string_view word = line.substr(0, end);
  line.remove_prefix(end == std::string_view::npos ? line.size() : end + 1);
  return word;
}

/// "nf_tables 311296 2 nft_ct,nft_chain_nat, Live 0xffffffffc0a00000 (O)"
std::optional<KernelModule> parse_module(std::string_view line) {
  KernelModule m;
  m.name = take_word(line);
  const auto plain = [](char c) { return c > ' ' && c <= '~' && c != '/'; };
  if (m.name.empty() || m.name.size() > kMaxKernelName || m.name.front() == '.' ||
      !std::all_of(m.name.begin(), m.name.end(), plain))
    return std::nullopt;
  const auto bytes = parse_number(take_word(line), 10);
  take_word(line);  // how many use it
  take_word(line);  // who
  m.live = take_word(line) == "Live";
  std::string_view address = take_word(line);
  if (!bytes || !address.starts_with("0x")) return std::nullopt;
  address.remove_prefix(2);
  const auto at = parse_number(address, 16);
  if (!at || *at + *bytes < *at) return std::nullopt;
  m.bytes = *bytes;
  m.address = *at;
  return m;
}

/// Symbols of these are not a module's.
bool is_made(std::string_view module) { return module == "bpf" || module.starts_with("__builtin__"); }

}  // namespace

std::vector<KernelModule> parse_modules(std::string_view text) {
  std::vector<KernelModule> out;
  while (!text.empty() && out.size() < kMostModules) {
    const size_t end = text.find('\n');
    if (auto m = parse_module(text.substr(0, end))) out.push_back(std::move(*m));
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  }
  return out;
}

Result<std::vector<KernelModule>> read_modules(const std::string& proc) {
  auto text = read_text_file(proc + "/modules", kMostModuleBytes);
  if (text) return parse_modules(*text);
  Error e = std::move(text).error();
  if (e.code == Errc::not_found) {
    e.code = Errc::unavailable;
    e.found = "this kernel does not list modules";
    e.fix = "a kernel with CONFIG_MODULES";
  }
  return e;
}

KernelSymbols KernelSymbols::parse(std::string_view text) {
  KernelSymbols out;
  uint64_t begin = 0, end = 0;
  bool twice = false;
  const auto set = [&twice](uint64_t& which, uint64_t address) {
    twice |= which != 0 && which != address;
    which = address;
  };
  std::unordered_map<std::string_view, uint32_t> ids;
  for_each_kallsyms_line(text, [&](const KallsymsLine& s, std::string_view line) {
    if (s.address == 0) return;
    if (s.module.empty()) {
      if (!s.is_text()) return;
      out.hidden_ = false;
      if (s.name == "_stext") set(begin, s.address);
      if (s.name == "_etext") set(end, s.address);
    } else {
      const auto [it, fresh] = ids.emplace(s.module, static_cast<uint32_t>(out.modules_.size()));
      if (fresh) out.modules_.emplace_back(s.module);
      out.symbols_.push_back({s.address, it->second, s.is_text()});
      if (is_made(s.module) && s.is_text()) out.made_.push_back({s.address, 0, std::string(s.name)});
    }
    if (s.is_text()) out.lines_.append(line).push_back('\n');
  });
  if (begin != 0 && begin < end && !twice) out.text_ = {begin, end};
  std::sort(out.symbols_.begin(), out.symbols_.end(),
            [](const Symbol& a, const Symbol& b) { return a.address < b.address; });
  std::stable_sort(out.made_.begin(), out.made_.end(),
                   [](const Made& a, const Made& b) { return a.address < b.address; });
  for (Made& m : out.made_) m.most = std::min(page_end(m.address), out.next_after(m.address, {})) - m.address;
  return out;
}

Result<KernelSymbols> KernelSymbols::read(const std::string& proc) {
  const std::string path = proc + "/kallsyms";
  auto text = read_text_file(path, kMostBytes);
  if (!text) {
    Error e = std::move(text).error();
    if (e.code == Errc::not_found) {
      e.code = Errc::unavailable;
      e.fix = "a kernel with CONFIG_KALLSYMS";
    }
    return e;
  }
  KernelSymbols symbols = parse(*text);
  if (!symbols.hidden()) return symbols;
  const auto restricted = read_text_file(proc + "/sys/kernel/kptr_restrict", 64);
  return Error{Errc::permission, path + " hides all addresses",
               "kernel.kptr_restrict = " + (restricted ? trimmed(*restricted) : std::string("unreadable")) +
                   "; CAP_SYSLOG is " + (has_capability(proc, CAP_SYSLOG) ? "held" : "not held"),
               "sysctl kernel.kptr_restrict=1, and run as root, or: setcap cap_syslog+ep HINDCASTD"};
}

/// The next symbol's address beyond this one, or the end of all.
uint64_t KernelSymbols::next_after(uint64_t address, std::optional<uint32_t> unless) const {
  auto it = std::upper_bound(symbols_.begin(), symbols_.end(), address,
                             [](uint64_t a, const Symbol& s) { return a < s.address; });
  while (it != symbols_.end() && it->module == unless) ++it;
  return it == symbols_.end() ? UINT64_MAX : it->address;
}

std::optional<AddressRange> KernelSymbols::text_of(const KernelModule& module) const {
  const auto id = std::find(modules_.begin(), modules_.end(), module.name);
  if (id == modules_.end()) return std::nullopt;
  const auto index = static_cast<uint32_t>(id - modules_.begin());
  const uint64_t end = module.address + module.bytes;
  uint64_t last = 0;
  const auto first = std::lower_bound(symbols_.begin(), symbols_.end(), module.address,
                                      [](const Symbol& s, uint64_t a) { return s.address < a; });
  for (auto it = first; it != symbols_.end() && it->address < end; ++it)
    if (it->module == index && it->text) last = it->address;
  if (last == 0) return std::nullopt;
  // Where others begin among its own symbols, its text has ended: `end` counts parts that lie elsewhere.
  const uint64_t others = next_after(module.address, index);
  if (others <= last) {
    last = 0;
    for (auto it = first; it != symbols_.end() && it->address < others; ++it)
      if (it->module == index && it->text) last = it->address;
    if (last == 0) return std::nullopt;
  }
  return AddressRange{module.address, std::min({page_end(last), end, others})};
}

bool KernelSymbols::has_modules() const {
  return std::any_of(modules_.begin(), modules_.end(), [](const std::string& m) { return !is_made(m); });
}

}  // namespace hindcast::capture
