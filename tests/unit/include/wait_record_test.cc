// Records of waits from bytes: whole ones are read, broken ones stop the reader, unknown ones are stepped over.
#include "hindcast/wait_record.h"

#include <gtest/gtest.h>

#include <vector>

#include "hindcast/clock_sample.h"

namespace hindcast::wait {
namespace {

template <class T>
void append(std::vector<uint8_t>& out, T record, size_t size = sizeof(T)) {
  record.header.size = static_cast<uint16_t>(size);
  const auto* bytes = reinterpret_cast<const uint8_t*>(&record);
  out.insert(out.end(), bytes, bytes + size);
}

Wake wake(int32_t woken) {
  Wake w{};
  w.header.kind = kWake;
  w.woken_tid = woken;
  return w;
}

TEST(WaitRecord, RecordsComeOneAfterTheOther) {
  std::vector<uint8_t> bytes;
  append(bytes, wake(3));
  append(bytes, wake(4));
  Reader reader(bytes);
  Record r;
  ASSERT_TRUE(reader.next(r));
  EXPECT_EQ(as<Wake>(r)->woken_tid, 3);
  ASSERT_TRUE(reader.next(r));
  EXPECT_EQ(as<Wake>(r)->woken_tid, 4);
  EXPECT_EQ(r.offset, sizeof(Wake));
  EXPECT_FALSE(reader.next(r));
  EXPECT_FALSE(reader.malformed());
}

TEST(WaitRecord, OneKindIsNotAnother) {
  std::vector<uint8_t> bytes;
  append(bytes, wake(3));
  Record r;
  ASSERT_TRUE(Reader(bytes).next(r));
  EXPECT_FALSE(as<Exit>(r));
}

TEST(WaitRecord, AnObjectMayEndBeforeItsAddresses) {
  Sleep sleep{};
  sleep.header.kind = kSleep;
  sleep.on.kind = kPipeObject;
  sleep.on.id = 77;
  sleep.on.local_port = 5;  // is cut off
  std::vector<uint8_t> bytes;
  append(bytes, sleep, least_bytes<Sleep>());
  Record r;
  ASSERT_TRUE(Reader(bytes).next(r));
  const auto read = as<Sleep>(r);
  ASSERT_TRUE(read);
  EXPECT_EQ(read->on.id, 77u);
  EXPECT_EQ(read->on.local_port, 0);
}

TEST(WaitRecord, TooShortForItsKindIsNone) {
  std::vector<uint8_t> bytes;
  append(bytes, wake(3), sizeof(Wake) - 8);
  append(bytes, wake(4));
  Reader reader(bytes);
  Record r;
  ASSERT_TRUE(reader.next(r));
  EXPECT_FALSE(as<Wake>(r));
  ASSERT_TRUE(reader.next(r)) << "its size still tells where the next begins";
  EXPECT_TRUE(as<Wake>(r));
}

TEST(WaitRecord, UnknownKindsAndLongerOnesAreSteppedOver) {
  std::vector<uint8_t> bytes;
  Wake unknown = wake(1);
  unknown.header.kind = 999;
  append(bytes, unknown);
  Wake longer = wake(5);
  longer.header.size = sizeof(Wake) + 8;
  const auto* p = reinterpret_cast<const uint8_t*>(&longer);
  bytes.insert(bytes.end(), p, p + sizeof longer);
  bytes.insert(bytes.end(), 8, 0xff);
  Reader reader(bytes);
  Record r;
  ASSERT_TRUE(reader.next(r));
  EXPECT_FALSE(as<Wake>(r));
  ASSERT_TRUE(reader.next(r));
  EXPECT_EQ(as<Wake>(r)->woken_tid, 5);
  EXPECT_FALSE(reader.next(r));
  EXPECT_FALSE(reader.malformed());
}

TEST(WaitRecord, WhatCannotBeARecordStopsTheReader) {
  for (const uint16_t size : {uint16_t{0}, uint16_t{16}, uint16_t{41}, uint16_t{48}}) {
    std::vector<uint8_t> bytes;
    append(bytes, wake(3));
    std::memcpy(bytes.data(), &size, sizeof size);
    Reader reader(bytes);
    Record r;
    EXPECT_FALSE(reader.next(r)) << size;
    EXPECT_TRUE(reader.malformed());
    EXPECT_EQ(reader.offset(), 0u);
    EXPECT_FALSE(reader.next(r));
  }
}

TEST(ClockSamples, ComeBackByClockAndOnlyForward) {
  std::vector<uint8_t> bytes;
  append_clock_sample(bytes, 1, {10, 100, 12});
  append_clock_sample(bytes, 4, {11, 7, 13});
  append_clock_sample(bytes, 1, {11, 200, 30});  // overlaps the one before
  append_clock_sample(bytes, 1, {40, 300, 39});  // ends before it begins
  append_clock_sample(bytes, 1, {40, 90, 41});   // the clock went backwards
  append_clock_sample(bytes, 1, {50, 300, 51});
  append_clock_sample(bytes, 1, {60, kMostCounted, 61});
  append_clock_sample(bytes, 1, {60, 400, kMostCounted});
  bytes.push_back(1);  // a cut end
  const auto samples = read_clock_samples(bytes, 1);
  ASSERT_EQ(samples.size(), 2u);
  EXPECT_EQ(samples[0].ns, 100u);
  EXPECT_EQ(samples[1].tsc_before, 50u);
  EXPECT_EQ(read_clock_samples(bytes, 4).size(), 1u);
}

}  // namespace
}  // namespace hindcast::wait
