// parse_pt_options and to_text: the rules of the option text.
#include <gtest/gtest.h>

#include "hindcast/pt_config.h"

namespace hindcast {
namespace {

TEST(PtOptions, EmptyTextMeansTheDefaults) {
  auto r = parse_pt_options("");
  ASSERT_TRUE(r.ok());
  EXPECT_EQ(*r, PtOptions{});
}

TEST(PtOptions, ABareNameMeansOne) {
  auto r = parse_pt_options("cyc,noretcomp,psb_period");
  ASSERT_TRUE(r.ok());
  EXPECT_TRUE(r->cyc);
  EXPECT_TRUE(r->noretcomp);
  EXPECT_EQ(r->psb_period, 1);
}

TEST(PtOptions, ZeroSwitchesADefaultOff) {
  auto r = parse_pt_options("mtc=0,tsc=0");
  ASSERT_TRUE(r.ok());
  EXPECT_FALSE(r->mtc);
  EXPECT_FALSE(r->tsc);
  EXPECT_TRUE(r->branch);
}

TEST(PtOptions, CodesTakeDecimalAndHexUpToFifteen) {
  auto r = parse_pt_options("mtc_period=0xf, psb_period = 15 ,cyc,cyc_thresh=2");
  ASSERT_TRUE(r.ok()) << r.error().text();
  EXPECT_EQ(r->mtc_period, 15);
  EXPECT_EQ(r->psb_period, 15);
  EXPECT_EQ(r->cyc_thresh, 2);
}

TEST(PtOptions, AllErrorsComeAtOnce) {
  auto r = parse_pt_options("bogus,psb_period=16,tsc=2,cyc_thresh=3,pt=0,mtc=,");
  ASSERT_FALSE(r.ok());
  EXPECT_EQ(r.error().code, Errc::usage);
  const std::string& found = r.error().found;
  for (const char* part : {"unknown option 'bogus'", "psb_period='16': must be 0 to 15", "tsc='2': must be 0 to 1",
                           "cyc_thresh needs cyc", "branch needs pt", "mtc=''", "nothing after the last comma"})
    EXPECT_NE(found.find(part), std::string::npos) << part << " is missing in: " << found;
  EXPECT_NE(r.error().fix.find("fup_on_ptw"), std::string::npos);
}

TEST(PtOptions, ContradictionsAreRefused) {
  for (const char* text : {"pt=0", "mtc=0,mtc_period=4", "mtc_period=4,mtc=0", "cyc_thresh=1", "fup_on_ptw",
                           "psb_period=3,psb_period=4", "tsc,  "})
    EXPECT_FALSE(parse_pt_options(text).ok()) << text;
  EXPECT_TRUE(parse_pt_options("pt=0,branch=0").ok());
  EXPECT_TRUE(parse_pt_options("psb_period=4,psb_period=4").ok());
}

TEST(PtOptions, NumbersThatOverflowAreRefused) {
  for (const char* text :
       {"psb_period=256", "psb_period=18446744073709551616", "psb_period=-1", "psb_period=1x", "psb_period=0x"})
    EXPECT_FALSE(parse_pt_options(text).ok()) << text;
}

TEST(PtOptions, UnprintableInputDoesNotReachTheTerminal) {
  auto r = parse_pt_options("\x1b[2J");
  ASSERT_FALSE(r.ok());
  EXPECT_EQ(r.error().text().find('\x1b'), std::string::npos);
}

TEST(PtOptions, TextIsCanonical) {
  EXPECT_EQ(to_text(PtOptions{}), "pt,branch,tsc,mtc,mtc_period=3,psb_period=3");
  EXPECT_EQ(to_text(*parse_pt_options("noretcomp,cyc,mtc=0")), "pt,branch,tsc,mtc=0,cyc,psb_period=3,noretcomp");
}

TEST(PtOptions, TextParsesBackToTheSameValue) {
  for (const char* text : {"", "mtc=0", "cyc,cyc_thresh=15", "pt=0,branch=0", "tsc=0,mtc=0,psb_period=0",
                           "ptw,fup_on_ptw,pwr_evt,event,notnt", "mtc_period=0"}) {
    auto first = parse_pt_options(text);
    ASSERT_TRUE(first.ok()) << text;
    auto second = parse_pt_options(to_text(*first));
    ASSERT_TRUE(second.ok()) << to_text(*first);
    EXPECT_EQ(*first, *second) << text;
  }
}

}  // namespace
}  // namespace hindcast
