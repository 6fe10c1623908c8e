// The test program reads its own ELF file: its functions, inlined calls and lines are known from this source.
#include "decode/symbols.h"

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <link.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <sstream>

#include "decode/symbols_elf.h"
#include "hindcast/fd.h"
#include "tests/support/corpus.h"

namespace sample {

int g_inlined_line = 0, g_call_line = 0;
const void* g_ip = nullptr;

__attribute__((always_inline)) inline void inlined(int* p) {
  g_inlined_line = __LINE__ + 1;
  asm volatile("lea 0(%%rip), %0" : "=r"(g_ip)::);
  *p += 1;
}

__attribute__((noinline)) int caller(int v) {
  g_call_line = __LINE__ + 1;
  inlined(&v);
  return v;
}

}  // namespace sample

extern "C" __attribute__((noinline)) int sample_plain_c(int v) {
  asm volatile("" : "+r"(v));
  return v + 1;
}

namespace hindcast::decode {
namespace {

std::vector<uint8_t> file_bytes(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::unique_ptr<ElfSymbols> open_self() {
  auto s = ElfSymbols::open(file_bytes("/proc/self/exe"));
  EXPECT_TRUE(s.ok());
  return s.ok() ? std::move(s).value() : nullptr;
}

/// Run-time address to link-time address, for this program.
uint64_t linked(const void* p) {
  struct link_map* map = nullptr;
  Dl_info info{};
  if (!dladdr1(p, &info, reinterpret_cast<void**>(&map), RTLD_DL_LINKMAP) || !map) return 0;
  return reinterpret_cast<uint64_t>(p) - map->l_addr;
}

TEST(Symbols, AnAddressInsideAFunctionHasItsNameAndStart) {
  auto s = open_self();
  const uint64_t f = linked(reinterpret_cast<const void*>(&sample_plain_c));
  const auto at = s->function_at(f + 3);
  ASSERT_TRUE(at);
  EXPECT_EQ(at->name, "sample_plain_c");
  EXPECT_EQ(at->begin, f);
  EXPECT_GT(at->size, 3u);
}

TEST(Symbols, CppNamesAreReadable) {
  auto s = open_self();
  const auto at = s->function_at(linked(reinterpret_cast<const void*>(&sample::caller)));
  ASSERT_TRUE(at);
  EXPECT_EQ(at->name, "sample::caller(int)");
}

TEST(Symbols, FindTakesANameWithOrWithoutItsParameters) {
  auto s = open_self();
  const uint64_t f = linked(reinterpret_cast<const void*>(&sample::caller));
  for (const char* name : {"sample::caller", "sample::caller(int)"}) {
    const auto found = s->find(name);
    ASSERT_EQ(found.size(), 1u) << name;
    EXPECT_EQ(found[0].begin, f);
  }
  EXPECT_TRUE(s->find("sample::call").empty());
}

TEST(Symbols, InlinedCallsGiveAFrameEachWithTheLineThatCalls) {
  auto s = open_self();
  sample::caller(1);
  const auto frames = s->frames_at(linked(sample::g_ip));
  ASSERT_EQ(frames.size(), 2u);
  EXPECT_EQ(frames[0].function, "sample::inlined(int*)");
  EXPECT_TRUE(frames[0].inlined);
  // The lea stores the address of the instruction after it: still the asm statement's, or the next
  // statement's.
  EXPECT_GE(frames[0].line, static_cast<uint32_t>(sample::g_inlined_line));
  EXPECT_LE(frames[0].line, static_cast<uint32_t>(sample::g_inlined_line) + 1);
  EXPECT_TRUE(frames[0].file.ends_with("symbols_test.cc")) << frames[0].file;
  EXPECT_EQ(frames[1].function, "sample::caller(int)");
  EXPECT_FALSE(frames[1].inlined);
  EXPECT_EQ(frames[1].line, static_cast<uint32_t>(sample::g_call_line));
  EXPECT_TRUE(frames[1].file.ends_with("symbols_test.cc")) << frames[1].file;
}

/// addr2line of each address in [from, to): function and file:line pairs, innermost first.
using Places = std::map<uint64_t, std::vector<std::pair<std::string, std::string>>>;
Places addr2line(uint64_t from, uint64_t to) {
  std::ostringstream command;
  command << "addr2line -aCfi -e /proc/" << getpid() << "/exe" << std::hex;
  for (uint64_t a = from; a < to; ++a) command << " 0x" << a;
  command << " 2>/dev/null";
  Places out;
  FILE* p = popen(command.str().c_str(), "r");
  if (!p) return out;
  uint64_t address = 0;
  for (char line[4096], place[4096]; std::fgets(line, sizeof line, p);) {
    if (std::strncmp(line, "0x", 2) == 0) {
      address = std::strtoull(line, nullptr, 16);
      continue;
    }
    if (!std::fgets(place, sizeof place, p)) break;
    std::string f = line, l = place;
    f.resize(f.find_last_not_of('\n') + 1);
    l.resize(l.find_first_of(" \n"));
    out[address].emplace_back(f, l.substr(l.rfind('/') + 1));
  }
  pclose(p);
  return out;
}

TEST(Symbols, EveryInstructionOfAFunctionAgreesWithAddr2line) {
  auto s = open_self();
  const auto function = s->function_at(linked(reinterpret_cast<const void*>(&sample::caller)));
  ASSERT_TRUE(function);
  const Places places = addr2line(function->begin, function->begin + function->size);
  if (places.empty()) GTEST_SKIP() << "addr2line of the binutils is not installed";
  ASSERT_EQ(places.size(), function->size);
  for (const auto& [a, theirs] : places) {
    const auto ours = s->frames_at(a);
    ASSERT_EQ(ours.size(), theirs.size()) << std::hex << a;
    for (size_t i = 0; i < ours.size(); ++i) {
      EXPECT_EQ(ours[i].function, theirs[i].first) << std::hex << a;
      EXPECT_EQ(ours[i].file.substr(ours[i].file.rfind('/') + 1) + ":" + std::to_string(ours[i].line), theirs[i].second)
          << std::hex << a;
    }
  }
}

TEST(Symbols, ALibraryWithoutSymtabIsNamedByItsDynamicSymbols) {
  Dl_info info{};
  struct link_map* map = nullptr;
  const void* f = dlsym(RTLD_DEFAULT, "lsearch");
  ASSERT_TRUE(f && dladdr1(f, &info, reinterpret_cast<void**>(&map), RTLD_DL_LINKMAP));
  auto s = ElfSymbols::open(file_bytes(info.dli_fname));
  ASSERT_TRUE(s.ok());
  const auto at = (*s)->function_at(reinterpret_cast<uint64_t>(f) - map->l_addr + 1);
  ASSERT_TRUE(at);
  EXPECT_EQ(at->name, "lsearch");
}

TEST(Symbols, PltSlotsAreNamedAfterTheFunctionTheyLeadTo) {
  HC_REQUIRE_CORPUS();
  const auto bytes = file_bytes(*test::corpus_folder() + "/lldb-thread-multifile/a.out");
  auto s = ElfSymbols::open(bytes);
  ASSERT_TRUE(s.ok());
  EXPECT_EQ((*s)->find("foo()@plt").size(), 1u);
  // The slot that all others lead to has no name; it must not get that of a sizeless symbol in the section before it.
  EXPECT_FALSE((*s)->function_at(0x400510));
}

TEST(Symbols, AnAddressOutsideEveryFunctionHasNoName) {
  auto s = open_self();
  EXPECT_FALSE(s->function_at(1));
  EXPECT_FALSE(s->function_at(UINT64_MAX));
  EXPECT_TRUE(s->frames_at(UINT64_MAX).empty());
}

TEST(Symbols, FileOffsetsOfCodeTranslateToLinkTimeAddresses) {
  auto s = open_self();
  const auto bytes = file_bytes("/proc/self/exe");
  const auto view = ElfView::parse(bytes);
  ASSERT_TRUE(view.ok());
  for (const ElfSegment& g : view->segments()) {
    if (!g.executable) continue;
    EXPECT_EQ(s->address_of_offset(g.file_offset + 5), g.address + 5);
  }
  EXPECT_FALSE(s->address_of_offset(bytes.size() + 1));
}

TEST(Symbols, TheBuildIdIsTheLinkersNote) {
  auto s = open_self();
  if (s->build_id().empty()) GTEST_SKIP() << "this toolchain links without --build-id";
  EXPECT_EQ(s->build_id().size(), 40u);
}

TEST(Symbols, ADebugFileOfAnotherBuildIsRefused) {
  auto s = open_self();
  Dl_info info{};
  ASSERT_TRUE(dladdr(dlsym(RTLD_DEFAULT, "qsort"), &info));
  const auto r = s->add_debug_file(file_bytes(info.dli_fname));
  ASSERT_FALSE(r.ok());
  EXPECT_NE(r.error().found.find("build-id"), std::string::npos);
}

TEST(Symbols, NotAnElfFileIsAnError) {
  const auto r = ElfSymbols::open({'#', '!', '/', 'b'});
  ASSERT_FALSE(r.ok());
  EXPECT_EQ(r.error().code, Errc::bad_input);
}

TEST(Symbols, AFileCutAnywhereStillAnswersWithoutReadingPastItsEnd) {
  HC_REQUIRE_CORPUS();
  const auto whole = file_bytes(*test::corpus_folder() + "/lldb-thread-multifile/a.out");
  for (size_t n = 0; n < whole.size(); n += 97) {
    auto s = ElfSymbols::open({whole.begin(), whole.begin() + static_cast<ptrdiff_t>(n)});
    if (!s.ok()) continue;
    for (uint64_t a = 0x400000; a < 0x401000; a += 0x40) {
      (void)(*s)->function_at(a);
      (void)(*s)->frames_at(a);
    }
  }
}

TEST(Demangle, LegacyRustNamesLoseTheirHashAndEscapes) {
  EXPECT_EQ(demangle("_ZN4core3fmt5write17h0123456789abcdefE"), "core::fmt::write");
  EXPECT_EQ(demangle("_ZN38_$LT$T$u20$as$u20$core..fmt..Debug$GT$3fmt17h0123456789abcdefE"),
            "<T as core::fmt::Debug>::fmt");
}

TEST(Demangle, WhatIsNotMangledStaysAsItIs) {
  EXPECT_EQ(demangle("main"), "main");
  EXPECT_EQ(demangle("_Zwrong"), "_Zwrong");
  EXPECT_EQ(demangle("_RNvC6_123foo3bar"), "_RNvC6_123foo3bar");
  EXPECT_EQ(demangle(""), "");
}

}  // namespace
}  // namespace hindcast::decode
