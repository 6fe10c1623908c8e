// What tests read of waits and net streams.
#pragma once

#include <gtest/gtest.h>

#include <vector>

#include "hindcast/wait_record.h"

namespace hindcast::test {

/// All records of one kind, in the order of the stream, which must be whole.
template <class T>
std::vector<T> all(ByteSpan stream) {
  std::vector<T> out;
  wait::Reader reader(stream);
  wait::Record record;
  while (reader.next(record))
    if (const auto one = wait::as<T>(record)) out.push_back(*one);
  EXPECT_FALSE(reader.malformed());
  return out;
}

}  // namespace hindcast::test
