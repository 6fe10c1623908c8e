// One pass over a CPU's stream that names every byte: packets, and the ranges that are none.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "decode/packet_reader.h"

namespace hindcast::decode {

/// A range without packets. In stream order and never overlapping a packet.
struct LostRange {
  enum class Why : uint8_t {
    leftover,   // before the first PSB no packet boundary is known
    bad,        // a malformed packet; reading goes on at the next PSB
    truncated,  // the last packet is longer than what is left before the end or a cut
    cut,        // an earlier freeze stopped the ring at `from`; time passed, possibly without a byte lost
  };
  Why why = Why::leftover;
  uint64_t from = 0, to = 0;
};

/// Reads a borrowed stream of unknown alignment. cuts: offsets where earlier freezes cut it (StreamInfo::cuts; any order,
/// those outside are ignored): reading resumes at the next PSB behind each, since packets may be broken there.
class PacketScan {
 public:
  enum class Found : uint8_t { packet, lost, end };

  explicit PacketScan(ByteSpan trace, std::span<const uint64_t> cuts = {}, bool skd007 = false);

  /// The next packet, or the next range without one.
  Found next(Packet& packet, LostRange& lost) {
    if (synced_ && reader_.next(packet) == Step::ok) [[likely]]
      return Found::packet;
    return next_other(packet, lost);
  }
  /// PacketReader::skip(), as far as packets are read.
  void skip(const SkipSizes& sizes) {
    if (synced_) reader_.skip(sizes);
  }
  /// For looking ahead: a copy at the current place that ends at the next cut.
  PacketReader look_ahead() const { return reader_; }

 private:
  Found next_other(Packet& packet, LostRange& lost);
  bool next_part();

  ByteSpan trace_;
  std::vector<uint64_t> ends_;  // where the parts end: the cuts and the end of the stream
  size_t part_ = 0;
  const bool skd007_;
  PacketReader reader_;  // of the current part, with offsets of the whole stream
  bool synced_ = false;
  LostRange::Why unsynced_because_ = LostRange::Why::leftover;
};

}  // namespace hindcast::decode
