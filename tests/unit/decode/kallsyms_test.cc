// Kernel names: the text of /proc/kallsyms, however it looks.
#include "decode/kallsyms.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "hindcast/kallsyms.h"

namespace hindcast::decode {
namespace {

std::string at(const Kallsyms& names, uint64_t address) {
  const auto s = names.find(address);
  return s ? std::string(s->name) + (s->module.empty() ? "" : " [" + std::string(s->module) + "]") : "-";
}

TEST(KallsymsLine, IsAnAddressATypeANameAndPerhapsAModule) {
  const auto line = parse_kallsyms_line("ffffffffc0a01230 t nft_do_chain\t[nf_tables]");
  ASSERT_TRUE(line);
  EXPECT_EQ(line->address, 0xffffffffc0a01230u);
  EXPECT_EQ(line->type, 't');
  EXPECT_EQ(line->name, "nft_do_chain");
  EXPECT_EQ(line->module, "nf_tables");
  EXPECT_TRUE(line->is_text());
  EXPECT_FALSE(parse_kallsyms_line("ffffffff82000000 D jiffies")->is_text());
}

TEST(KallsymsLine, WhatBreaksTheFormatIsNone) {
  for (const std::string& line : {std::string(),
                                  std::string("ffffffff81000000"),
                                  std::string("ffffffff81000000 T"),
                                  std::string("ffffffff81000000 T "),
                                  std::string("fffffffff81000000 T a"),
                                  std::string("g000 T a"),
                                  std::string("FFFF T a"),
                                  std::string("ff 1 a"),
                                  std::string("ff  T a"),
                                  std::string(" ff T a"),
                                  std::string("ff T a b"),
                                  std::string("ff T a\tb"),
                                  std::string("ff T a\t[]"),
                                  std::string("ff T a\t[b"),
                                  std::string("ff T a\t[b]\t[c]"),
                                  std::string("ff T \t[b]"),
                                  std::string("ff T a\x01"),
                                  std::string("ff T a\0b", 8),
                                  "ff T " + std::string(513, 'a'),
                                  "ff T a\t[" + std::string(513, 'm') + "]"})
    EXPECT_FALSE(parse_kallsyms_line(line)) << line;
  EXPECT_TRUE(parse_kallsyms_line("ff T " + std::string(512, 'a')));
}

TEST(Kallsyms, AnAddressHasTheNameOfTheSymbolBeforeIt) {
  const Kallsyms names = Kallsyms::parse(
      "ffffffff81000000 T _stext\nffffffff81000040 T schedule\nffffffff81001000 t do_idle\nffffffff81002000 T _etext\n"
      "ffffffffc0a00020 t nft_do_chain\t[nf_tables]\n");
  EXPECT_EQ(names.size(), 5u);
  EXPECT_EQ(names.left_out(), 0u);
  EXPECT_EQ(at(names, 0xffffffff81000040), "schedule");
  EXPECT_EQ(at(names, 0xffffffff81000fff), "schedule");
  EXPECT_EQ(at(names, 0xffffffff81001000), "do_idle");
  EXPECT_EQ(at(names, 0xffffffffc0a00fff), "nft_do_chain [nf_tables]");
  EXPECT_EQ(at(names, 0xffffffffc0a01000), "-") << "the last symbol reaches to the end of its page";
  EXPECT_EQ(at(names, 0xffffffff80ffffff), "-");
  EXPECT_EQ(names.find(0xffffffff81000041)->begin, 0xffffffff81000040u);
  EXPECT_EQ(names.find(0xffffffff81000041)->end, 0xffffffff81001000u);
  EXPECT_TRUE(names.in_kernel_text(0xffffffff81001fff));
  EXPECT_FALSE(names.in_kernel_text(0xffffffff81002000));
  EXPECT_FALSE(names.in_kernel_text(0xffffffff80ffffff));
}

TEST(Kallsyms, OrderDoesNotMatterAndOfOneAddressTheBestKnownNameIsKept) {
  const Kallsyms names = Kallsyms::parse(
      "30 t last\n20 t local\n20 W weak\n20 T __x64_global\n20 T global\n20 T second\n10 t __b\n10 t _a\n10 D data\n");
  EXPECT_EQ(names.size(), 3u);
  EXPECT_EQ(at(names, 0x25), "global");
  EXPECT_EQ(at(names, 0x1f), "_a");
  EXPECT_EQ(at(names, 0x30), "last");
}

TEST(Kallsyms, HostileTextCostsItsOwnLinesOnly) {
  std::string text = "junk\n\n\n" + std::string(1 << 20, 'f') + "\nffffffffffffffff T end";
  const Kallsyms names = Kallsyms::parse(text);
  EXPECT_EQ(names.size(), 1u);
  EXPECT_EQ(names.left_out(), 4u);
  EXPECT_EQ(at(names, 0xfffffffffffffffe), "-");
  EXPECT_EQ(Kallsyms::parse({}).size(), 0u);
  EXPECT_FALSE(Kallsyms::parse({}).find(0));
}

TEST(Kallsyms, TheRealOne) {
  std::ifstream file("/proc/kallsyms");
  std::stringstream text;
  text << file.rdbuf();
  const Kallsyms names = Kallsyms::parse(text.str());
  if (names.size() < 1000) GTEST_SKIP() << "/proc/kallsyms hides its addresses";
  EXPECT_EQ(names.left_out(), 0u);
  std::istringstream lines(text.str());
  size_t checked = 0;
  for (std::string line; std::getline(lines, line);) {
    const auto s = parse_kallsyms_line(line);
    ASSERT_TRUE(s) << line;
    if (!s->is_text() || s->address == 0) continue;
    const auto found = names.find(s->address);
    ASSERT_TRUE(found) << line;
    EXPECT_EQ(found->begin, s->address) << line;
    checked += found->name == s->name && found->module == s->module;
  }
  EXPECT_GT(checked, names.size() * 99 / 100) << "each name once, but for those that share an address";
}

}  // namespace
}  // namespace hindcast::decode
