// One pass over a CPU's stream that names every byte: packets, and the ranges that are none.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "decode/packet_reader.h"
#include "decode/trace_bytes.h"

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

/// Reads a borrowed stream of unknown alignment, covering a window of it at a time. cuts: offsets where earlier freezes cut it
/// (StreamInfo::cuts; any order, those outside are ignored): reading resumes at the next PSB behind each, since packets may be
/// broken there.
class PacketScan {
 public:
  enum class Found : uint8_t { packet, lost, end };

  static constexpr uint64_t kWindow = uint64_t{8} << 20;
  /// window: what is covered at a time, or more where it takes more to find a PSB.
  explicit PacketScan(TraceBytes& trace, std::span<const uint64_t> cuts = {}, bool skd007 = false,
                      uint64_t window = kWindow);

  /// The next packet, or the next range without one.
  Found next(Packet& packet, LostRange& lost) {
    if (reader_.offset() < safe_to_ && reader_.next(packet) == Step::ok) [[likely]]
      return Found::packet;
    return next_other(packet, lost);
  }
  /// PacketReader::skip(), as far as packets are read.
  void skip(const SkipSizes& sizes) {
    if (synced_) reader_.skip(sizes);
  }

  /// For looking ahead: a copy at the current place that ends at the next cut. What begins at safe_to() or behind it need not
  /// be a whole packet, as long as see_more() says that there is more to see: then it takes another copy.
  PacketReader look_ahead() const { return reader_; }
  uint64_t safe_to() const { return safe_to_; }
  bool see_more();

 private:
  Found next_other(Packet& packet, LostRange& lost);
  void begin_part(uint64_t begin, LostRange::Why why);
  void lose_sync(LostRange::Why why);
  void set_safe_to();
  void resync();
  void read_on(uint64_t at);
  bool sees_all() const { return seen_to_ == ends_[part_]; }

  TraceBytes& trace_;
  const uint64_t window_;
  std::vector<uint64_t> ends_;  // where the parts end: the cuts and the end of the stream
  size_t part_ = 0;
  const bool skd007_;
  PacketReader reader_;   // of the current part up to seen_to_, with offsets of the whole stream
  uint64_t seen_to_ = 0;  // covered
  uint64_t safe_to_ = 0;  // packets that begin before it are whole; 0: not synced
  bool synced_ = false;
  LostRange::Why unsynced_because_;
};

}  // namespace hindcast::decode
