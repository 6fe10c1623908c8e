// The compact step function against a plain array.
#include "decode/pt_time_steps.h"

#include <gtest/gtest.h>

#include <random>
#include <utility>
#include <vector>

namespace hindcast::decode {
namespace {

TEST(TimeSteps, AnEmptyOneHasNoAnswer) {
  EXPECT_EQ(TimeSteps().at_or_before(5), std::nullopt);
  EXPECT_EQ(TimeSteps().at_or_after(0), std::nullopt);
}

TEST(TimeSteps, AnswersAsAPlainArrayWouldAcrossLargeDifferencesAndPops) {
  std::mt19937_64 random(3);
  for (int round = 0; round < 500; ++round) {
    TimeSteps steps;
    std::vector<std::pair<uint64_t, uint64_t>> plain;
    uint64_t key = random() % 3, value = random() % 1000;
    for (int i = 0; i < 60; ++i) {
      if (!plain.empty() && random() % 4 == 0) {
        steps.pop();
        plain.pop_back();
        continue;
      }
      steps.append(key, value);
      plain.push_back({key, value});
      key += 1 + random() % (random() % 10 ? 8 : uint64_t{1} << 33);  // beyond 32 bits now and then
      value += random() % (random() % 10 ? 5000 : uint64_t{1} << 40);
    }
    ASSERT_EQ(steps.size(), plain.size());
    if (plain.empty()) continue;
    ASSERT_EQ(steps.last_key(), plain.back().first);
    ASSERT_EQ(steps.last_value(), plain.back().second);
    std::vector<uint64_t> queries{0, 1, UINT64_MAX};
    for (const auto& [k, v] : plain)
      for (uint64_t near : {k - 1, k, k + 1}) queries.push_back(near);
    TimeSteps::Reader reader(steps);
    for (uint64_t q : queries) {
      std::optional<uint64_t> before, after;
      for (const auto& [k, v] : plain) {
        if (k <= q) before = v;
        if (k >= q && !after) after = v;
      }
      ASSERT_EQ(steps.at_or_before(q), before) << q;
      ASSERT_EQ(steps.at_or_after(q), after) << q;
      if (before) {
        std::optional<uint64_t> below;
        for (const auto& [k, v] : plain)
          if (v < *before) below = k;
        ASSERT_EQ(steps.last_key_below(*before), below) << q;
      }
      const bool both = random() % 2;
      if (both) {
        ASSERT_EQ(reader.at_or_before(q), before) << q;
      }
      ASSERT_EQ(reader.at_or_after(q), after) << q;
      if (!both) {
        ASSERT_EQ(reader.at_or_before(q), before) << q;
      }
    }
  }
}

TEST(TimeSteps, PopsBackAcrossTheBeginningOfARun) {
  TimeSteps steps;
  steps.append(10, 100);
  steps.append(11, uint64_t{1} << 40);
  steps.pop();
  EXPECT_EQ(steps.last_value(), 100u);
  steps.append(12, 200);
  EXPECT_EQ(steps.at_or_before(11), 100u);
  EXPECT_EQ(steps.at_or_after(11), 200u);
}

}  // namespace
}  // namespace hindcast::decode
