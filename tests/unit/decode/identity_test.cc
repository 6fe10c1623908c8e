#include "decode/identity.h"

#include <gtest/gtest.h>

namespace hindcast::decode {
namespace {

using Told = IdentityBook::Told;

RecordTime at(uint64_t t) { return RecordTime(t); }

class IdentityTest : public ::testing::Test {
 protected:
  void SetUp() override {
    book.add_text(1, {1, "0::/a\n"});
    book.add_text(1, {2, "0::/b\n"});
  }
  void look(int tid, uint32_t text, uint64_t first, uint64_t last, uint32_t flags = 0) {
    book.add_look(1, {Pid(1), Tid(tid), at(first), at(first + 1), at(last), at(last + 1), text, flags});
  }
  /// "a 10-20 seen, ab 20-30 either": what is told of a thread's cgroup.
  std::string told(int tid) {
    const ThreadIdentity* t = book.find(Tid(tid));
    if (!t) return "nothing";
    std::string s;
    for (const CgroupSpan& span : t->cgroups) {
      if (!s.empty()) s += ", ";
      for (const uint32_t text : span.texts) s += book.text(text)[4];
      const std::string end = span.to == RecordTime::max() ? "" : std::to_string(span.to.value());
      constexpr const char* kSure[] = {"seen", "either", "inherited", "unchecked", "unknown"};
      s += " " + std::to_string(span.from.value()) + "-" + end + " " + kSure[static_cast<int>(span.sure)];
    }
    return s;
  }
  IdentityBook book;
};

identity::Namespaces net(uint64_t inode) {
  identity::Namespaces n{};
  n[identity::kNet] = {4, inode};
  return n;
}

/// The same of its network namespace.
std::string nets(const IdentityBook& book, int tid) {
  std::string s;
  const ThreadIdentity* t = book.find(Tid(tid));
  if (!t) return "nothing";
  std::string last;
  for (const NamespaceSpan& span : t->namespaces) {
    const NamespaceSpan::One& one = span.kinds[identity::kNet];
    std::string what;
    for (const identity::Namespace& n : one.any_of) what += (what.empty() ? "" : "|") + std::to_string(n.inode);
    constexpr const char* kSure[] = {"seen", "either", "inherited", "unchecked", "unknown"};
    s += (s.empty() ? "" : ", ") + what + " " + std::to_string(span.from.value()) + "- " +
         kSure[static_cast<int>(one.sure)];
  }
  return s;
}

TEST_F(IdentityTest, BeforeTheFirstLookNothingIsKnownAndAfterTheLastNothingWasChecked) {
  look(7, 1, 10, 20);
  book.finish();
  EXPECT_EQ(told(7), " 0-11 unknown, a 11-20 seen, a 20- unchecked");
}

TEST_F(IdentityTest, BetweenTwoDifferentAnswersItIsEither) {
  look(7, 1, 10, 20);
  look(7, 2, 30, 40);
  book.finish();
  EXPECT_EQ(told(7), " 0-11 unknown, a 11-20 seen, ab 20-31 either, b 31-40 seen, b 40- unchecked");
}

TEST_F(IdentityTest, AForkInheritsAndALookThatAgreesMakesItSure) {
  look(7, 1, 10, 100);
  book.add_fork(at(50), Tid(7), Tid(8));
  look(8, 1, 60, 60);
  book.add_exit(at(80), Tid(8));
  book.add_fork(at(52), Tid(7), Tid(9));
  book.add_exit(at(53), Tid(9));
  book.finish();
  EXPECT_EQ(told(8), "a 50-61 seen, a 61-80 unchecked");
  EXPECT_EQ(told(9), "a 52-53 inherited");
}

TEST_F(IdentityTest, AForkedThreadThatIsSeenElsewhereWasInEither) {
  look(7, 1, 10, 100);
  book.add_fork(at(50), Tid(7), Tid(8));
  look(8, 2, 60, 70);
  book.finish();
  EXPECT_EQ(told(8), "ab 50-61 either, b 61-70 seen, b 70- unchecked");
}

TEST_F(IdentityTest, AForkWhileTheParentIsInEitherInheritsBoth) {
  look(7, 1, 10, 20);
  look(7, 2, 40, 50);
  book.add_fork(at(30), Tid(7), Tid(8));
  book.add_exit(at(35), Tid(8));
  book.finish();
  EXPECT_EQ(told(8), "ab 30-35 either");
}

TEST_F(IdentityTest, AnIdThatIsUsedAgainIsAnotherThread) {
  look(7, 1, 10, 20);
  book.add_exit(at(25), Tid(7));
  book.add_fork(at(30), Tid(1), Tid(7));  // of thread 1 nothing is known
  look(7, 2, 40, 50);
  book.finish();
  EXPECT_EQ(told(7), " 0-11 unknown, a 11-20 seen, a 20-25 unchecked,  30-41 unknown, b 41-50 seen, b 50- unchecked");
}

TEST_F(IdentityTest, WhatHadToBeForgottenIsUnknownAndNotInherited) {
  look(7, 1, 10, 100);
  book.add_fork(at(20), Tid(7), Tid(8));
  look(8, 2, 60, 70, identity::kEarlierForgotten);
  book.finish();
  EXPECT_EQ(told(8), " 20-61 unknown, b 61-70 seen, b 70- unchecked");
}

TEST_F(IdentityTest, AThreadThatForksItselfIsNoEndlessStory) {
  book.add_fork(at(20), Tid(7), Tid(7));
  book.add_fork(at(20), Tid(8), Tid(9));
  book.add_fork(at(20), Tid(9), Tid(8));
  look(7, 1, 30, 30);
  book.finish();
  EXPECT_EQ(told(7), " 20-31 unknown, a 31- unchecked");
  EXPECT_EQ(told(8), " 20- unknown");
}

TEST_F(IdentityTest, ALookThatNamesATextThatIsNotThereTellsNothing) {
  look(7, 3, 10, 20);
  book.finish();
  EXPECT_EQ(told(7), "nothing");
}

TEST_F(IdentityTest, ChangesOfNamespacesAreKnownToTheMoment) {
  book.add_namespaces(at(21), Tid(8), Told::at_birth, net(5));
  book.add_fork(at(20), Tid(7), Tid(8));
  book.add_namespaces(at(30), Tid(8), Told::as_change, net(6));
  book.finish();
  EXPECT_EQ(nets(book, 8), "5 20- seen, 6 30- seen");
}

TEST_F(IdentityTest, AChangeThatMayHaveBeenLostIsNotAssumedAway) {
  book.add_fork(at(20), Tid(7), Tid(8));
  book.add_namespaces(at(21), Tid(8), Told::at_birth, net(5));
  book.add_loss(at(25), at(26));
  book.add_namespaces(at(30), Tid(8), Told::as_change, net(6));
  book.add_loss(at(40), at(41));
  book.finish();
  EXPECT_EQ(nets(book, 8), "5 20- seen, 5|6 25- either, 6 30- seen, 6 40- unchecked");
}

TEST_F(IdentityTest, ACheckpointTellsAStateAndNotWhenItBegan) {
  identity::ThreadNamespaces first;
  first.pid = Pid(7);
  first.tid = Tid(7);
  first.from = at(10);
  first.to = at(11);
  first.namespaces = net(5);
  book.add_look(first);
  book.add_namespaces(at(30), Tid(7), Told::as_state, net(6));
  book.finish();
  EXPECT_EQ(nets(book, 7), "5|6 11- either, 6 30- seen");
}

TEST_F(IdentityTest, WhoseNamespacesAreNotRecordedStaysAsItWasSeen) {
  book.add_namespaces(at(5), Tid(3), Told::as_change, net(9));
  for (const int pid : {7, 8}) {
    identity::ThreadNamespaces n;
    n.pid = Pid(pid);
    n.tid = Tid(pid);
    n.from = at(10);
    n.to = at(11);
    n.namespaces = net(5);
    n.levels = {{pid, pid}, {1, 1}};
    book.add_look(n);
  }
  book.finish({Pid(7)});
  EXPECT_EQ(nets(book, 7), "5 11- seen");
  EXPECT_EQ(nets(book, 8), "5 11- unchecked");
  ASSERT_EQ(book.find(Tid(7))->levels.size(), 1u);
  EXPECT_EQ(book.find(Tid(7))->levels[0].ids[1], (identity::Ids{1, 1}));
}

}  // namespace
}  // namespace hindcast::decode
