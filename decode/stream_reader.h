// One stream's events, decoded as they are read, each with its thread.
#pragma once

#include <array>
#include <memory>
#include <optional>

#include "decode/host_trace_impl.h"

namespace hindcast::decode {

/// Borrows the host and the stream. One thread of the caller.
class StreamReader {
 public:
  StreamReader(HostTrace::Impl& host, const PtStream& stream, const FlowOptions& options);

  const std::optional<Error>& error() const { return error_; }  // why it reads nothing
  const PtStream& stream() const { return stream_; }

  /// The next event, or nothing at the end; stays until take() or pop().
  const Event* peek() {
    if (at_ == have_) fetch();
    return at_ == have_ ? nullptr : &batch_[at_];
  }
  /// Behind peek(): passes over the event; take() hands it out, with all that the stream says of it and no number.
  void take(FlowEvent& out);
  void pop();
  /// All events that a packet before `offset` decided.
  void pop_before(uint64_t offset);

  /// The gap that reaches farthest of those that were read since the last seek().
  const Event& farthest_gap() const { return farthest_gap_; }
  uint64_t gap_end() const { return farthest_gap_.offset + farthest_gap_.count; }

  /// Continues at the last PSB at or before offset.
  void seek(uint64_t offset);
  /// Moves to stretch s: by reading on when it is near, else from its PSB.
  void go_to(size_t s);
  /// What was read so far says nothing of what will be asked for.
  void leave() { elsewhere_ = true; }
  bool is_elsewhere() const { return elsewhere_; }  // since leave(), until the next seek() or go_to()
  /// Passes over events that peek() has not read, with no more instructions than `most`, and decided by packets before
  /// `before`. Returns how many instructions they had; none when something is read already.
  uint64_t skip(uint64_t most, uint64_t before);

 private:
  void fetch();
  void find_stretch(const Event& e);

  HostTrace::Impl& host_;
  const PtStream& stream_;
  StreamImages images_{host_, stream_};
  std::unique_ptr<FlowDecoder> decoder_;
  FastDecoder* fast_ = nullptr;  // decoder_, when it is one
  std::optional<Error> error_;
  std::array<Event, 256> batch_;
  size_t at_ = 0, have_ = 0;
  Event farthest_gap_;
  // The stretch of the event before, and whose it is:
  size_t stretch_ = ~size_t{0};
  uint32_t stretch_number_ = kNoStretch;
  Tid tid_ = kNoTid;
  Pid pid_ = kNoPid;
  uint64_t read_to_ = 0;
  bool elsewhere_ = false;
};

}  // namespace hindcast::decode
