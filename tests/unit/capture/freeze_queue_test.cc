#include "capture/freeze_queue.h"

#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace hindcast::capture {
namespace {

transport::FreezeOrder order(const std::string& incident) {
  transport::FreezeOrder o;
  o.incident = incident;
  return o;
}

TEST(FreezeQueue, OrdersWaitWhileSomethingIsBeingWritten) {
  FreezeQueue queue;
  EXPECT_FALSE(queue.next_order());
  queue.order(order("a"));
  queue.order(order("b"));
  ASSERT_EQ(queue.next_order()->incident, "a");
  queue.write({"a", {}});
  EXPECT_TRUE(queue.writing());
  EXPECT_FALSE(queue.next_order());
  ASSERT_EQ(queue.next_taken()->incident, "a");
  EXPECT_TRUE(queue.writing());
  EXPECT_FALSE(queue.next_order());
  queue.close();
  EXPECT_FALSE(queue.next_taken());
  EXPECT_FALSE(queue.writing());
  EXPECT_EQ(queue.next_order()->incident, "b");
}

TEST(FreezeQueue, WhatWasTakenIsWrittenEvenWhenItIsClosedThen) {
  FreezeQueue queue;
  queue.write({"a", {}});
  queue.close();
  ASSERT_TRUE(queue.next_taken());
  EXPECT_FALSE(queue.next_taken());
}

TEST(FreezeQueue, ThreeThreadsPassEachOrderOnOnce) {
  constexpr int kOrders = 500;
  FreezeQueue queue;
  std::vector<std::string> written;
  std::thread writer([&] {
    while (auto taken = queue.next_taken()) written.push_back(taken->incident);
  });
  std::thread sender([&] {
    for (int i = 0; i < kOrders; ++i) queue.order(order(std::to_string(i)));
  });
  for (int taken = 0; taken < kOrders;) {
    if (const auto o = queue.next_order()) {
      queue.write({o->incident, {}});
      ++taken;
    } else {
      std::this_thread::yield();
    }
  }
  sender.join();
  queue.close();
  writer.join();
  ASSERT_EQ(written.size(), size_t{kOrders});
  for (int i = 0; i < kOrders; ++i) EXPECT_EQ(written[static_cast<size_t>(i)], std::to_string(i));
}

}  // namespace
}  // namespace hindcast::capture
