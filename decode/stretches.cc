#include "decode/stretches.h"

#include <utility>

#include "decode/packet_scan.h"
#include "decode/stretch_events.h"
#include "decode/time_map_builder.h"

namespace hindcast::decode {
namespace {

/// Packets that may stand between a PSB+'s FUP and the TIP.PGE that it announces.
bool may_precede_announced_pge(Kind kind) {
  return is_timing(kind) || kind == Kind::psbend || kind == Kind::pip || kind == Kind::vmcs ||
         kind == Kind::mode_exec || kind == Kind::mode_tsx;
}

/// Packets, but for timing, that may stand between an OVF and the FUP that resolves it, and those that make the FUP another
/// one's or none.
bool may_precede_fup_of_ovf(Kind kind) {
  return kind == Kind::ovf || kind == Kind::psb || kind == Kind::psbend || kind == Kind::fup || kind == Kind::tip_pge;
}

bool announces_pge(PacketScan& scan) {
  do {
    PacketReader ahead = scan.look_ahead();
    Packet p;
    while (ahead.offset() < scan.safe_to() && ahead.next(p) == Step::ok)
      if (!may_precede_announced_pge(p.kind)) return p.kind == Kind::tip_pge;
    if (ahead.offset() < scan.safe_to()) return false;
  } while (scan.see_more());
  return false;
}

/// The state machine over one stream.
class Scanner {
 public:
  explicit Scanner(uint64_t size) : size_(size) {}

  /// Every packet but timing.
  void packet(const Packet& p, PacketScan& scan) {
    const uint64_t ip = expand_ip(last_ip_, p);
    const uint8_t bits_before = bits_;
    // A FUP and what says how the processor sleeps do not end a block, but have no place in it.
    if (p.kind != Kind::fup && !is_power(p.kind)) in_block_ = p.kind == Kind::bbp || (in_block_ && p.kind == Kind::bip);
    if (p.kind == Kind::mode_exec) mode_exec(p);
    if (state_ == State::on && !is_plain(p, bits_before)) open_.plain = false;
    if (overflowed_ && !in_psb_ && !may_precede_fup_of_ovf(p.kind)) unclear_fup_ = true;
    place_paging(p, ip);
    switch (p.kind) {
      case Kind::psb:
        begin_psb(p.offset);
        break;
      case Kind::psbend:
        end_psb(p.offset);
        break;
      case Kind::fup:
        fup(p, ip, scan);
        break;
      case Kind::tip_pge:
        pge(p, ip);
        break;
      case Kind::tip_pgd:
        pgd(p, ip);
        break;
      case Kind::tnt:
      case Kind::tnt_long:
      case Kind::tip:
        branch(p.offset);
        break;
      case Kind::ovf:
        overflow(p.offset);
        break;
      case Kind::mode_exec:
        branch_follows_ |= state_ == State::on && !in_psb_;
        break;
      case Kind::pip:
      case Kind::vmcs:
        (p.kind == Kind::pip ? pip_of_branch_ : vmcs_of_branch_) |= async_ || branch_follows_;
        break;
      case Kind::ptw:
      case Kind::exstop:
      case Kind::bep:
        bind_fup(p.kind, p.detail != 0);
        break;
      case Kind::mwait:
        bind_fup(p.kind, true);
        break;
      case Kind::trig:
        bind_fup(p.kind, p.payload & 0x80);
        break;
      case Kind::trace_stop:
        if (std::exchange(may_be_stop_, false)) map_.stretches.back().stopped = true;
        break;
      case Kind::mode_tsx:
        if (!in_psb_) bind_fup(p.kind, true);
        aborts_ = !in_psb_ && p.payload & 2;
        break;
      default:
        break;
    }
  }

  /// Whether TNT packets change nothing now.
  bool quiet() const {
    return state_ == State::on && open_.flow && !in_psb_ && !async_ && !next_fup_is_bound_ && !branch_follows_ &&
           !in_block_;
  }

  void lost(const LostRange& range) {
    using Why = LostRange::Why;
    close_gap(range.from);
    may_be_stop_ = false;
    const bool truncated = range.why == Why::truncated;
    turn_off(range.from, truncated ? StretchEnd::end : range.why == Why::cut ? StretchEnd::cut : StretchEnd::desync);
    const GapCause cause = truncated               ? GapCause::cut
                           : range.why == Why::bad ? GapCause::desync
                                                   : GapCause::not_captured;
    add_gap(cause, range.from, range.to);
    state_ = State::unknown;
    in_psb_ = false;
    bits_ = 0;
    forget_fup();
  }

  StretchMap finish(const TimeMap& times) {
    take_paging();
    close_gap(size_);
    const bool goes_on = state_ == State::on;
    if (goes_on) {
      turn_off(size_, StretchEnd::end);
      add_gap(GapCause::not_captured, size_, size_);
    }
    for (Stretch& s : map_.stretches) {
      s.begin_time = times.at(s.begin);
      s.end_time = times.at(s.end);
    }
    for (size_t i = 0; i < map_.gaps.size(); ++i) map_.gaps[i].time = times.window(map_.gaps[i].offset, gap_ends_[i]);
    if (goes_on) map_.gaps.back().time.latest = Tsc::max();
    return std::move(map_);
  }

 private:
  enum class State : uint8_t { unknown, off, on };

  /// Of a packet while tracing is on: see Stretch::plain. Between a FUP of an asynchronous event and its TIP or TIP.PGD only
  /// timing is, and what holds from the TIP on; and of the latter that stands in front of a far transfer's TIP, too.
  bool is_plain(const Packet& p, uint8_t bits_before) const {
    if (branch_follows_ && !(p.kind == Kind::tip && p.has_ip()) && p.kind != Kind::pip && p.kind != Kind::vmcs)
      return false;
    if (next_fup_is_bound_ && p.kind != Kind::fup) return is_power(bound_to_) && is_power(p.kind);
    switch (p.kind) {
      case Kind::tnt:
      case Kind::tnt_long:
        return !async_;
      case Kind::mode_exec:
        return !in_psb_ || open_.begin > psb_ || bits_ == bits_before;
      case Kind::mode_tsx:
        return in_psb_ || !async_;
      case Kind::ptw:
      case Kind::exstop:
      case Kind::mwait:
      case Kind::pwre:
      case Kind::pwrx:
        return !in_psb_ && !async_ && !in_block_;
      case Kind::bbp:
      case Kind::bip:
      case Kind::bep:
      case Kind::evd:
        return !in_psb_ && !async_;
      case Kind::cfe:
        return !in_psb_ && !async_ && p.detail == 0;
      case Kind::pip:
        return !pip_of_branch_;
      case Kind::vmcs:
        return !vmcs_of_branch_;
      case Kind::fup:
        // A PSB+ has one, and a decoder that begins there knows the mode from it alone.
        return !async_ && !in_block_ &&
               !(in_psb_ && (psb_says_on_ || !p.has_ip() || (mode_changed_ && !psb_has_mode_)));
      case Kind::psb:
      case Kind::psbend:
        return !async_;
      case Kind::tip:
      case Kind::tip_pge:
      case Kind::tip_pgd:
      case Kind::ovf:
        return true;
      default:
        return false;
    }
  }

  void mode_exec(const Packet& p) {
    const uint8_t before = std::exchange(bits_, bits_of_mode(p));
    psb_has_mode_ = in_psb_;
    mode_changed_ |= bits_ != before;
    if (state_ == State::on && in_psb_ && open_.begin > psb_) open_.bits = bits_;  // it began in this PSB+
  }

  /// A PIP stands in front of the TIP of the far transfer or asynchronous event that it comes with.
  void place_paging(const Packet& p, uint64_t ip) {
    switch (p.kind) {
      case Kind::pip:
        take_paging();
        paging_ = {p.offset, p.payload | (p.detail != 0)};
        has_paging_ = true;
        return;
      case Kind::vmcs:
      case Kind::mode_exec:
        return;
      case Kind::tip:
        if (!has_paging_) return;
        paging_.offset = p.offset;
        if (state_ == State::on && p.has_ip() && ip >> 63 == 0) {
          paging_.ip = ip;
          paging_.bits = bits_;
        }
        break;
      default:
        break;
    }
    take_paging();
  }
  void take_paging() {
    if (!std::exchange(has_paging_, false)) return;
    const bool is_news = !std::exchange(cr3_known_, true) || map_.pagings.back().cr3 != paging_.cr3;
    if (is_news || in_psb_ || paging_.ip != 0) map_.pagings.push_back(paging_);
  }

  void begin_psb(uint64_t offset) {
    may_be_stop_ = false;
    sync_ = psb_ = offset;
    map_.psbs.push_back(offset);
    in_psb_ = true;
    psb_says_on_ = psb_has_mode_ = false;
    forget_fup();
  }

  /// A PSB+ without a FUP (or with one that only announces a TIP.PGE) says that tracing is off.
  void end_psb(uint64_t offset) {
    if (!std::exchange(in_psb_, false) || psb_says_on_) return;
    if (state_ == State::on) {  // the TIP.PGD was lost without a mark
      turn_off(psb_, StretchEnd::desync);
      add_gap(GapCause::desync, psb_, offset);
    } else {
      close_gap(offset);
    }
    state_ = State::off;
  }

  void fup(const Packet& p, uint64_t ip, PacketScan& scan) {
    if (in_psb_) {
      if (!p.has_ip() || announces_pge(scan)) return;
      psb_says_on_ = true;
      if (state_ == State::off && !gap_open_) add_gap(GapCause::desync, psb_, p.offset);  // a TIP.PGE was lost
      if (state_ != State::on) turn_on(p.offset, ip, overflowed_ ? StretchStart::overflow : StretchStart::resync);
      return;
    }
    if (overflowed_ && state_ == State::unknown) {
      turn_on(p.offset, p.has_ip() ? ip : 0, StretchStart::overflow);
      return;
    }
    const bool aborts = std::exchange(aborts_, false);
    if (std::exchange(next_fup_is_bound_, false) && !aborts) return;
    async_ip_ = p.has_ip() ? ip : 0;
    async_ = true;
  }

  void pge(const Packet& p, uint64_t ip) {
    in_psb_ = false;  // its PSBEND is missing
    turn_on(p.offset, p.has_ip() ? ip : 0, StretchStart::enabled);
  }

  void pgd(const Packet& p, uint64_t ip) {
    in_psb_ = false;
    if (state_ != State::on) {
      stray(p.offset);
      return;
    }
    Stretch& s = open_;
    s.plain &= !p.has_ip() || ip != 0;  // end_to cannot say that it left for 0
    s.end_to = p.has_ip() ? ip : 0;
    s.end_ip = async_ ? async_ip_ : 0;
    turn_off(p.offset, async_ ? StretchEnd::async_disabled : StretchEnd::disabled);
    may_be_stop_ = true;
    forget_fup();
  }

  void branch(uint64_t offset) {
    in_psb_ = false;
    forget_fup();  // FUP, TIP: an asynchronous event inside the trace
    if (state_ == State::on)
      open_.flow = true;
    else
      stray(offset);
  }

  void overflow(uint64_t offset) {
    may_be_stop_ = false;
    turn_off(offset, StretchEnd::overflow);
    close_gap(offset);
    open_gap(GapCause::pt_overflow, offset);
    state_ = State::unknown;
    overflowed_ = true;
    in_psb_ = false;  // OVF may stand in for PSBEND
    forget_fup();
  }

  /// A packet that only traced execution makes, while tracing is off or unknown.
  void stray(uint64_t offset) {
    if (!gap_open_) open_gap(GapCause::desync, offset);
    forget_fup();
  }

  void turn_on(uint64_t offset, uint64_t ip, StretchStart start) {
    if (state_ == State::on) {  // the TIP.PGD was lost without a mark
      turn_off(offset, StretchEnd::desync);
      add_gap(GapCause::desync, offset, offset);
    }
    close_gap(offset);
    may_be_stop_ = false;
    open_ = Stretch{};
    open_.begin = offset;
    open_.sync = sync_;
    open_.begin_ip = ip;
    open_.start = start;
    open_.bits = bits_;
    open_.in_psb = in_psb_;
    mode_changed_ = false;
    state_ = State::on;
    overflowed_ = false;
    forget_fup();
    open_.plain = !std::exchange(unclear_fup_, false);
  }

  void turn_off(uint64_t offset, StretchEnd how) {
    cr3_known_ = false;
    if (state_ != State::on) return;
    open_.end = open_.whole_end = offset;
    open_.how = how;
    map_.stretches.push_back(open_);
    state_ = State::off;
  }

  void open_gap(GapCause cause, uint64_t offset) {
    gap_open_ = true;
    gap_cause_ = cause;
    gap_from_ = offset;
  }
  void close_gap(uint64_t offset) {
    overflowed_ = false;
    if (std::exchange(gap_open_, false)) add_gap(gap_cause_, gap_from_, offset);
  }
  void add_gap(GapCause cause, uint64_t from, uint64_t to) {
    Event gap;
    gap.kind = EventKind::gap;
    gap.cause = cause;
    gap.offset = from;
    gap.count = saturate(to - from);
    map_.gaps.push_back(gap);
    gap_ends_.push_back(to);
  }
  void bind_fup(Kind kind, bool sends_one) {
    // What waits already goes on waiting for the same one.
    next_fup_is_bound_ = sends_one || (next_fup_is_bound_ && is_power(kind) && is_power(bound_to_));
    if (sends_one) bound_to_ = kind;
  }
  void forget_fup() {
    unclear_fup_ |= next_fup_is_bound_;
    async_ = next_fup_is_bound_ = aborts_ = branch_follows_ = pip_of_branch_ = vmcs_of_branch_ = false;
  }

  const uint64_t size_;
  StretchMap map_;  // times come at the end
  std::vector<uint64_t> gap_ends_;
  LastIp last_ip_;
  State state_ = State::unknown;
  Stretch open_;       // while state_ is on
  uint64_t sync_ = 0;  // the last PSB
  uint8_t bits_ = 0;   // of the last MODE.Exec; 0: none
  uint64_t psb_ = 0;   // the PSB+ being read
  bool in_psb_ = false;
  bool psb_says_on_ = false;
  bool psb_has_mode_ = false;  // a MODE.Exec so far
  bool mode_changed_ = false;  // inside the open stretch
  bool overflowed_ = false;    // an OVF that nothing has resolved yet
  bool async_ = false;         // a FUP that a TIP.PGD may follow
  uint64_t async_ip_ = 0;
  bool next_fup_is_bound_ = false;  // to the PTW, EXSTOP, MWAIT, BEP, TRIG or MODE.TSX before it,
  Kind bound_to_ = Kind::pad;       // the last of them
  // And to an asynchronous event too; that of a transaction's begin or commit only gives the place.
  bool aborts_ = false;
  bool branch_follows_ = false;  // a MODE.Exec has told the mode where it leads; async_ says whether it is an event's
  bool pip_of_branch_ = false, vmcs_of_branch_ = false;  // such a packet came with it
  bool in_block_ = false;                                // between a BBP and its BEP
  bool unclear_fup_ = false;  // whose the next one is: such a packet's did not come, or the OVF's should have come
  bool may_be_stop_ = false;  // a TraceStop would be of the last stretch
  Paging paging_;             // the last PIP's, when it was not taken yet
  bool has_paging_ = false, cr3_known_ = false;
  bool gap_open_ = false;
  GapCause gap_cause_ = GapCause::none;
  uint64_t gap_from_ = 0;
};

}  // namespace

PtScan scan_packets(TraceBytes& trace, const PtTimeConfig& time, std::span<const uint64_t> cuts, uint64_t window) {
  static constexpr SkipSizes kQuiet = skip_sizes(Kind::tnt, Kind::cyc, Kind::pad);
  const uint64_t size = trace.all().size();
  Scanner scanner(size);
  TimeMapBuilder times(time);
  PacketScan scan(trace, cuts, time.skd007, window);
  Packet packet;
  LostRange range;
  for (;;) {
    switch (scan.next(packet, range)) {
      case PacketScan::Found::packet:
        times.packet(packet);
        if (!is_timing(packet.kind)) scanner.packet(packet, scan);
        scan.skip(scanner.quiet() && times.quiet() ? kQuiet : TimeMapBuilder::kNothing);
        break;
      case PacketScan::Found::lost:
        times.lost(range);
        scanner.lost(range);
        break;
      case PacketScan::Found::end:
        PtScan found;
        found.times = times.finish(size, time.traced);
        found.map = scanner.finish(found.times);
        return found;
    }
  }
}

}  // namespace hindcast::decode
