#include "decode/pt_time.h"

#include <algorithm>
#include <limits>

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

std::optional<uint64_t> TimeMap::last_before(Tsc t) const {
  if (outer_.latest < t) return ~uint64_t{0};
  return upper_.last_key_below(t.value());
}

std::optional<uint64_t> TimeMap::first_from(Tsc t) const {
  if (outer_.earliest >= t) return 0;
  return lower_.first_key_from(t.value());
}

void TimeMap::pack(ByteWriter& out) const {
  lower_.pack(out);
  upper_.pack(out);
  out.u64(readings_);
  out.u64(contradictions_);
  out.u64(outer_.earliest.value());
  out.u64(outer_.latest.value());
}

bool TimeMap::unpack(ByteReader& in) {
  if (!lower_.unpack(in) || !upper_.unpack(in)) return false;
  readings_ = in.u64();
  contradictions_ = in.u64();
  const Tsc earliest(in.u64());
  outer_ = {earliest, Tsc(in.u64())};
  return !in.failed();
}

TscInterval TimeMap::window(uint64_t first, uint64_t last) const {
  return interval(lower_.at_or_before(first), upper_.at_or_after(last));
}

}  // namespace hindcast::decode
