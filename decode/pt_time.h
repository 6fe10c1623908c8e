// TSC, TMA and MTC packets to hard bounds of time: an interval that always holds the truth, however wide.
//
// What a timing packet says of its neighbours:
//   - Everything before it in the stream happened before it was made, so its value bounds them from above. Hardware may
//     sample TSC and CTC a little before the packet takes its place in the stream: kPacketLatency is added.
//   - What follows it happened later, except that TNT bits (and TIPs deferred behind them) wait in the CPU while timing
//     packets are sent: the first TNT or TIP after one may hold branches older than it. The bound holds from the next
//     packet that cannot have been waiting.
//   - MTC carries 8 bits of the crystal clock (CTC), so losing 256 periods looks like losing none. The earliest reading
//     is a lower bound always; it is an upper bound while no more can have been lost than that: the CPU sends TSC and
//     TMA after anything that stops MTC. After a gap it is none until TSC and TMA tie the clocks again.
// CYC counts core cycles, whose frequency has no stated bound here, and CBR is a hint of it: neither narrows a bound.
// A TSC that runs backwards by more than the latency contradicts what came before; what both cannot be true is dropped.
// Source: SDM Vol. 3C, "Intel Processor Trace": TSC, TMA, MTC packet definitions; "Deferred TIPs".
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>

#include "decode/packet_reader.h"
#include "decode/pt_time_steps.h"
#include "hindcast/bytes.h"
#include "hindcast/pt_config.h"
#include "hindcast/units.h"

namespace hindcast::decode {

/// TSC packets are seen to slip behind MTC packets by about 40 core cycles (Linux, tools/perf, intel-pt-decoder.c). In
/// TSC ticks that is up to 200 where the core runs at a fifth of the TSC's rate.
inline constexpr uint64_t kPacketLatency = 256;

struct PtTimeConfig {
  uint32_t tsc_ctc_num = 0;  // TSC ticks = CTC ticks * num / den; 0: unknown, MTC gives no time
  uint32_t tsc_ctc_den = 0;
  uint8_t mtc_period = 0;  // MTC payload = CTC[mtc_period + 7 : mtc_period]
  Tsc near{0};             // a TSC of the host within 2^55 ticks of the stream gives the 8 bits that a TSC packet
                           // lacks; 0: they are zero until the 56 bits wrap
  TscInterval traced = TscInterval::unknown();  // the stream was made in this time; a side that a packet contradicts
                                                // is not used

  bool skd007 = false;  // see has_skd007()

  static PtTimeConfig from(const PtCpu& cpu, const PtOptions& options) {
    PtTimeConfig c;
    c.tsc_ctc_num = cpu.tsc_ctc_num;
    c.tsc_ctc_den = cpu.tsc_ctc_den;
    c.mtc_period = options.mtc_period;
    c.skd007 = has_skd007(cpu);
    return c;
  }
};

/// The clock's state machine: fed packets in stream order, it reads what each timing packet says.
class PtClock {
 public:
  explicit PtClock(const PtTimeConfig& config) : config_(config) {}

  /// The packet was made in [earliest, latest]; latest is Tsc::max() when it gives no upper bound.
  using Reading = TscInterval;

  /// Nothing for packets that say nothing of time (all but TSC and MTC; TMA only prepares MTC).
  std::optional<Reading> feed(const Packet& packet);
  /// Packets may have been lost here: OVF, a malformed packet, a cut.
  void lose();

 private:
  Reading read_tsc(uint64_t low56);
  void read_tma(uint16_t ctc, uint16_t fast_counter);
  std::optional<Reading> read_mtc(uint8_t payload);
  std::pair<uint64_t, uint64_t> ticks_at(uint64_t periods) const;

  PtTimeConfig config_;
  std::optional<uint64_t> reference_;  // whole TSC that 56-bit values are completed by
  std::optional<uint64_t> tsc_;        // the last TSC packet, until TMA pairs with it
  // Since TMA: TSC at its CTC tick lies in [tick_low_, tick_high_], and `periods_` MTC ticks have passed since the last
  // one at or before it.
  bool tied_ = false;
  bool no_loss_ = false;  // since TMA nothing can have hidden 256 periods: readings are upper bounds too
  bool after_tma_ = false;
  uint64_t tick_low_ = 0, tick_high_ = 0;
  uint64_t tma_tsc_ = 0;
  uint32_t phase_ = 0;  // CTC ticks from that MTC tick to TMA's
  uint64_t periods_ = 0;
  uint8_t last_mtc_ = 0;
};

/// For every place of one CPU's stream, the interval of time: made by scan_packets(). Immutable once built. Memory: 8 bytes
/// for each of dense timing packets with others between them, at most 56.
class TimeMap {
 public:
  /// No timing packets: every answer is unknown.
  TimeMap() = default;

  /// Holds the true time of every event that a packet starting in [first, last] stands for (each branch of a TNT, each
  /// TIP, FUP, OVF ...). Where last is a timing packet itself, the upper bound may be one for what comes behind it. Code that ran between the packets a < b: window(a, b). Both bounds never decrease as first
  /// and last grow. An unbounded side is Tsc::min() or Tsc::max(). O(log n).
  TscInterval window(uint64_t first, uint64_t last) const;
  TscInterval at(uint64_t packet) const { return window(packet, packet); }

  /// The last packet that is known to have been made before t, and all before it; nothing when none is. O(log n).
  std::optional<uint64_t> last_before(Tsc t) const;
  /// The first packet from which on everything is known to have happened at t or later; nothing when there is none. O(log n).
  std::optional<uint64_t> first_from(Tsc t) const;

  /// window() for places that mostly ascend: O(1) for one near the place before. Borrows the map.
  class Reader {
   public:
    explicit Reader(const TimeMap& map) : map_(map), lower_(map.lower_), upper_(map.upper_) {}
    TscInterval window(uint64_t first, uint64_t last) {
      return map_.interval(lower_.at_or_before(first), upper_.at_or_after(last));
    }
    /// window() would say what it said last.
    bool same_window(uint64_t first, uint64_t last) const {
      return lower_.same_at_or_before(first) && upper_.same_at_or_after(last);
    }
    /// From this `first` on, or behind this `last`, it says something else. ~0: nowhere.
    uint64_t lower_until() const { return lower_.until(); }
    uint64_t upper_until() const { return upper_.until(); }
    /// To what it says there.
    void pass_lower() { lower_.pass(); }
    void pass_upper() { upper_.pass(); }
    TscInterval here() const { return map_.interval(lower_.last_at_or_before(), upper_.last_at_or_after()); }

   private:
    const TimeMap& map_;
    TimeSteps::Reader lower_, upper_;
  };

  /// TSC and MTC packets that gave a bound, and those that contradicted earlier ones (0 on a sane machine).
  uint64_t readings() const { return readings_; }
  uint64_t contradictions() const { return contradictions_; }
  /// As bytes, and back. False: they are no map.
  void pack(ByteWriter& out) const;
  bool unpack(ByteReader& in);
  size_t memory_bytes() const { return lower_.bytes() + upper_.bytes(); }

 private:
  friend class TimeMapBuilder;

  TscInterval interval(std::optional<uint64_t> low, std::optional<uint64_t> high) const {
    return {low ? Tsc(*low) : outer_.earliest, high ? Tsc(*high) : outer_.latest};
  }

  TimeSteps lower_;  // from this packet on, events happened at or after the value
  TimeSteps upper_;  // up to this packet, events happened at or before the value
  uint64_t readings_ = 0, contradictions_ = 0;
  TscInterval outer_ = TscInterval::unknown();  // where no packet gives a bound
};

}  // namespace hindcast::decode
