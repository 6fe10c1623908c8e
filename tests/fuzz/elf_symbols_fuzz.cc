// ELF bytes from anywhere: names, lines and inlined calls at many addresses. Nothing may crash, hang or read outside, and
// what is answered must keep the promises of symbols.h.
#include <cstdlib>
#include <vector>

#include "decode/symbols.h"
#include "decode/symbols_elf.h"

using namespace hindcast;
using namespace hindcast::decode;

namespace {

void expect(bool holds) {
  if (!holds) std::abort();
}

void ask(ElfSymbols& symbols, uint64_t address) {
  if (const auto f = symbols.function_at(address)) {
    expect(!f->name.empty() && f->begin <= address);
    expect(f->size == 0 || address - f->begin < f->size);
  }
  const auto frames = symbols.frames_at(address);
  for (size_t i = 0; i < frames.size(); ++i) expect(frames[i].inlined == (i + 1 < frames.size()));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > (size_t{1} << 20)) return 0;
  const std::vector<uint8_t> bytes(data, data + size);
  const auto view = ElfView::parse(bytes);
  auto symbols = ElfSymbols::open(bytes);
  expect(view.ok() == symbols.ok());
  if (!symbols.ok()) return 0;
  (void)view->debug_link();
  std::vector<std::string> owned;
  const auto functions = view->functions(owned);
  for (size_t i = 1; i < functions.size(); ++i) expect(functions[i - 1].address < functions[i].address);
  for (size_t i = 0; i < functions.size() && i < 64; ++i) {
    ask(**symbols, functions[i].address);
    ask(**symbols, functions[i].address + functions[i].size / 2);
  }
  for (const ElfSegment& s : view->segments())
    for (uint64_t step = 0; step < 64; ++step) ask(**symbols, s.address + step * (s.memory_size / 64 + 1));
  for (const uint64_t a : {uint64_t{0}, UINT64_MAX, uint64_t{1} << 63}) ask(**symbols, a);
  for (const uint64_t o : {uint64_t{0}, uint64_t{size}, UINT64_MAX}) (void)(*symbols)->address_of_offset(o);
  // The same file as its own debug file: merging must keep the order.
  expect((*symbols)->add_debug_file(bytes).ok());
  for (size_t i = 0; i < functions.size() && i < 8; ++i) ask(**symbols, functions[i].address);
  return 0;
}
