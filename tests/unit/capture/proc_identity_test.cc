// Looks at threads of the real kernel: namespaces, ids inside of pid namespaces, cgroups.
#include "capture/proc_identity.h"

#include <gtest/gtest.h>

#include <sched.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

namespace hindcast::capture {
namespace {

TEST(ParseLevels, OutermostFirst) {
  const auto ids = parse_levels("Name:\tx\nNStgid:\t4711\t12\t1\nNSpid:\t4712\t13\t2\nNSpgid:\t1\n");
  ASSERT_EQ(ids.size(), 3u);
  EXPECT_EQ(ids[0], (identity::Ids{4711, 4712}));
  EXPECT_EQ(ids[2], (identity::Ids{1, 2}));
}

TEST(ParseLevels, WhatDoesNotFitTogetherTellsNothing) {
  EXPECT_TRUE(parse_levels("").empty());
  EXPECT_TRUE(parse_levels("NStgid:\t1\t2\nNSpid:\t1\n").empty());
  EXPECT_TRUE(parse_levels("NStgid:\t1 x\nNSpid:\t1 2\n").empty());
  std::string deep = "NStgid:";
  for (size_t i = 0; i < identity::kMostLevels + 1; ++i) deep += "\t1";
  EXPECT_TRUE(parse_levels(deep + "\nNSpid:" + deep.substr(7) + "\n").empty());
}

TEST(ThreadFolder, TellsTheNamespacesThatTheKernelShows) {
  const auto self = ThreadFolder::open("/proc", Pid(::getpid()), Tid(::gettid()));
  ASSERT_TRUE(self);
  bool refused = false;
  const identity::Namespaces all = self->namespaces(refused);
  EXPECT_FALSE(refused);
  for (size_t i = 0; i < all.size(); ++i) {
    struct stat s {};
    const std::string path = "/proc/self/ns/" + std::string(identity::kNamespaceNames[i]);
    if (::stat(path.c_str(), &s) != 0) continue;
    EXPECT_EQ(all[i].inode, s.st_ino) << path;
  }
  ASSERT_FALSE(self->levels().empty());
  EXPECT_EQ(self->levels()[0], (identity::Ids{::getpid(), ::gettid()}));
  EXPECT_EQ(self->cgroup_text().value().find(':'), self->cgroup_text().value().find_first_not_of("0123456789"));
}

TEST(ThreadFolder, OfAProcessInAPidNamespaceOfItsOwn) {
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t outer = ::fork();
  if (outer == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::unshare(CLONE_NEWPID) != 0) ::_exit(77);
    const pid_t inner = ::fork();
    if (inner == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      for (;;) ::pause();
    }
    if (::write(ready[1], &inner, sizeof inner) != sizeof inner) ::_exit(1);
    ::waitpid(inner, nullptr, 0);
    ::_exit(0);
  }
  ::close(ready[1]);
  pid_t inner = 0;
  if (::read(ready[0], &inner, sizeof inner) != sizeof inner) {
    ::waitpid(outer, nullptr, 0);
    ::close(ready[0]);
    GTEST_SKIP() << "no pid namespace can be made here";
  }
  const auto folder = ThreadFolder::open("/proc", Pid(inner), Tid(inner));
  ASSERT_TRUE(folder);
  const auto ids = folder->levels();
  const auto mine = ThreadFolder::open("/proc", Pid(::getpid()), Tid(::getpid()));
  bool refused = false;
  const identity::Namespaces its = folder->namespaces(refused), ours = mine->namespaces(refused);
  EXPECT_FALSE(refused);
  EXPECT_NE(its[identity::kPid], ours[identity::kPid]);
  EXPECT_EQ(its[identity::kNet], ours[identity::kNet]);
  ::kill(inner, SIGKILL);
  ::waitpid(outer, nullptr, 0);
  ::close(ready[0]);
  ASSERT_GE(ids.size(), 2u);
  EXPECT_EQ(ids.front(), (identity::Ids{inner, inner}));
  EXPECT_EQ(ids.back(), (identity::Ids{1, 1}));
  // The folder is of the thread that has ended, whoever gets its id now.
  EXPECT_FALSE(folder->cgroup_text());
  EXPECT_TRUE(folder->levels().empty());
}

TEST(ListThreads, HasEveryThreadOfThisProcess) {
  const auto all = list_threads("/proc");
  ASSERT_TRUE(all);
  EXPECT_NE(std::find(all->begin(), all->end(), std::pair(Pid(::getpid()), Tid(::gettid()))), all->end());
  EXPECT_FALSE(list_threads("/nowhere"));
}

}  // namespace
}  // namespace hindcast::capture
