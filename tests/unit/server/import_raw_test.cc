// Page caches, given ELF files, and the words of the command line.
#include <gtest/gtest.h>

#include "server/import/import.h"
#include "server/import/raw_pt.h"
#include "tests/unit/server/import_support.h"

namespace hindcast::server {
namespace {

struct Cache {
  std::vector<uint8_t> addresses, pages;
  Cache& page(uint64_t address, uint8_t fill) {
    ByteWriter(addresses).u64(address);
    pages.insert(pages.end(), 4096, fill);
    return *this;
  }
};

Result<Imported> add(const Cache& c) {
  Imported out;
  HC_TRY_VOID(add_page_cache(c.addresses, c.pages, out));
  return out;
}

TEST(ImportPageCache, PagesAreSortedAndAdjacentOnesShareAPlacement) {
  const auto r = add(Cache().page(0x5000, 5).page(0x1000, 1).page(0x2000, 2));
  ASSERT_TRUE(r.ok());
  ASSERT_EQ(r->info.placements.size(), 2u);
  EXPECT_EQ(r->info.placements[0].address, 0x1000u);
  EXPECT_EQ(r->info.placements[0].length, 0x2000u);
  EXPECT_EQ(r->info.placements[1].address, 0x5000u);
  EXPECT_EQ(r->info.placements[1].image_offset, 0x2000u);
  EXPECT_EQ(r->info.placements[0].pid, kNoPid);
  EXPECT_EQ(r->images[0][0], 1);
  EXPECT_EQ(r->images[0][0x1000], 2);
  EXPECT_EQ(r->images[0][0x2000], 5);
}

TEST(ImportPageCache, PagesThatWereNotMappedAreLeftOut) {
  const auto r = add(Cache().page(0x1000, 1).page(0x2001, 9).page(0x3000, 3));
  ASSERT_TRUE(r.ok());
  ASSERT_EQ(r->info.placements.size(), 2u);
  EXPECT_EQ(r->images[0].size(), 0x2000u);
  ASSERT_EQ(r->info.notes.size(), 1u);
}

TEST(ImportPageCache, EqualDuplicatesCountOnceDifferentOnesNotAtAll) {
  const auto r = add(Cache().page(0x1000, 1).page(0x2000, 2).page(0x1000, 1).page(0x2000, 7));
  ASSERT_TRUE(r.ok());
  ASSERT_EQ(r->info.placements.size(), 1u);
  EXPECT_EQ(r->info.placements[0].address, 0x1000u);
  EXPECT_EQ(r->info.placements[0].length, 0x1000u);
  ASSERT_EQ(r->info.notes.size(), 1u);
  EXPECT_NE(r->info.notes[0].find("0x2000"), std::string::npos);
}

TEST(ImportPageCache, TheLastPageOfTheAddressSpaceDoesNotWrap) {
  const auto r = add(Cache().page(0, 1).page(0xfffffffffffff000, 2));
  ASSERT_TRUE(r.ok());
  EXPECT_EQ(r->info.placements.size(), 2u);
}

TEST(Malicious_ImportPageCache, FilesThatDoNotFitTogether) {
  Cache c;
  c.page(0x1000, 1);
  for (int i = 0; i < 4; ++i) {
    Cache bad = c;
    if (i == 0) bad.addresses.push_back(0);
    if (i == 1) bad.pages.pop_back();
    if (i == 2) bad.pages.clear();
    if (i == 3) bad.addresses.clear();
    EXPECT_EQ(add(bad).error().code, Errc::bad_input) << i;
  }
  EXPECT_EQ(add(Cache()).error().code, Errc::bad_input);
  EXPECT_EQ(add(Cache().page(1, 1)).error().code, Errc::bad_input);
}

TEST(ImportRawElf, ALibraryNeedsItsLoadAddress) {
  SmallElf lib;
  lib.type = ET_DYN;
  Imported out;
  EXPECT_EQ(add_elf({"lib.so", {}, {}}, lib.bytes(), false, out).error().code, Errc::usage);
  EXPECT_TRUE(add_elf({"lib.so", 0x10000, {}}, lib.bytes(), false, out).ok());
  ASSERT_EQ(out.info.placements.size(), 1u);
  EXPECT_EQ(out.info.placements[0].address, 0x10000u);
}

TEST(ImportRawElf, RecordsPlaceWhatHasNoAddress) {
  Imported out;
  EXPECT_TRUE(add_elf({"/tmp/m", {}, "/bin/m"}, SmallElf().bytes(), true, out).ok());
  EXPECT_TRUE(out.info.placements.empty());
  EXPECT_EQ(out.info.images[0].path, "/bin/m");
}

TEST(ImportWords, CpuModel) {
  PtCpu cpu;
  ASSERT_TRUE(parse_cpu_model("6/85/4", cpu).ok());
  EXPECT_EQ(cpu.family, 6);
  EXPECT_EQ(cpu.model, 85);
  EXPECT_EQ(cpu.stepping, 4);
  for (const char* bad : {"", "6", "6/85", "6/85/", "6/85/4/", "6/256/4", "x/1/1", "6/85/4 ", "0/1/1", "-6/1/1"}) {
    PtCpu untouched;
    EXPECT_EQ(parse_cpu_model(bad, untouched).error().code, Errc::usage) << bad;
    EXPECT_EQ(untouched.family, 0);
  }
}

TEST(ImportWords, Cpuid15h) {
  PtCpu cpu;
  ASSERT_TRUE(parse_cpuid_15h("2,308", cpu).ok());
  EXPECT_EQ(cpu.tsc_ctc_den, 2u);
  EXPECT_EQ(cpu.tsc_ctc_num, 308u);
  EXPECT_EQ(cpu.ctc_hz, 0u);
  ASSERT_TRUE(parse_cpuid_15h("2,308,25000000", cpu).ok());
  EXPECT_EQ(cpu.ctc_hz, 25000000u);
  for (const char* bad : {"", "2", "2,", "0,308", "2,0", "2,308,", "2,308,1,1", "2,4294967296", "2;308"}) {
    EXPECT_EQ(parse_cpuid_15h(bad, cpu).error().code, Errc::usage) << bad;
  }
}

TEST(ImportWords, ElfInput) {
  EXPECT_EQ(parse_elf_input("a.out")->path, "a.out");
  EXPECT_FALSE(parse_elf_input("a.out")->load_address.has_value());
  EXPECT_EQ(parse_elf_input("a.out@0x7f00")->load_address, 0x7f00u);
  EXPECT_EQ(parse_elf_input("a@b/c")->path, "a@b/c") << "an @ in a path is no address";
  const auto all = parse_elf_input("/x/lib.so@0x1000=/usr/lib/lib.so");
  ASSERT_TRUE(all.ok());
  EXPECT_EQ(all->path, "/x/lib.so");
  EXPECT_EQ(all->mapped_as, "/usr/lib/lib.so");
  for (const char* bad : {"", "@0x1000", "a@0x", "a@0x1g", "a@0x10000000000000000"})
    EXPECT_FALSE(parse_elf_input(bad).ok()) << bad;
}

}  // namespace
}  // namespace hindcast::server
