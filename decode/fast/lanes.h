// Stage 1 of the fast engine: the packets of a stretch, sorted into lanes that the walk reads without looking at packets.
//
//   TNT lane       the bits of all TNT packets packed end to end, oldest first
//   TIP lane       the targets, each with the number of bits that were sent before it
//   position lanes where in the stream each of them came from, for offsets and times
// Timing packets are in no lane, so they do not interrupt a run of bits. Source: SDM Vol. 3C, "Intel Processor Trace":
// "Deferred TIPs", "IP Compression", "Taken/Not-taken (TNT) Packet".
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "decode/fast/packet_event.h"
#include "decode/last_ip.h"
#include "decode/packet_reader.h"
#include "decode/trace_bytes.h"
#include "hindcast/bytes.h"
#include "hindcast/event.h"

namespace hindcast::decode {

/// What was lexed and not yet walked. Numbers of bits count from the first one that the walk has not dropped.
struct Lanes {
  /// TNT packets that stand near each other; TntCursor goes through them.
  struct TntsAt {
    int32_t first_bit;  // of the first of them; below 0 when the walk has dropped it
    uint32_t offset;    // from `base`
    uint64_t mask;      // bit i: a TNT of one byte stands at offset + i. 0: a long TNT, alone, stands at offset
  };

  /// MSB first: bit i is bit 7 - i % 8 of byte i / 8. Eight bytes behind the last one may be read.
  std::vector<uint8_t> tnt;
  uint32_t bits = 0;
  std::vector<uint64_t> tip;
  std::vector<uint32_t> tip_bits;    // bits sent before tip[i]; ascending
  std::vector<uint32_t> tip_offset;  // from `base`
  size_t tips = 0;
  std::vector<TntsAt> tnt_at;
  size_t tnts = 0;  // in use of tnt_at
  uint64_t base = 0;

  /// 57 bits or more from bit i on, the first one highest; behind the last bit they mean nothing.
  uint64_t window(uint32_t i) const {
    uint64_t v;
    __builtin_memcpy(&v, tnt.data() + (i >> 3), sizeof v);
    return __builtin_bswap64(v) << (i & 7);
  }
};

/// Reads one plain stretch (Stretch::plain) piece by piece. Borrowed bytes, of which it covers those that the lanes are of.
/// Cost: about 1 ns a byte where lex_lines() runs, 2 to 3 elsewhere.
class LaneLexer {
 public:
  enum class Stop : uint8_t {
    full,   // there is more
    psb,    // a PSB begins at offset(): cross_psb() reads it
    event,  // the packets of a PacketEvent begin at offset(): cross_event() gives it
    end,    // all packets of the stretch were read
    lost,   // the bytes at offset() are not what was written any more
  };
  enum class Way : uint8_t {
    fastest,     // that this machine has
    one_by_one,  // packet by packet, as every machine can
  };

  /// from: behind the packet that began the stretch; ip: the address that it gave; end: the packet that ended it.
  LaneLexer(TraceBytes& trace, uint64_t from, uint64_t end, uint64_t ip, Way way = Way::fastest);

  /// Stops before the first packet at `limit` or behind it, as if the stretch ended there; but what begins before is read as a
  /// whole. With stop() at end, and a limit farther on, it goes on. At first the limit is the stretch's end.
  void limit(uint64_t limit);

  /// Of a stretch that a PSB+'s FUP began: passes over the rest of that PSB+.
  void pass_psb();

  /// Drops what the walk used up from the lanes' front (all bits before `bit`, all TIPs before `tip`) and lexes some more
  /// behind the rest. With stop() not at full nothing is added.
  Stop more(Lanes& lanes, uint32_t bit, size_t tip);
  Stop stop() const { return stop_; }

  /// At a PSB, and when all before it was used: reads the PSB+, and stands behind it. The address that its FUP gives; 0 when
  /// it has none.
  uint64_t cross_psb(Lanes& lanes);
  /// The same at a PacketEvent.
  PacketEvent cross_event(Lanes& lanes);
  /// Behind one of a MOV to CR3 or a VMPTRLD: makes it that of a far transfer. False when its packets are not.
  bool make_far(PacketEvent& event);

  /// 64, 32 or 16, as the MODE.Exec said of the PSB+ that was read last; 0: it has none.
  uint8_t psb_bits() const { return psb_bits_; }

  uint64_t offset() const { return at_; }
  /// What it reads now, or would read next of the stretch, is not all as it was written.
  bool meets_loss() const { return meets_loss_; }

 private:
  void cover(uint64_t from, uint64_t to);
  void lex(Lanes& lanes, uint64_t until);
  void lex_packets(Lanes& lanes, uint64_t until);
  PacketReader reader_at(uint64_t offset) const;
  Step next(PacketReader& reader, Packet& packet);
  uint64_t read_psb(uint64_t psb);
  bool read_event(const Packet& first, PacketReader reader);
  void go_behind_event();
  uint64_t pass_block(Packet p, PacketReader reader);

  TraceBytes& trace_;
  ByteSpan readable_;  // of the stretch, as far as it is covered and as it was written
  uint64_t from_ = 0;  // what is before is covered no more
  bool meets_loss_ = false;
  const bool lexes_lines_;
  uint64_t at_, end_, limit_;
  LastIp last_ip_;
  Stop stop_ = Stop::full;
  std::optional<PacketEventReader> event_;  // with stop_ at event: what begins at at_; then what was crossed last
  uint8_t psb_bits_ = 0;
  uint64_t piece_;          // bytes to lex in one go
  uint64_t most_;           // bytes to lex as lines at once
  uint64_t lines_end_ = 0;  // what begins behind it is lexed one by one
};

}  // namespace hindcast::decode
