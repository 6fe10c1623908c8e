#include "server/service/first_openings.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <fstream>
#include <sstream>

#include "tests/support/fake_daemon.h"
#include "tests/support/run_program.h"

namespace hindcast::server {
namespace {

using test::wait_for;

class FirstOpeningsTest : public testing::Test {
 protected:
  FirstOpenings openings(const std::string& text) {
    RunOptions options;
    options.folder = folder_.path();
    options.limit = std::chrono::seconds(60);
    options.cache = folder_ / "scans";
    return FirstOpenings(folder_.script(text), options, log_);
  }
  std::string said(const std::string& name) const {
    std::ifstream in(folder_ / name);
    std::stringstream all;
    all << in.rdbuf();
    return all.str();
  }

  test::TempFolder folder_;
  std::mutex mutex_;
  std::vector<std::string> lines_;
  Log log_{[this](const std::string& line) {
    const std::lock_guard lock(mutex_);
    lines_.push_back(line);
  }};
};

TEST_F(FirstOpeningsTest, EachIsOpenedInTheStoreWithItsCacheAndLessPriority) {
  FirstOpenings all = openings("echo \"$*,$HINDCAST_CACHE,$(nice)\" >> said");
  all.add("a/1.hcb");
  all.add("b/2.hcb");
  ASSERT_TRUE(wait_for([&] { return all.counters().opened == 2; }, 30));
  const std::string rest = "," + (folder_ / "scans") + ",10\n";
  EXPECT_EQ(said("said"), "ls a/1.hcb" + rest + "ls b/2.hcb" + rest);
  EXPECT_EQ(all.counters().failed, 0u);
}

TEST_F(FirstOpeningsTest, OneThatCannotBeOpenedIsToldOfAndTheNextOneIsOpened) {
  FirstOpenings all = openings("[ \"$2\" = good ] || { echo 'it is no bundle' >&2; exit 1; }");
  all.add("bad");
  all.add("good");
  ASSERT_TRUE(wait_for([&] { return all.counters().opened == 1; }, 30));
  EXPECT_EQ(all.counters().failed, 1u);
  const std::lock_guard lock(mutex_);
  ASSERT_EQ(lines_.size(), 1u);
  EXPECT_NE(lines_[0].find("cannot open bad beforehand: it is no bundle"), std::string::npos) << lines_[0];
}

TEST_F(FirstOpeningsTest, TheEndDoesNotWaitForTheOneThatRuns) {
  {
    FirstOpenings all = openings("echo $$ > pid; exec sleep 1000");
    all.add("slow");
    ASSERT_TRUE(wait_for([&] { return said("pid").find('\n') != std::string::npos; }, 30));
  }
  EXPECT_NE(::kill(std::stoi(said("pid")), 0), 0);
}

TEST_F(FirstOpeningsTest, TooManyAreLeftOut) {
  FirstOpenings all = openings("echo > begun; exec sleep 1000");
  all.add("first");
  ASSERT_TRUE(wait_for([&] { return said("begun") == "\n"; }, 30));
  for (size_t i = 0; i < FirstOpenings::kMostWaiting; ++i) all.add("waits");
  EXPECT_EQ(all.counters().left_out, 0u);
  all.add("one too many");
  EXPECT_EQ(all.counters().left_out, 1u);
}

}  // namespace
}  // namespace hindcast::server
