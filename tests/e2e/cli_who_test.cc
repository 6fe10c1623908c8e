// Who threads are, from the kernel's cgroups to the words of the command line: a recording inside of a pod's cgroups.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "tests/e2e/recording.h"
#include "tests/support/own_cgroup.h"

namespace hindcast::test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

const std::string kUid = "1f2e3d4c-5b6a-7988-8776-655443322110";
const std::string kContainer(64, 'a');

bool can_simulate() {
  return std::filesystem::exists(bin("../lib/hindcast-sim.so")) && ::access("/usr/bin/qemu-x86_64", X_OK) == 0;
}

class CliWho : public ::testing::Test {
 protected:
  /// Recorded once: a shell in a container of a pod.
  static void SetUpTestSuite() {
    if (!can_simulate()) return;
    cgroup_ = new OwnCgroup("hindcast-who");
    if (!cgroup_->missing().empty()) return;
    folder_ = new TempFolder;
    const std::string inside = cgroup_->inside("kubepods/burstable/pod" + kUid + "/" + kContainer);
    const Ran ran = run_program({"/bin/sh", "-c",
                                 "echo $$ > " + inside + "/cgroup.procs && exec " + bin("hindcast") +
                                     " record --source simulated -o " + file() + " -- /bin/sh -c 'exit 0'"});
    ASSERT_EQ(ran.code, 0) << ran.err;
  }
  static void TearDownTestSuite() {
    delete folder_;
    delete cgroup_;
  }
  void SetUp() override {
    if (!can_simulate())
      GTEST_SKIP() << "needs qemu-x86_64 and the plugin hindcast-sim.so, which sanitizer builds lack";
    if (!cgroup_->missing().empty()) GTEST_SKIP() << cgroup_->missing();
  }
  static std::string file() { return *folder_ / "a.hcb"; }
  static Ran hindcast(std::vector<std::string> words) {
    words.insert(words.begin(), bin("hindcast"));
    words.push_back(file());
    return run_program(words);
  }
  /// Of those that were traced: the recorder itself runs in the pod, too.
  static size_t threads(const Ran& ran) {
    size_t n = 0;
    for (const auto& o : ran.objects()) n += o["type"] == "thread" && o["pt_bytes"] != 0;
    return n;
  }

  static inline OwnCgroup* cgroup_ = nullptr;
  static inline TempFolder* folder_ = nullptr;
};

TEST_F(CliWho, LsNamesPodAndContainer) {
  const Ran ls = hindcast({"ls"});
  EXPECT_EQ(ls.code, 0) << ls.err;
  EXPECT_THAT(ls.out, HasSubstr("pod 1f2e3d4c / container aaaaaaaaaaaa"));
  EXPECT_THAT(ls.out, Not(HasSubstr("NAMESPACES")));
  const Ran all = hindcast({"ls", "-v"});
  EXPECT_THAT(all.out, HasSubstr(cgroup_->path() + "/kubepods/burstable/pod" + kUid + "/" + kContainer));
  EXPECT_THAT(all.out, HasSubstr("NAMESPACES"));
}

TEST_F(CliWho, JsonHasAllOfItAndTheSameAsTheKernel) {
  const Ran ls = hindcast({"ls", "--json"});
  bool any = false;
  for (const auto& o : ls.objects()) {
    if (o["type"] != "thread" || o["pt_bytes"] == 0) continue;
    any = true;
    ASSERT_FALSE(o["cgroups"].empty());
    for (const auto& row : o["cgroups"]) {
      ASSERT_EQ(row["any_of"].size(), 1u) << row;
      EXPECT_EQ(row["any_of"][0]["pod"], kUid);
      EXPECT_EQ(row["any_of"][0]["container"], kContainer);
      EXPECT_EQ(row["any_of"][0]["qos"], "burstable");
      EXPECT_TRUE(row["any_of"][0]["runtime"].is_null());
      EXPECT_EQ(row["any_of"][0]["controllers"], "");
    }
    ASSERT_FALSE(o["namespaces"].empty());
    for (const auto& row : o["namespaces"]) {
      const std::string net = std::filesystem::read_symlink("/proc/self/ns/net");
      EXPECT_EQ("net:[" + std::to_string(row["net"]["any_of"].at(0)["inode"].get<uint64_t>()) + "]", net);
      EXPECT_EQ(row["net"]["known"], "seen");
    }
    ASSERT_FALSE(o["ids"].empty());
    EXPECT_EQ(o["ids"][0]["tid"], o["tid"]);
  }
  EXPECT_TRUE(any);
}

TEST_F(CliWho, FiltersChooseThreadsAndAllMustHold) {
  EXPECT_EQ(threads(hindcast({"ls", "--json", "--pod", "1f2e"})), 1u);
  EXPECT_EQ(threads(hindcast({"ls", "--json", "--container", "aaaa", "--pod", kUid})), 1u);
  EXPECT_EQ(threads(hindcast({"ls", "--json", "--cgroup", "*/kubepods/*"})), 1u);
  EXPECT_EQ(threads(hindcast({"ls", "--json", "--cgroup", "burstable/pod"})), 1u);
  const Ran show = hindcast({"show", "--stat", "--pod", "1f2e"});
  EXPECT_EQ(show.code, 0) << show.err;
  const Ran calls = hindcast({"calls", "--container", "aaaa", "--limit", "3"});
  EXPECT_EQ(calls.code, 0) << calls.err;
}

TEST_F(CliWho, AFilterThatMeetsNobodySaysWhomThereIs) {
  for (const std::string command : {"ls", "show", "calls", "waits"}) {
    const Ran ran = hindcast({command, "--pod", "ffff"});
    EXPECT_EQ(ran.code, 1) << command;
    EXPECT_THAT(ran.err, HasSubstr("is in --pod ffff")) << command;
    EXPECT_THAT(ran.err, HasSubstr("pods " + kUid)) << command;
  }
  EXPECT_THAT(hindcast({"ls", "--container", "b"}).err, HasSubstr("containers " + kContainer));
  EXPECT_THAT(hindcast({"ls", "--cgroup", "/no/such*"}).err, HasSubstr("cgroups "));
  EXPECT_EQ(hindcast({"ls", "--pod", ""}).code, 2);
}

TEST_F(CliWho, TheRecordsThemselvesAreShownByDump) {
  const Ran dump = hindcast({"dump", "--sideband"});
  EXPECT_EQ(dump.code, 0) << dump.err;
  EXPECT_THAT(dump.out, HasSubstr("CGROUP_TEXT"));
  EXPECT_THAT(dump.out, HasSubstr("THREAD_NAMESPACES"));
}

}  // namespace
}  // namespace hindcast::test
