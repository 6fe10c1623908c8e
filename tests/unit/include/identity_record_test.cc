#include "hindcast/identity_record.h"

#include <gtest/gtest.h>

namespace hindcast::identity {
namespace {

ThreadNamespaces some() {
  ThreadNamespaces n;
  n.pid = Pid(7);
  n.tid = Tid(8);
  n.from = RecordTime(10);
  n.to = RecordTime(11);
  for (size_t i = 0; i < n.namespaces.size(); ++i) n.namespaces[i] = {4, 4026531840 + i};
  n.levels = {{7, 8}, {1, 2}};
  n.flags = kEarlierForgotten;
  return n;
}

TEST(IdentityRecord, WhatIsWrittenIsRead) {
  std::vector<uint8_t> bytes;
  append_body(bytes, some());
  const auto n = read_thread_namespaces(bytes);
  ASSERT_TRUE(n);
  EXPECT_EQ(n->tid, Tid(8));
  EXPECT_EQ(n->namespaces, some().namespaces);
  EXPECT_EQ(n->levels, some().levels);
  EXPECT_EQ(n->flags, uint32_t{kEarlierForgotten});

  bytes.clear();
  append_body(bytes, CgroupText{3, "0::/a\n"});
  const auto text = read_cgroup_text(bytes);
  ASSERT_TRUE(text);
  EXPECT_EQ(text->id, 3u);
  EXPECT_EQ(text->text, "0::/a\n");

  bytes.clear();
  append_body(bytes, ThreadCgroup{Pid(1), Tid(2), RecordTime(3), RecordTime(4), RecordTime(5), RecordTime(6), 9, 1});
  const auto look = read_thread_cgroup(bytes);
  ASSERT_TRUE(look);
  EXPECT_EQ(look->last_from, RecordTime(5));
  EXPECT_EQ(look->text, 9u);
}

TEST(IdentityRecord, NoneIsReadFromFewerBytes) {
  std::vector<uint8_t> bytes;
  append_body(bytes, some());
  for (size_t n = 0; n < bytes.size(); ++n) EXPECT_FALSE(read_thread_namespaces(ByteSpan(bytes).first(n))) << n;
  bytes.clear();
  append_body(bytes, CgroupText{3, "0::/a\n"});
  for (size_t n = 0; n < bytes.size(); ++n) EXPECT_FALSE(read_cgroup_text(ByteSpan(bytes).first(n))) << n;
}

TEST(IdentityRecord, ImpossibleTimesAndDepthsAreRefused) {
  std::vector<uint8_t> bytes;
  ThreadNamespaces n = some();
  n.to = RecordTime(9);
  append_body(bytes, n);
  EXPECT_FALSE(read_thread_namespaces(bytes));
  n = some();
  n.levels.resize(kMostLevels + 1);
  bytes.clear();
  append_body(bytes, n);
  EXPECT_FALSE(read_thread_namespaces(bytes));
  bytes.clear();
  append_body(bytes, ThreadCgroup{Pid(1), Tid(2), RecordTime(3), RecordTime(4), RecordTime(2), RecordTime(6), 9, 0});
  EXPECT_FALSE(read_thread_cgroup(bytes));
}

}  // namespace
}  // namespace hindcast::identity
