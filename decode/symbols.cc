#include "decode/symbols.h"

#include <cxxabi.h>

#include <algorithm>
#include <cstdlib>

#include "decode/symbols_elf.h"

namespace hindcast::decode {
namespace {

constexpr size_t kMaxMangled = 1024;
constexpr uint64_t kAlloc = 2;  // SHF_ALLOC: in memory when the program runs

/// "core::fmt::write::h0123456789abcdef" without the hash, and with the escapes that legacy Rust names use
/// resolved.
std::string tidy_rust(std::string name) {
  const size_t hash = name.size() >= 19 ? name.size() - 19 : std::string::npos;
  if (hash == std::string::npos || name.compare(hash, 3, "::h") != 0 ||
      name.find_first_not_of("0123456789abcdef", hash + 3) != std::string::npos)
    return name;
  name.resize(hash);
  static constexpr std::pair<std::string_view, std::string_view> kEscapes[] = {
      {"$LT$", "<"},  {"$GT$", ">"},  {"$RF$", "&"},  {"$BP$", "*"},  {"$LP$", "("},  {"$RP$", ")"},  {"$C$", ","},
      {"$u20$", " "}, {"$u27$", "'"}, {"$u5b$", "["}, {"$u5d$", "]"}, {"$u7b$", "{"}, {"$u7d$", "}"}, {"..", "::"}};
  std::string out;
  for (size_t i = 0; i < name.size();) {
    bool replaced = false;
    for (const auto& [from, to] : kEscapes) {
      if (name.compare(i, from.size(), from) != 0) continue;
      out += to;
      i += from.size();
      replaced = true;
      break;
    }
    if (replaced) continue;
    // An underscore stands before an escape that would otherwise begin a path component.
    if (name[i] == '_' && i + 1 < name.size() && name[i + 1] == '$' && (i == 0 || name[i - 1] == ':')) {
      ++i;
      continue;
    }
    out += name[i++];
  }
  return out;
}

}  // namespace

std::string demangle(std::string_view name) {
  static constexpr std::string_view kPlt = "@plt";
  if (name.ends_with(kPlt)) return demangle(name.substr(0, name.size() - kPlt.size())) + std::string(kPlt);
  const std::string text(name);
  if (!name.starts_with("_Z") || name.size() > kMaxMangled) return text;
  int status = -1;
  const std::unique_ptr<char, decltype(&std::free)> readable(
      abi::__cxa_demangle(text.c_str(), nullptr, nullptr, &status), &std::free);
  if (status != 0 || !readable) return text;
  return tidy_rust(readable.get());
}

struct ElfSymbols::Impl {
  struct File {
    std::vector<uint8_t> bytes;
    ElfView view;
  };
  std::unique_ptr<File> image, debug;
  std::string build_id, debug_link;
  bool has_symtab = false, has_dwarf = false;
  bool names_read = false, lines_tried = false;
  std::vector<std::string> plt_names;
  std::vector<ElfSymbol> functions;  // sorted by address, one per address
  std::unique_ptr<DwarfLines> lines;

  void read_names() {
    if (names_read) return;
    names_read = true;
    functions = image->view.functions(plt_names);
    if (!debug) return;
    std::vector<std::string> unused;  // a debug file's PLT has no bytes, so no slots
    std::vector<ElfSymbol> more = debug->view.functions(unused), merged;
    std::merge(functions.begin(), functions.end(), more.begin(), more.end(), std::back_inserter(merged),
               [](const ElfSymbol& a, const ElfSymbol& b) {
                 return a.address != b.address ? a.address < b.address : a.rank > b.rank;
               });
    merged.erase(std::unique(merged.begin(), merged.end(),
                             [](const ElfSymbol& a, const ElfSymbol& b) { return a.address == b.address; }),
                 merged.end());
    functions = std::move(merged);
  }

  void open_lines() {
    if (lines_tried) return;
    lines_tried = true;
    for (const File* file : {debug.get(), image.get()}) {
      if (!file || !file->view.has_dwarf() || !file->view.safe_for_dwarf()) continue;
      auto opened = DwarfLines::open(file->bytes);
      if (!opened.ok()) continue;
      lines = std::move(opened).value();
      return;
    }
  }

  /// End of the section that holds address, or of its load segment when there are no sections; 0 when none does.
  uint64_t part_end(uint64_t address) const {
    for (const ElfSection& s : image->view.sections())
      if ((s.flags & kAlloc) && address >= s.address && address - s.address < s.size) return s.address + s.size;
    for (const ElfSegment& s : image->view.segments())
      if (address >= s.address && address - s.address < s.memory_size) return s.address + s.memory_size;
    return 0;
  }
};

ElfSymbols::ElfSymbols(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ElfSymbols::~ElfSymbols() = default;

Result<std::unique_ptr<ElfSymbols>> ElfSymbols::open(std::vector<uint8_t> elf) {
  auto file = std::make_unique<Impl::File>();
  file->bytes = std::move(elf);
  HC_TRY(file->view, ElfView::parse(file->bytes));
  auto impl = std::make_unique<Impl>();
  impl->build_id = file->view.build_id();
  impl->debug_link = file->view.debug_link();
  impl->has_dwarf = file->view.has_dwarf();
  impl->has_symtab = file->view.find_section(".symtab") != nullptr;
  impl->image = std::move(file);
  return std::unique_ptr<ElfSymbols>(new ElfSymbols(std::move(impl)));
}

Result<void> ElfSymbols::add_debug_file(std::vector<uint8_t> elf) {
  auto file = std::make_unique<Impl::File>();
  file->bytes = std::move(elf);
  HC_TRY(file->view, ElfView::parse(file->bytes));
  const std::string id = file->view.build_id();
  if (!id.empty() && !impl_->build_id.empty() && id != impl_->build_id)
    return Error{Errc::bad_input, "this debug file belongs to another build",
                 "build-id " + id + "; the image's is " + impl_->build_id,
                 "use the debug file of the same package build"};
  impl_->has_dwarf |= file->view.has_dwarf();
  impl_->has_symtab |= file->view.find_section(".symtab") != nullptr;
  impl_->names_read = impl_->lines_tried = false;
  impl_->functions.clear();
  impl_->lines.reset();
  impl_->debug = std::move(file);
  return {};
}

const std::string& ElfSymbols::build_id() const { return impl_->build_id; }
const std::string& ElfSymbols::debug_link() const { return impl_->debug_link; }
bool ElfSymbols::has_dwarf() const { return impl_->has_dwarf; }
bool ElfSymbols::has_symtab() const { return impl_->has_symtab; }

std::optional<uint64_t> ElfSymbols::address_of_offset(uint64_t file_offset) const {
  return impl_->image->view.address_of_offset(file_offset);
}

std::optional<FunctionName> ElfSymbols::function_at(uint64_t address) {
  impl_->read_names();
  const auto& all = impl_->functions;
  auto it =
      std::upper_bound(all.begin(), all.end(), address, [](uint64_t a, const ElfSymbol& s) { return a < s.address; });
  // A symbol inside another one (a local label, an alternative entry) may end before the address does: look
  // outward.
  for (int back = 0; it != all.begin() && back < 16; ++back) {
    --it;
    if (it->size != 0) {
      if (address - it->address < it->size) return FunctionName{demangle(it->name), it->address, it->size};
      continue;
    }
    const uint64_t end = impl_->part_end(it->address);
    if (back == 0 && address < end) return FunctionName{demangle(it->name), it->address, 0};
  }
  return std::nullopt;
}

std::vector<SourceFrame> ElfSymbols::frames_at(uint64_t address) {
  impl_->open_lines();
  return impl_->lines ? impl_->lines->frames_at(address) : std::vector<SourceFrame>{};
}

std::vector<FunctionName> ElfSymbols::find(std::string_view name) {
  impl_->read_names();
  std::vector<FunctionName> out;
  for (const ElfSymbol& s : impl_->functions) {
    if (s.name == name) {
      out.push_back({demangle(s.name), s.address, s.size});
      continue;
    }
    if (!s.name.starts_with("_Z")) continue;
    std::string readable = demangle(s.name);
    if (readable == name ||
        (readable.size() > name.size() && readable[name.size()] == '(' && readable.starts_with(name)))
      out.push_back({std::move(readable), s.address, s.size});
  }
  return out;
}

}  // namespace hindcast::decode
