#include "decode/dwarf_lines.h"

#include <dwarf.h>
#include <elfutils/libdw.h>
#include <gelf.h>

#include <algorithm>

#include "decode/symbols.h"

namespace hindcast::decode {
namespace {

constexpr size_t kMaxUnits = size_t{1} << 20;
constexpr size_t kMaxRanges = size_t{1} << 22;
constexpr int kMaxDepth = 96;  // of nested scopes, and of inlined calls in one another
constexpr size_t kMaxName = 4096;

struct Range {
  uint64_t begin = 0, end = 0;  // [begin, end)
  bool contains(uint64_t a) const { return begin <= a && a < end; }
};

std::vector<Range> ranges_of(Dwarf_Die* die) {
  std::vector<Range> out;
  Dwarf_Addr base = 0, begin = 0, end = 0;
  for (ptrdiff_t at = 0; (at = dwarf_ranges(die, at, &base, &begin, &end)) > 0;) {
    if (begin < end) out.push_back({begin, end});
    if (out.size() >= kMaxRanges) break;
  }
  return out;
}

/// Scopes that may hold code, or scopes that hold code, somewhere below them.
bool may_hold_code(int tag) {
  switch (tag) {
    case DW_TAG_namespace:
    case DW_TAG_module:
    case DW_TAG_class_type:
    case DW_TAG_structure_type:
    case DW_TAG_union_type:
    case DW_TAG_subprogram:
    case DW_TAG_lexical_block:
    case DW_TAG_inlined_subroutine:
    case DW_TAG_try_block:
    case DW_TAG_catch_block:
      return true;
    default:
      return false;
  }
}

std::string function_name(Dwarf_Die* die) {
  Dwarf_Attribute mem;
  for (const unsigned which : {DW_AT_linkage_name, DW_AT_MIPS_linkage_name, DW_AT_name}) {
    const char* s = dwarf_formstring(dwarf_attr_integrate(die, which, &mem));
    if (s && *s) return demangle(std::string_view(s, strnlen(s, kMaxName)));
  }
  return {};
}

uint32_t number_attr(Dwarf_Die* die, unsigned name) {
  Dwarf_Attribute mem;
  Dwarf_Word v = 0;
  if (dwarf_formudata(dwarf_attr(die, name, &mem), &v) != 0) return 0;
  return v > UINT32_MAX ? 0 : static_cast<uint32_t>(v);
}

std::string text_of(const char* s) { return s ? std::string(s, strnlen(s, kMaxName)) : std::string(); }

struct Function {
  Range range;
  Dwarf_Off die = 0;
};

struct Unit {
  Dwarf_Off die = 0;
  size_t bytes = 0;  // of its DIEs: no unit can hold more DIEs than bytes
  bool read = false;
  std::vector<Function> functions;  // sorted by begin
};

struct UnitRange {
  Range range;
  uint32_t unit = 0;
};

/// Calls fn(die, depth) for each DIE below `root` that may hold code, as long as `budget` lasts. fn says
/// whether to go below that DIE.
template <class Fn>
void walk_scopes(Dwarf_Die* root, int depth, size_t& budget, const Fn& fn) {
  Dwarf_Die child;
  if (depth > kMaxDepth || dwarf_child(root, &child) != 0) return;
  do {
    if (budget == 0) return;
    --budget;
    if (!may_hold_code(dwarf_tag(&child))) continue;
    if (fn(&child, depth)) walk_scopes(&child, depth + 1, budget, fn);
  } while (dwarf_siblingof(&child, &child) == 0);
}

}  // namespace

struct DwarfLines::Impl {
  Elf* elf = nullptr;
  Dwarf* dwarf = nullptr;
  std::vector<Unit> units;
  std::vector<UnitRange> ranges;  // sorted by begin

  ~Impl() {
    if (dwarf) dwarf_end(dwarf);
    if (elf) elf_end(elf);
  }

  void index_units() {
    Dwarf_CU* cu = nullptr;
    Dwarf_Die die;
    uint8_t type = 0;
    while (units.size() < kMaxUnits && dwarf_get_units(dwarf, cu, &cu, nullptr, &type, &die, nullptr) == 0) {
      if (type != DW_UT_compile && type != DW_UT_skeleton) continue;
      if (dwarf_tag(&die) != DW_TAG_compile_unit && dwarf_tag(&die) != DW_TAG_skeleton_unit) continue;
      Dwarf_Off next = 0;
      size_t header = 0;
      Dwarf_Off start = dwarf_dieoffset(&die) - dwarf_cuoffset(&die);
      if (dwarf_nextcu(dwarf, start, &next, &header, nullptr, nullptr, nullptr) != 0 || next <= start) continue;
      const auto index = static_cast<uint32_t>(units.size());
      units.push_back({dwarf_dieoffset(&die), static_cast<size_t>(next - start), false, {}});
      for (const Range& r : ranges_of(&die)) {
        if (ranges.size() >= kMaxRanges) break;
        ranges.push_back({r, index});
      }
    }
    std::stable_sort(ranges.begin(), ranges.end(),
                     [](const UnitRange& a, const UnitRange& b) { return a.range.begin < b.range.begin; });
  }

  void read_unit(Unit& unit) {
    if (unit.read) return;
    unit.read = true;
    Dwarf_Die root;
    if (!dwarf_offdie(dwarf, unit.die, &root)) return;
    size_t budget = unit.bytes;
    walk_scopes(&root, 0, budget, [&](Dwarf_Die* die, int) {
      const int tag = dwarf_tag(die);
      if (tag == DW_TAG_inlined_subroutine) return false;  // read when an address inside is asked for
      if (tag == DW_TAG_subprogram)
        for (const Range& r : ranges_of(die))
          if (unit.functions.size() < kMaxRanges) unit.functions.push_back({r, dwarf_dieoffset(die)});
      return true;  // local classes and lambdas nest concrete functions inside others
    });
    std::stable_sort(unit.functions.begin(), unit.functions.end(),
                     [](const Function& a, const Function& b) { return a.range.begin < b.range.begin; });
  }

  /// The element whose range holds address; elements are sorted by begin and hardly overlap.
  template <class T>
  static const T* find(const std::vector<T>& sorted, uint64_t address) {
    auto it = std::upper_bound(sorted.begin(), sorted.end(), address,
                               [](uint64_t a, const T& t) { return a < t.range.begin; });
    for (int back = 0; it != sorted.begin() && back < 64; ++back) {
      --it;
      if (it->range.contains(address)) return &*it;
    }
    return nullptr;
  }

  std::vector<SourceFrame> frames_at(uint64_t address) {
    const UnitRange* at = find(ranges, address);
    if (!at) return {};
    Unit& unit = units[at->unit];
    read_unit(unit);
    Dwarf_Die root;
    if (!dwarf_offdie(dwarf, unit.die, &root)) return {};

    SourceFrame here;
    if (Dwarf_Line* line = dwarf_getsrc_die(&root, address)) {
      int number = 0, column = 0;
      if (dwarf_lineno(line, &number) == 0 && number > 0) {
        here.line = static_cast<uint32_t>(number);
        here.file = text_of(dwarf_linesrc(line, nullptr, nullptr));
        if (dwarf_linecol(line, &column) == 0 && column > 0) here.column = static_cast<uint32_t>(column);
      }
    }
    const Function* function = find(unit.functions, address);
    if (!function) {
      if (here.file.empty()) return {};
      return {here};
    }
    Dwarf_Die die;
    if (!dwarf_offdie(dwarf, function->die, &die)) return {here};

    // The inlined calls around the address, outermost first.
    std::vector<Dwarf_Die> chain{die};
    size_t budget = unit.bytes;
    walk_scopes(&die, 0, budget, [&](Dwarf_Die* scope, int) {
      const int tag = dwarf_tag(scope);
      if (tag != DW_TAG_inlined_subroutine && tag != DW_TAG_lexical_block && tag != DW_TAG_try_block &&
          tag != DW_TAG_catch_block)
        return false;
      bool inside = false, any = false;
      for (const Range& r : ranges_of(scope)) {
        any = true;
        inside |= r.contains(address);
      }
      if (tag != DW_TAG_inlined_subroutine) return inside || !any;  // a block without ranges may still hold some
      if (inside) chain.push_back(*scope);
      return inside;
    });

    Dwarf_Files* files = nullptr;
    size_t file_count = 0;
    if (dwarf_getsrcfiles(&root, &files, &file_count) != 0) files = nullptr;
    std::vector<SourceFrame> out;
    for (size_t i = chain.size(); i-- > 0;) {
      SourceFrame frame = here;  // the innermost: where the line table says; outer ones: where they call
      frame.function = function_name(&chain[i]);
      frame.inlined = i > 0;
      if (i > 0) {
        here = {};
        const uint32_t file = number_attr(&chain[i], DW_AT_call_file);
        here.line = number_attr(&chain[i], DW_AT_call_line);
        here.column = number_attr(&chain[i], DW_AT_call_column);
        if (files && file < file_count) here.file = text_of(dwarf_filesrc(files, file, nullptr, nullptr));
      }
      out.push_back(std::move(frame));
    }
    return out;
  }
};

DwarfLines::DwarfLines(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
DwarfLines::~DwarfLines() = default;

Result<std::unique_ptr<DwarfLines>> DwarfLines::open(ByteSpan elf) {
  if (elf_version(EV_CURRENT) == EV_NONE)
    return Error{Errc::unavailable, "cannot read DWARF: libelf refuses this ELF version", {}, {}};
  auto impl = std::make_unique<Impl>();
  // libelf takes a writable pointer, yet converts into memory of its own.
  impl->elf = elf_memory(reinterpret_cast<char*>(const_cast<uint8_t*>(elf.data())), elf.size());
  if (impl->elf) impl->dwarf = dwarf_begin_elf(impl->elf, DWARF_C_READ, nullptr);
  if (!impl->dwarf) return Error{Errc::bad_input, "no usable DWARF in this file", text_of(dwarf_errmsg(-1)), {}};
  // libdw would open a dwz file by itself at the first reference into it; this value is its own mark for
  // "tried, not there" (libdw/dwarf_getalt.c), so that nothing is read but the bytes that were handed in.
  dwarf_setalt(impl->dwarf, reinterpret_cast<Dwarf*>(-1));
  impl->index_units();
  return std::unique_ptr<DwarfLines>(new DwarfLines(std::move(impl)));
}

std::vector<SourceFrame> DwarfLines::frames_at(uint64_t address) { return impl_->frames_at(address); }

}  // namespace hindcast::decode
