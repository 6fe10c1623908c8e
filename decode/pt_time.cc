#include "decode/pt_time.h"

#include <algorithm>
#include <limits>

#include "decode/packet_scan.h"

namespace hindcast::decode {
namespace {

constexpr uint64_t kMaxTsc = std::numeric_limits<uint64_t>::max();

uint64_t saturating_add(uint64_t a, uint64_t b) { return a > kMaxTsc - b ? kMaxTsc : a + b; }

/// The value with these low 56 bits that is nearest to the reference.
uint64_t complete_tsc(uint64_t low56, uint64_t reference) {
  const int64_t distance = static_cast<int64_t>((low56 - reference) << 8) >> 8;
  if (distance < 0 && reference < static_cast<uint64_t>(-distance)) return low56;
  return reference + static_cast<uint64_t>(distance);
}

/// How a packet stands to branches that wait in the CPU for their TNT or TIP.
enum class Order : uint8_t {
  neutral,  // says nothing
  branch,   // the first of its kind after a timing packet may be older than that
  barrier,  // sent when it happens, after everything that waited
};

Order order_of(Kind kind) {
  switch (kind) {
    case Kind::tnt:
    case Kind::tnt_long:
    case Kind::tip:
      return Order::branch;
    case Kind::tip_pge:
    case Kind::tip_pgd:
    case Kind::fup:
    case Kind::psb:
    case Kind::psbend:
    case Kind::pip:
    case Kind::mode_exec:
    case Kind::mode_tsx:
    case Kind::trace_stop:
    case Kind::ovf:
    case Kind::ptw:
    case Kind::cfe:
    case Kind::evd:
      return Order::barrier;
    default:
      return Order::neutral;
  }
}

bool is_timing(Kind kind) {
  switch (kind) {
    case Kind::pad:
    case Kind::tsc:
    case Kind::tma:
    case Kind::mtc:
    case Kind::cyc:
    case Kind::cbr:
    case Kind::mnt:
      return true;
    default:
      return false;
  }
}

}  // namespace

std::optional<PtClock::Reading> PtClock::feed(const Packet& packet) {
  switch (packet.kind) {
    case Kind::tsc:
      return read_tsc(packet.payload);
    case Kind::tma:
      read_tma(packet.tma_ctc(), packet.tma_fast_counter());
      return std::nullopt;
    case Kind::mtc:
      return read_mtc(static_cast<uint8_t>(packet.payload));
    case Kind::ovf:
      lose();
      return std::nullopt;
    default:
      return std::nullopt;
  }
}

void PtClock::lose() {
  no_loss_ = false;
  tsc_.reset();
}

PtClock::Reading PtClock::read_tsc(uint64_t low56) {
  if (!reference_) reference_ = config_.near.value() ? config_.near.value() : low56;
  const uint64_t tsc = complete_tsc(low56, *reference_);
  tsc_ = tsc;
  no_loss_ = false;  // sent after anything that stops MTC: how many were lost is known again with TMA
  return {Tsc(tsc), Tsc(saturating_add(tsc, kPacketLatency))};
}

void PtClock::read_tma(uint16_t ctc, uint16_t fast_counter) {
  tied_ = false;
  if (!tsc_ || config_.tsc_ctc_num == 0 || config_.tsc_ctc_den == 0 || config_.mtc_period > 15) return;
  // The fast counter counts whole TSC ticks since the CTC tick; neither edge's place inside its tick is known.
  if (*tsc_ < uint64_t{fast_counter} + 1) return;  // the tick was before TSC's zero
  tick_low_ = *tsc_ - fast_counter - 1;
  tick_high_ = *tsc_ - fast_counter + 1;
  tma_tsc_ = *tsc_;
  phase_ = ctc & ((1u << config_.mtc_period) - 1);
  last_mtc_ = static_cast<uint8_t>(ctc >> config_.mtc_period);
  periods_ = 0;
  tied_ = after_tma_ = true;
  // TMA has 16 bits of CTC: with long periods it shares so few with MTC that few lost ones look like none.
  no_loss_ = config_.mtc_period <= 10;
  tsc_.reset();
}

/// TSC ticks from TMA's CTC tick to the MTC tick `periods` (>= 1) later: rounded down and up.
std::pair<uint64_t, uint64_t> PtClock::ticks_at(uint64_t periods) const {
  const uint64_t most = (kMaxTsc >> 16) / config_.tsc_ctc_num;  // periods have at most 15 bits below them
  if (periods < most) [[likely]] {
    const uint64_t scaled = ((periods << config_.mtc_period) - phase_) * config_.tsc_ctc_num;
    const uint64_t whole = scaled / config_.tsc_ctc_den;
    return {whole, whole + (scaled % config_.tsc_ctc_den != 0)};
  }
  const unsigned __int128 ctc = (static_cast<unsigned __int128>(periods) << config_.mtc_period) - phase_;
  const unsigned __int128 scaled = ctc * config_.tsc_ctc_num;
  const auto limited = [](unsigned __int128 ticks) {
    return static_cast<uint64_t>(std::min<unsigned __int128>(ticks, kMaxTsc));
  };
  return {limited(scaled / config_.tsc_ctc_den), limited((scaled + config_.tsc_ctc_den - 1) / config_.tsc_ctc_den)};
}

std::optional<PtClock::Reading> PtClock::read_mtc(uint8_t payload) {
  if (!tied_) return std::nullopt;
  const unsigned known_bits = after_tma_ ? std::min(8, 16 - config_.mtc_period) : 8;
  const unsigned passed = static_cast<unsigned>(payload - last_mtc_) & ((1u << known_bits) - 1);
  const bool first = std::exchange(after_tma_, false);
  last_mtc_ = payload;
  if (passed == 0) {
    // The tick that TMA had just counted, sent a little late; or else a whole turn of the counter was lost.
    const uint64_t since =
        static_cast<uint64_t>(static_cast<unsigned __int128>(phase_) * config_.tsc_ctc_num / config_.tsc_ctc_den);
    if (!first || tma_tsc_ + since > tick_high_ + kPacketLatency) no_loss_ = false;
    return std::nullopt;
  }
  periods_ += passed;
  const auto [down, up] = ticks_at(periods_);
  const uint64_t low = saturating_add(tick_low_, down);
  if (!no_loss_) return Reading{Tsc(low), Tsc::max()};
  const uint64_t high = saturating_add(tick_high_, up);
  return Reading{Tsc(low), Tsc(saturating_add(high, kPacketLatency))};
}

/// Turns readings into the two step functions. A lower bound waits until no branch older than it can follow.
class TimeMapBuilder {
 public:
  explicit TimeMapBuilder(const PtTimeConfig& config) : clock_(config) {}

  void packet(const Packet& p) {
    if (const auto reading = clock_.feed(p)) {
      timing_packet(p.offset, *reading);
      return;
    }
    bounded_ &= is_timing(p.kind);
    switch (order_of(p.kind)) {
      case Order::neutral:
        return;
      case Order::barrier:
        release(p.offset, std::max(newest_, passed_));
        newest_ = passed_ = 0;
        return;
      case Order::branch:
        // A second TNT cannot have waited beside the first; a TIP can have, behind its TNT.
        if (p.kind != Kind::tip) {
          release(p.offset, passed_);
          passed_ = 0;
        }
        passed_ = std::max(passed_, newest_);
        newest_ = 0;
        return;
    }
  }

  /// Whether branch packets and CYC, which kQuiet has, change nothing now.
  bool quiet() const { return newest_ == 0 && passed_ == 0 && !bounded_; }
  static constexpr SkipSizes kQuiet = skip_sizes(Kind::tnt, Kind::tip, Kind::cyc, Kind::pad);

  /// The range is known to hold no packet: nothing that waited can come out behind it.
  void lost(const LostRange& range) {
    clock_.lose();
    bounded_ = false;
    release(range.from, std::max(newest_, passed_));
    newest_ = passed_ = 0;
  }

  TimeMap finish(uint64_t end, TscInterval traced) {
    release(end, std::max(newest_, passed_));
    if (highest_ > traced.latest.value()) {
      ++map_.contradictions_;
      traced.latest = Tsc::max();
    }
    if (const auto first = map_.upper_.at_or_after(0); first && *first < traced.earliest.value()) {
      ++map_.contradictions_;
      traced.earliest = Tsc::min();
    }
    map_.outer_ = traced;
    return std::move(map_);
  }

 private:
  void timing_packet(uint64_t offset, const PtClock::Reading& reading) {
    ++map_.readings_;
    release(offset, passed_);  // what waited before the branch packet in between has come out with it
    passed_ = 0;
    if (reading.latest < Tsc(highest_)) {
      contradict(reading.latest.value());
    } else if (TimeSteps& upper = map_.upper_;
               reading.latest != Tsc::max() && (!bounded_ || reading.latest.value() < upper.last_value())) {
      bounded_ = true;
      while (!upper.empty() && upper.last_value() >= reading.latest.value()) upper.pop();
      upper.append(offset, reading.latest.value());
    }
    newest_ = std::max(newest_, reading.earliest.value());
    highest_ = std::max(highest_, reading.earliest.value());
  }

  /// Earlier packets say that it was later than `latest` already. Either may be wrong: neither bound is used.
  void contradict(uint64_t latest) {
    ++map_.contradictions_;
    TimeSteps& lower = map_.lower_;
    while (!lower.empty() && lower.last_value() > latest) lower.pop();
    highest_ = lower.empty() ? 0 : lower.last_value();
    if (newest_ > latest) newest_ = 0;
    highest_ = std::max(highest_, newest_);
    clock_.lose();
  }

  void release(uint64_t offset, uint64_t tsc) {
    TimeSteps& lower = map_.lower_;
    if (tsc == 0 || (!lower.empty() && tsc <= lower.last_value())) return;
    if (!lower.empty() && lower.last_key() >= offset) lower.pop();
    lower.append(offset, tsc);
  }

  PtClock clock_;
  TimeMap map_;
  bool bounded_ = false;  // from above: everything so far, but for timing packets that nobody asks about
  uint64_t newest_ = 0;   // lower bound of timing packets since the last branch packet; 0: none
  uint64_t passed_ = 0;   // of those before it: holds once nothing that waited beside it can follow
  uint64_t highest_ = 0;  // of all
};

TimeMap TimeMap::build(ByteSpan trace, const PtTimeConfig& config, std::span<const uint64_t> cuts) {
  TimeMapBuilder builder(config);
  PacketScan scan(trace, cuts);
  Packet packet;
  LostRange range;
  for (;;) {
    switch (scan.next(packet, range)) {
      case PacketScan::Found::packet:
        builder.packet(packet);
        if (builder.quiet()) scan.skip(TimeMapBuilder::kQuiet);
        break;
      case PacketScan::Found::lost:
        builder.lost(range);
        break;
      case PacketScan::Found::end:
        return builder.finish(trace.size(), config.traced);
    }
  }
}

std::optional<uint64_t> TimeMap::last_before(Tsc t) const {
  if (outer_.latest < t) return ~uint64_t{0};
  return upper_.last_key_below(t.value());
}

TscInterval TimeMap::window(uint64_t first, uint64_t last) const {
  return interval(lower_.at_or_before(first), upper_.at_or_after(last));
}

}  // namespace hindcast::decode
