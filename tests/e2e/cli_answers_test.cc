// What every answer of the command line has in common: where it goes, what it says of damage and of empty ranges, and how
// misuse is met.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>

#include "tests/support/run_program.h"

namespace hindcast::test {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

const std::string kHindcast = std::string(HC_BIN_DIR) + "/hindcast";

Ran hindcast(std::vector<std::string> args) {
  args.insert(args.begin(), kHindcast);
  return run_program(args);
}

std::string read_all(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

/// One short recording for all tests of this file.
class CliAnswers : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (!std::filesystem::exists(std::string(HC_BIN_DIR) + "/../lib/hindcast-sim.so") ||
        ::access("/usr/bin/qemu-x86_64", X_OK) != 0)
      return;
    folder_ = new TempFolder;
    file_ = *folder_ / "run.hcb";
    record_ = hindcast({"record", "--source", "simulated", "-o", file_, "--", "/bin/true"});
    for (const auto& o : hindcast({"ls", "--json", file_}).objects())
      if (o["type"] == "thread" && o["pt_bytes"].get<uint64_t>() > 0) tid_ = std::to_string(o["tid"].get<int>());
  }
  static void TearDownTestSuite() {
    delete folder_;
    folder_ = nullptr;
  }
  void SetUp() override {
    if (!folder_) GTEST_SKIP() << "needs qemu-x86_64 and the plugin hindcast-sim.so, which sanitizer builds lack";
    ASSERT_EQ(record_.code, 0) << record_.err;
    ASSERT_NE(tid_, "");
  }

  static inline TempFolder* folder_ = nullptr;
  static inline std::string file_, tid_;
  static inline Ran record_;
};

TEST_F(CliAnswers, ARecordingSaysHowToLookAtIt) { EXPECT_THAT(record_.err, HasSubstr("hindcast ls " + file_)); }

TEST_F(CliAnswers, OptionOWritesTheAnswerToAFile) {
  const std::string answer = *folder_ / "answer";
  for (const std::vector<std::string>& command : {std::vector<std::string>{"ls", file_},
                                                  {"show", file_, "-t", tid_, "--limit", "50"},
                                                  {"calls", file_, "-t", tid_, "--limit", "50"},
                                                  {"dump", file_, "--limit", "50"},
                                                  {"verify", file_},
                                                  {"doctor"}}) {
    const Ran plain = hindcast(command);
    auto with_o = command;
    with_o.insert(with_o.end(), {"-o", answer});
    const Ran ran = hindcast(with_o);
    EXPECT_EQ(ran.code, plain.code) << command[0] << ran.err;
    EXPECT_EQ(ran.out, "") << command[0];
    EXPECT_EQ(read_all(answer), plain.out) << command[0];
    EXPECT_NE(plain.out, "") << command[0];
  }
}

TEST_F(CliAnswers, BenchMeasuresEachWayAndCountsTheSame) {
  const Ran ran = hindcast({"bench", file_, "--seconds", "0", "--json"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  const auto rows = ran.objects();
  ASSERT_EQ(rows.size(), 6u);
  for (size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(rows[i]["instructions"], rows[0]["instructions"]) << rows[i];
    EXPECT_GT(rows[i]["branches"].get<uint64_t>(), 0u) << rows[i];
  }
  EXPECT_EQ(rows[5]["type"], "summary");
  EXPECT_EQ(rows[5]["skipped"], 0);
  EXPECT_GT(rows[5]["intervals"], 0);
  EXPECT_THAT(hindcast({"bench", file_, "--seconds", "0"}).out, HasSubstr("times as fast as the libipt engine"));
  EXPECT_EQ(hindcast({"bench", file_, "--seconds", "-1"}).code, 2);
  EXPECT_EQ(hindcast({"bench", file_, "--snapshot", "9"}).code, 1);
}

TEST_F(CliAnswers, AnAnswerNeverReplacesTheBundleItIsFrom) {
  const std::string before = read_all(file_);
  const Ran ran = hindcast({"show", file_, "-t", tid_, "-o", file_});
  EXPECT_EQ(ran.code, 2);
  EXPECT_THAT(ran.err, HasSubstr("the bundle itself"));
  EXPECT_EQ(read_all(file_), before);
}

TEST_F(CliAnswers, AQuestionThatFailsReplacesNoFile) {
  const std::string answer = *folder_ / "kept";
  std::ofstream(answer) << "old";
  EXPECT_EQ(hindcast({"show", file_, "-t", "1999999999", "-o", answer}).code, 1);
  EXPECT_EQ(hindcast({"ls", file_, "--snapshot", "9", "-o", answer}).code, 1);
  EXPECT_EQ(read_all(answer), "old");
}

TEST_F(CliAnswers, EveryLineOfJsonIsAnObject) {
  EXPECT_FALSE(hindcast({"doctor", "--json"}).objects().empty());
  EXPECT_EQ(hindcast({"doctor", "--json"}).objects().back()["type"], "summary");
  const Ran show = hindcast({"show", file_, "-t", tid_, "--insns", "--json", "--limit", "200"});
  EXPECT_EQ(show.objects().size(), 201u) << show.err;
  EXPECT_TRUE(show.objects().back()["damage"].empty());
}

TEST_F(CliAnswers, ATimeIsPastedBackAsItWasPrinted) {
  // "     time (ms) within ..." and then "      0.009246 ±9.25 µs     0  0x..."
  const Ran all = hindcast({"show", file_, "-t", tid_, "--limit", "40"});
  ASSERT_GE(all.lines().size(), 20u);
  const std::string line = all.lines()[20];
  const std::string time = line.substr(0, line.find(" ±"));
  const std::string where = line.substr(line.find("0x"), 14);
  for (const std::string& range : {time + "," + time + " ms", time + ".." + time + "ms", time + "ms," + time + "ms"}) {
    const Ran ran = hindcast({"show", file_, "-t", tid_, "--time", range});
    EXPECT_EQ(ran.code, 0) << range << ran.err;
    EXPECT_THAT(ran.out, HasSubstr(where)) << range;
  }
  const Ran bare = hindcast({"show", file_, "-t", tid_, "--time", time + "," + time});
  EXPECT_EQ(bare.code, 2);
  EXPECT_THAT(bare.err, HasSubstr("lacks a unit"));
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

TEST_F(CliAnswers, TheTailIsTheEndOfTheWhole) {
  for (const char* how : {"--blocks", "--insns", "--lines"}) {
    const auto whole = lines_of(hindcast({"show", file_, "-t", tid_, how}).out);
    ASSERT_GT(whole.size(), 100u) << how;
    for (const size_t n : {size_t{1}, size_t{2}, size_t{20}, size_t{37}, size_t{100}, whole.size() + 5}) {
      auto tail = lines_of(hindcast({"show", file_, "-t", tid_, how, "--tail", std::to_string(n)}).out);
      ASSERT_FALSE(tail.empty());
      EXPECT_EQ(tail[0], whole[0]) << how;  // the header
      tail.erase(tail.begin());
      ASSERT_EQ(tail.size(), std::min(n, whole.size() - 1)) << how;
      EXPECT_TRUE(std::equal(tail.begin(), tail.end(), whole.end() - static_cast<ptrdiff_t>(tail.size()))) << how << n;
    }
  }
  const auto whole = lines_of(hindcast({"show", file_, "-t", tid_, "--json"}).out);
  const auto tail = lines_of(hindcast({"show", file_, "-t", tid_, "--json", "--tail", "20"}).out);
  ASSERT_EQ(tail.size(), 21u);
  // Read from the end, it is not known how many instructions came before.
  EXPECT_THAT(whole[whole.size() - 3], HasSubstr("\"number\""));
  EXPECT_THAT(tail.front(), Not(HasSubstr("\"number\"")));
  const auto numbered = lines_of(hindcast({"show", file_, "-t", tid_, "--json", "--numbers", "--tail", "20"}).out);
  ASSERT_EQ(numbered.size(), 21u);
  EXPECT_TRUE(std::equal(numbered.begin(), numbered.end() - 1, whole.end() - 21));
}

TEST_F(CliAnswers, AnInstructionsNumberIsAPlaceToBeginAt) {
  const auto all = hindcast({"show", file_, "-t", tid_, "--json"}).objects();
  uint64_t instructions = 0;
  for (const auto& o : all) {
    if (o["type"] != "block") continue;
    ASSERT_EQ(o["number"], instructions);
    instructions += o["instructions"].get<uint64_t>();
  }
  ASSERT_GT(instructions, 1000u);
  for (const uint64_t n : {uint64_t{0}, instructions / 3, instructions - 1}) {
    const auto from =
        hindcast({"show", file_, "-t", tid_, "--json", "--at", std::to_string(n), "--limit", "1"}).objects();
    ASSERT_EQ(from.size(), 2u);
    EXPECT_LE(from[0]["number"], n);
    EXPECT_GT(from[0]["number"].get<uint64_t>() + from[0]["instructions"].get<uint64_t>(), n);
    EXPECT_NE(std::find(all.begin(), all.end(), from[0]), all.end());
  }
  const Ran behind = hindcast({"show", file_, "-t", tid_, "--at", std::to_string(instructions)});
  EXPECT_EQ(behind.code, 1);
  EXPECT_THAT(behind.err, HasSubstr("the last one is " + std::to_string(instructions - 1)));
  const Ran text = hindcast({"show", file_, "-t", tid_, "--insns", "--at", "100", "--numbers", "--limit", "3"});
  EXPECT_EQ(text.code, 0) << text.err;
  EXPECT_THAT(text.out, HasSubstr("number"));
  for (const std::vector<std::string>& together : {std::vector<std::string>{"--at", "5", "--tail", "5"},
                                                   {"--at", "5", "--time", "0ms,1ms"},
                                                   {"--tail", "5", "--limit", "5"},
                                                   {"--numbers", "--engine", "libipt"},
                                                   {"--at", "5", "--resync", "psb"}}) {
    auto args = together;
    args.insert(args.begin(), {"show", file_, "-t", tid_});
    const Ran ran = hindcast(args);
    EXPECT_EQ(ran.code, 2) << together[0];
    EXPECT_EQ(ran.out, "") << together[0];
  }
}

TEST_F(CliAnswers, AnEmptyRangeSaysWhatThereIs) {
  const Ran ran = hindcast({"show", file_, "-t", tid_, "--time", "5000s,"});
  EXPECT_EQ(ran.code, 0);
  EXPECT_THAT(ran.err, HasSubstr("nothing in this range; thread " + tid_ + " is seen in "));
  EXPECT_THAT(ran.err, HasSubstr(" ms"));
}

TEST_F(CliAnswers, DamageThatAnAnswerMetIsSaidWithIt) {
  const std::string bytes = read_all(file_);
  const std::string broken = *folder_ / "broken.hcb";
  int met = 0;
  for (size_t i = 4; i < 24 && met == 0; ++i) {
    std::string flipped = bytes;
    flipped[bytes.size() * i / 24] = static_cast<char>(flipped[bytes.size() * i / 24] ^ 0x55);
    std::ofstream(broken, std::ios::binary) << flipped;
    const Ran ran = hindcast({"show", broken, "-t", tid_, "--stat"});
    if (ran.code != 0 || ran.err.find("image_missing") == std::string::npos) continue;
    ++met;
    EXPECT_THAT(ran.err, ContainsRegex("damaged: image [0-9]+: bytes [0-9]+ to [0-9]+: ")) << i;
  }
  EXPECT_GT(met, 0) << "no flip hit an image that the thread ran";
}

TEST_F(CliAnswers, DumpsHaveColumnsWithUnits) {
  EXPECT_THAT(hindcast({"dump", file_, "--limit", "3"}).out, HasSubstr("\noffset    packet\n"));
  EXPECT_THAT(hindcast({"dump", file_, "--sideband", "--limit", "3"}).out, HasSubstr("time (ms) within"));
}

TEST_F(CliAnswers, AFileThatIsAbsentSaysWhichBundlesAreThere) {
  const Ran ran = hindcast({"ls", *folder_ / "nosuch.hcb"});
  EXPECT_EQ(ran.code, 1);
  EXPECT_THAT(ran.err, HasSubstr(file_));
}

TEST_F(CliAnswers, NumbersThatMakeNoSenseAreMisuse) {
  for (const std::vector<std::string>& args : {std::vector<std::string>{"show", file_, "-t", tid_, "--limit", "0"},
                                               {"show", file_, "-t", tid_, "--limit", "-3"},
                                               {"calls", file_, "-t", tid_, "--depth", "0"},
                                               {"show", file_, "-t", "-5"},
                                               {"show", file_, "-t", "abc"}}) {
    const Ran ran = hindcast(args);
    EXPECT_EQ(ran.code, 2) << ran.out.substr(0, 200);
    EXPECT_EQ(ran.out, "");
    EXPECT_THAT(ran.err, HasSubstr("--help"));
  }
}

TEST(CliWords, AMistypedCommandIsGuessedAndHelpIsACommand) {
  EXPECT_THAT(hindcast({"shwo", "x"}).err, HasSubstr("did you mean  hindcast show"));
  EXPECT_THAT(hindcast({"dmup", "x"}).err, HasSubstr("did you mean  hindcast dump"));
  EXPECT_THAT(hindcast({"frobnicate"}).err, Not(HasSubstr("did you mean")));
  EXPECT_EQ(hindcast({"help"}).out, hindcast({"--help"}).out);
  EXPECT_EQ(hindcast({"help", "show"}).out, hindcast({"show", "--help"}).out);
  EXPECT_THAT(hindcast({"record", "--help"}).out, HasSubstr("Usage: hindcast record [OPTIONS] -- CMD ARGS..."));
}

TEST(CliWords, HelpFitsATerminal) {
  for (const char* command :
       {"--help", "record", "ls", "show", "calls", "dump", "verify", "bench", "import", "doctor"}) {
    const Ran ran =
        hindcast(command[0] == '-' ? std::vector<std::string>{command} : std::vector<std::string>{command, "--help"});
    for (const std::string& line : ran.lines()) EXPECT_LE(line.size(), 120u) << command << ": " << line;
  }
}

TEST(CliWords, DoctorNoticesAFullDisk) {
  const Ran ran = run_program({"/bin/sh", "-c", kHindcast + " doctor > /dev/full"});
  EXPECT_EQ(ran.code, 1);
  EXPECT_THAT(ran.err, HasSubstr("No space left"));
}

}  // namespace
}  // namespace hindcast::test
