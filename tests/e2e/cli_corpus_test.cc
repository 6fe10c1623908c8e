// The command line on every trace of the corpus: import, ls, show, calls, dump and verify against the references.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cinttypes>
#include <fstream>
#include <iterator>
#include <map>

#include "tests/support/corpus.h"
#include "tests/support/run_program.h"
#include "tests/support/sha256.h"

namespace hindcast::test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

const std::string kHindcast = std::string(HC_BIN_DIR) + "/hindcast";

Ran hindcast(std::vector<std::string> args) {
  args.insert(args.begin(), kHindcast);
  return run_program(args);
}

/// The bundle of a corpus trace; imported once for each test.
class CliCorpus : public ::testing::Test {
 protected:
  void SetUp() override { HC_REQUIRE_CORPUS(); }
  std::string bundle(const std::string& name) {
    const std::string path = folder_ / (name + ".hcb");
    const Ran ran = hindcast({"import", *corpus_folder() + "/" + name, "-o", path});
    EXPECT_EQ(ran.code, 0) << ran.err;
    EXPECT_EQ(ran.out, "");
    return path;
  }
  TempFolder folder_;
};

std::vector<nlohmann::json> of_type(const Ran& ran, const std::string& type) {
  std::vector<nlohmann::json> out;
  for (auto& o : ran.objects())
    if (o["type"] == type) out.push_back(std::move(o));
  return out;
}

TEST_F(CliCorpus, VerifyCountsTheReferencesInstructionsOfEveryTrace) {
  for (const std::string& name : corpus_names()) {
    const CorpusTrace t = corpus_trace(name);
    const Ran ran = hindcast({"verify", bundle(name), "--resync", "psb", "--json"});
    EXPECT_EQ(ran.code, 0) << name << ": " << ran.err;
    uint64_t instructions = 0;
    for (const auto& s : of_type(ran, "stream")) instructions += s["instructions"].get<uint64_t>();
    EXPECT_EQ(instructions, t.has_flow ? t.insns : 0) << name;
    EXPECT_TRUE(of_type(ran, "summary").at(0)["whole"].get<bool>());
  }
}

TEST_F(CliCorpus, BenchCountsTheSameInEveryWay) {
  for (const std::string& name : corpus_names()) {
    if (!corpus_trace(name).has_flow) continue;
    const Ran ran = hindcast({"bench", bundle(name), "--seconds", "0", "--json"});
    ASSERT_EQ(ran.code, 0) << name << ": " << ran.err;
    std::map<std::string, uint64_t> instructions;
    for (const auto& way : of_type(ran, "way")) {
      instructions[way["way"].get<std::string>()] = way["instructions"].get<uint64_t>();
      EXPECT_GT(way["seconds"].get<double>(), 0) << name;
    }
    EXPECT_EQ(instructions["flow_cold"], instructions["flow"]) << name;
    EXPECT_EQ(instructions["times"], instructions["events"]) << name;
    EXPECT_GT(instructions["events_libipt"], 0u) << name;
    const auto summary = of_type(ran, "summary").at(0);
    if (summary["skipped"] == 0 && summary["given_up"] == 0)
      EXPECT_EQ(instructions["flow"], instructions["events"]) << name;
    else
      EXPECT_LE(instructions["flow"], instructions["events"]) << name;
  }
}

TEST_F(CliCorpus, ShowListsTheReferencesInstructionSequence) {
  for (const std::string& name : corpus_names()) {
    const CorpusTrace t = corpus_trace(name);
    if (!t.has_flow || t.insns > 200'000) continue;
    const Ran ran = hindcast({"show", bundle(name), "--insns", "--json", "--resync", "psb"});
    EXPECT_EQ(ran.code, 0) << name << ": " << ran.err;
    Sha256 sha;
    for (const auto& block : of_type(ran, "block"))
      for (const auto& insn : block["insns"]) sha.update_u64(std::stoull(insn["ip"].get<std::string>(), nullptr, 16));
    EXPECT_EQ(sha.hex(), t.insn_sha256) << name;
  }
}

TEST_F(CliCorpus, EveryCommandAnswersOnEveryTraceInTextAndJson) {
  for (const std::string& name : corpus_names()) {
    const std::string path = bundle(name);
    for (const std::vector<std::string>& command : {std::vector<std::string>{"ls", path},
                                                    {"ls", "-v", path},
                                                    {"show", path, "--limit", "50"},
                                                    {"show", path, "--insns", "--limit", "50"},
                                                    {"show", path, "--lines", "--limit", "50"},
                                                    {"show", path, "--stat"},
                                                    {"calls", path, "--limit", "50"},
                                                    {"dump", path, "--limit", "50"},
                                                    {"verify", path}}) {
      const Ran text = hindcast(command);
      EXPECT_EQ(text.code, 0) << name << " " << command[0] << ": " << text.err;
      EXPECT_NE(text.out, "") << name << " " << command[0];
      EXPECT_THAT(text.out, Not(HasSubstr("\x1b["))) << "colours without a terminal";
      auto with_json = command;
      with_json.push_back("--json");
      const Ran json = hindcast(with_json);
      EXPECT_EQ(json.code, 0) << name << " " << command[0] << ": " << json.err;
      EXPECT_FALSE(json.objects().empty());
    }
  }
}

TEST_F(CliCorpus, AGapIsShownInItsPlaceAndSaidAtTheEnd) {
  const Ran ran = hindcast({"show", bundle("lldb-thread-multifile")});
  EXPECT_EQ(ran.code, 0);
  EXPECT_THAT(ran.out, HasSubstr("gap image_missing: code that ran is not in the bundle (0x7ffff7df1950)"));
  EXPECT_THAT(ran.err, HasSubstr("image_missing 1"));
}

TEST_F(CliCorpus, NamesLinesAndPltSlotsAreShown) {
  const Ran ran = hindcast({"show", bundle("lldb-thread-multifile")});
  EXPECT_THAT(ran.out, HasSubstr("foo()@plt"));
  EXPECT_THAT(ran.out, HasSubstr("bar()"));
  const Ran lines = hindcast({"show", bundle("lldb-percpu-cpu45"), "--lines", "--limit", "9"});
  EXPECT_THAT(lines.out, HasSubstr("bar()  multi_thread.cpp:19"));
}

TEST_F(CliCorpus, TheThreadThatRanIsFoundFromTheSideband) {
  const Ran ran = hindcast({"ls", bundle("lldb-percpu-cpu45"), "--json"});
  std::vector<int> traced;
  for (const auto& t : of_type(ran, "thread"))
    if (t["pt_bytes"].get<uint64_t>() > 0) traced.push_back(t["tid"]);
  EXPECT_EQ(traced, std::vector<int>{3497497});
}

TEST_F(CliCorpus, ATimeRangeLimitsTheAnswer) {
  const std::string path = bundle("lldb-percpu-cpu45");
  const auto count = [&](const std::string& time) {
    std::vector<std::string> args{"show", path, "--stat", "--json"};
    if (!time.empty()) args.insert(args.end(), {"--time", time});
    return of_type(hindcast(args), "summary").at(0)["instructions"].get<uint64_t>();
  };
  const uint64_t all = count("");
  EXPECT_GT(all, 61000u);
  const uint64_t early = count(",40450075477780000t");
  EXPECT_GT(early, 0u);
  EXPECT_LT(early, all);
  EXPECT_EQ(count(",1000t"), 0u);
}

TEST_F(CliCorpus, DumpCountsThePacketsOfTheReference) {
  const CorpusTrace t = corpus_trace("perf-hello-asm");
  const Ran ran = hindcast({"dump", bundle("perf-hello-asm"), "--json"});
  std::map<std::string, uint64_t> counts;
  uint64_t pads = 0;
  for (const auto& p : of_type(ran, "packet")) {
    ++counts[p["kind"].get<std::string>()];
    if (p["kind"] == "PAD") pads += p["bytes"].get<uint64_t>();
  }
  EXPECT_EQ(counts["CYC"], t.packets.at("cyc"));
  EXPECT_EQ(counts["MTC"], t.packets.at("mtc"));
  EXPECT_EQ(counts["PSB"], t.packets.at("psb"));
  EXPECT_EQ(pads, t.packets.at("pad"));
}

TEST_F(CliCorpus, SidebandIsDumpedAsRecords) {
  const Ran ran = hindcast({"dump", bundle("perf-hello-asm"), "--sideband"});
  EXPECT_EQ(ran.code, 0);
  EXPECT_THAT(ran.out, HasSubstr("COMM pid 223991 tid 223991 hello (exec)"));
  EXPECT_THAT(ran.out, HasSubstr("r-xp /hello"));
}

TEST_F(CliCorpus, ADamagedBundleIsSaidToBeDamagedAndTheRestIsShown) {
  const std::string path = bundle("kafl-unzip");
  std::string bytes;
  {
    std::ifstream in(path, std::ios::binary);
    bytes.assign(std::istreambuf_iterator<char>(in), {});
  }
  for (const size_t keep : {bytes.size() / 2, bytes.size() - 10}) {
    const std::string cut = folder_ / "cut.hcb";
    std::ofstream(cut, std::ios::binary) << bytes.substr(0, keep);
    const Ran ran = hindcast({"verify", cut});
    EXPECT_EQ(ran.code, 1) << keep << ran.out;
    EXPECT_NE(ran.out + ran.err, "");
  }
  for (const size_t at : {bytes.size() / 3, bytes.size() / 2}) {
    std::string flipped = bytes;
    flipped[at] = static_cast<char>(flipped[at] ^ 0x40);
    const std::string file = folder_ / "flipped.hcb";
    std::ofstream(file, std::ios::binary) << flipped;
    EXPECT_EQ(hindcast({"verify", file}).code, 1) << at;
  }
}

TEST(Cli, MisuseExitsWith2AndSaysWhatToDo) {
  for (const std::vector<std::string>& args : {std::vector<std::string>{},
                                               {"nosuch"},
                                               {"show"},
                                               {"record"},
                                               {"ls", "--nosuch", "x"},
                                               {"show", "x", "--time", "5"},
                                               {"show", "x", "--insns", "--lines"},
                                               {"dump", "x", "--offset", "9,1"},
                                               {"import", "x", "--cpu", "bogus"}}) {
    const Ran ran = hindcast(args);
    EXPECT_EQ(ran.code, 2) << (args.empty() ? "" : args[0]);
    EXPECT_EQ(ran.out, "");
    EXPECT_THAT(ran.err, HasSubstr("hindcast"));
  }
}

TEST(Cli, AFileThatIsNoBundleExitsWith1AndSaysSo) {
  for (const char* file : {"/nonexistent", "/bin/ls", "/", "/dev/null"}) {
    for (const char* command : {"ls", "show", "calls", "dump", "verify"}) {
      const Ran ran = hindcast({command, file});
      EXPECT_EQ(ran.code, 1) << command << " " << file;
      EXPECT_EQ(ran.out, "");
      EXPECT_THAT(ran.err, HasSubstr(file));
    }
  }
}

TEST(Cli, EveryCommandHasHelpWithExamples) {
  const Ran all = hindcast({"--help"});
  EXPECT_EQ(all.code, 0);
  for (const char* command : {"record", "ls", "show", "calls", "dump", "verify", "import", "doctor"}) {
    EXPECT_THAT(all.out, HasSubstr(command));
    const Ran ran = hindcast({command, "--help"});
    EXPECT_EQ(ran.code, 0) << command;
    EXPECT_THAT(ran.out, HasSubstr("Examples:")) << command;
    EXPECT_EQ(ran.err, "") << command;
  }
}

TEST(Cli, VersionIsOnStdout) {
  for (const char* how : {"version", "--version"}) {
    const Ran ran = hindcast({how});
    EXPECT_EQ(ran.code, 0);
    EXPECT_THAT(ran.out, ::testing::StartsWith("hindcast "));
  }
}

TEST_F(CliCorpus, AFullDiskIsAnErrorAndAClosedPipeIsNot) {
  const std::string path = bundle("kafl-unzip");
  const Ran full = run_program({"/bin/sh", "-c", kHindcast + " show " + path + " > /dev/full"});
  EXPECT_EQ(full.code, 1);
  EXPECT_THAT(full.err, HasSubstr("No space left"));
  const Ran pipe = run_program({"/bin/sh", "-c", kHindcast + " show " + path + " | head -1"});
  EXPECT_EQ(pipe.code, 0);
  EXPECT_EQ(pipe.lines().size(), 1u);
  EXPECT_EQ(pipe.err, "");
}

}  // namespace
}  // namespace hindcast::test
