// The text of /proc/kallsyms and /proc/modules: the reader's names, and what capture takes from it. Nothing may crash or hang,
// and what is answered must keep the promises of kallsyms.h and kernel_symbols.h.
#include <cstdlib>
#include <string>
#include <string_view>

#include "capture/kernel_symbols.h"
#include "decode/kallsyms.h"
#include "hindcast/kallsyms.h"

using namespace hindcast;

namespace {

void expect(bool holds) {
  if (!holds) std::abort();
}

void ask(const decode::Kallsyms& names, uint64_t address) {
  const auto s = names.find(address);
  if (!s) return;
  expect(s->begin <= address && address < s->end);
  expect(!s->name.empty() && s->name.size() <= kMaxKernelName && s->module.size() <= kMaxKernelName);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const decode::Kallsyms names = decode::Kallsyms::parse(text);
  expect(names.size() + names.left_out() <= size + 1);
  const capture::KernelSymbols symbols = capture::KernelSymbols::parse(text);
  if (const auto range = symbols.kernel_text()) expect(range->begin < range->end && names.in_kernel_text(range->begin));
  for (size_t i = 1; i < symbols.made().size(); ++i) expect(symbols.made()[i - 1].address <= symbols.made()[i].address);
  for (const auto& m : symbols.made()) expect(m.most <= 4096);
  // What is kept for the recording gives the same names.
  const decode::Kallsyms kept = decode::Kallsyms::parse(symbols.lines());
  expect(kept.left_out() == 0 && kept.size() <= names.size());
  size_t asked = 0;
  for_each_kallsyms_line(text, [&](const KallsymsLine& line, std::string_view) {
    if (++asked > 64) return;
    for (const uint64_t address : {line.address, line.address + 1, line.address - 1}) ask(names, address);
    if (!line.is_text()) return;
    const auto found = names.find(line.address);
    expect(line.address == UINT64_MAX || (found && found->begin == line.address));
    if (line.address == 0) return;  // hidden, and not kept
    const auto again = kept.find(line.address);
    expect(!found || (again && again->name == found->name && again->module == found->module));
  });
  for (const uint64_t address : {uint64_t{0}, UINT64_MAX, uint64_t{1} << 63}) ask(names, address);
  const auto modules = capture::parse_modules(text);
  expect(modules.size() <= 4096);
  for (const capture::KernelModule& m : modules) {
    expect(!m.name.empty() && m.name.find('/') == std::string::npos && m.name != ".." && m.name != ".");
    if (const auto range = symbols.text_of(m))
      expect(range->begin == m.address && range->begin < range->end && range->end - range->begin <= m.bytes);
  }
  for (const char* name : {"a", "nf_tables"})  // modules where symbols are, whatever the text says
    if (const auto range = symbols.text_of({name, 0x10000, 0xffffffffc0a00000, true}))
      expect(range->begin == 0xffffffffc0a00000 && range->begin < range->end && range->end - range->begin <= 0x10000);
  return 0;
}
