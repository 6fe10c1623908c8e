// A window of wait or net records: the newest in bounded memory.
#pragma once

#include "capture/record_fifo.h"
#include "hindcast/cut.h"

namespace hindcast::capture {

class WaitStore {
 public:
  /// budget: bytes, with 20 of ours for each record.
  WaitStore(StreamKind kind, size_t budget) : kind_(kind), budget_(budget) {}

  /// Takes a copy. The oldest go when there is no room.
  void add(ByteSpan record);

  /// All of it as a stream without a number: `wrapped` when older ones had to go. A copy: the window goes on.
  Cut stream() const;
  /// When the oldest record that is there was written, on CLOCK_MONOTONIC; 0: nothing is there.
  uint64_t oldest() const { return records_.empty() ? 0 : records_.front_key().time; }
  uint64_t evicted() const { return evicted_; }

 private:
  StreamKind kind_;
  size_t budget_;
  RecordFifo records_;
  uint64_t evicted_ = 0;
};

}  // namespace hindcast::capture
