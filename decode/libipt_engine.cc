#include "decode/libipt_engine.h"

#include <intel-pt.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <utility>

#include "decode/circle_guard.h"
#include "decode/packet_reader.h"
#include "decode/psb_search.h"
#include "decode/stretch_events.h"
#include "decode/trace_bytes.h"
#include "decode/x86_insn.h"

namespace hindcast::decode {
namespace {

constexpr size_t kNone = ~size_t{0};
constexpr std::array<uint8_t, 16> kPsb = {0x02, 0x82, 0x02, 0x82, 0x02, 0x82, 0x02, 0x82,
                                          0x02, 0x82, 0x02, 0x82, 0x02, 0x82, 0x02, 0x82};

int bits_of(pt_exec_mode mode) { return mode == ptem_16bit ? 16 : mode == ptem_32bit ? 32 : 64; }

struct DecoderDeleter {
  void operator()(pt_block_decoder* d) const { pt_blk_free_decoder(d); }
};

class LibiptEngine final : public FlowDecoder {
 public:
  LibiptEngine(const PtTrace& trace, const pt_config& config, Resync resync, ImageSelector& images,
               std::shared_ptr<IptCode> code)
      : trace_(trace),
        bytes_(trace.bytes, trace.parts),
        times_(trace.times),
        config_(config),
        resync_(resync),
        images_(images),
        code_cache_(std::move(code)) {
    uint64_t begin = 0;
    for (uint64_t cut : trace_.cuts) {
      if (cut > begin) ranges_.push_back({begin, cut});
      begin = cut;
    }
    if (trace_.bytes.size() > begin) ranges_.push_back({begin, trace_.bytes.size()});
  }

  size_t next(std::span<Event> out) override {
    size_t n = 0;
    while (n < out.size()) {
      if (taken_ == ready_.size()) {
        ready_.clear();
        taken_ = 0;
        if (done_) break;
        step();
        continue;
      }
      out[n++] = ready_[taken_++];
    }
    return n;
  }

  void seek(uint64_t offset) override {
    ready_.clear();
    taken_ = 0;
    decoder_.reset();
    done_ = false;
    synced_ = false;
    stretch_ = kNone;
    mode_ = ptem_unknown;
    times_.forget_order();
    held_.reset();
    undo_patch();
    const size_t left = std::exchange(range_, 0);
    start_ = 0;
    gap_ = 0;
    unaccounted_ = 0;
    damage_ = 0;
    lost_to_ = 0;
    for (size_t i = ranges_.size(); i-- > 0;) {
      if (ranges_[i].begin > offset) continue;
      if (split_at_loss(i)) {
        i += 2;
        continue;
      }
      const Range& r = ranges_[i];
      const auto psb = last_psb(trace_.bytes.subspan(r.begin, r.end - r.begin), offset - r.begin);
      if (!psb) continue;
      range_ = i;
      start_ = r.begin + *psb;
      while (gap_ < trace_.map.gaps.size() && trace_.map.gaps[gap_].offset < start_) ++gap_;
      unaccounted_ = trace_.first_stretch_from(start_);
      damage_ = gap_;
      break;
    }
    if (range_ != left) copy_.clear();
  }

 private:
  struct Range {
    uint64_t begin, end;
    uint64_t lost_to = 0;  // what lies between its end and this is not what was written any more; 0: nothing
  };
  struct CallKind {
    uint64_t ip = 0;
    const CodeImage* code = nullptr;
    pt_exec_mode mode = ptem_unknown;
    BlockEnd end = BlockEnd::none;
  };
  static constexpr size_t kCallKinds = 1 << 12;
  struct Run {
    uint64_t ip = 0, end_ip = 0;
    const CodeImage* code = nullptr;
    pt_exec_mode mode = ptem_unknown;
    uint32_t count = 0;
    bool operator==(const Run&) const = default;
  };
  static constexpr size_t kRuns = 1 << 10;
  static constexpr uint64_t kMaxInsn = 15;   // bytes
  static constexpr uint32_t kNotTold = ~0u;  // in pt_event::lost_mtc: libipt wrote no event

  // ---- the machine: each step makes some progress and leaves zero or more events in ready_
  void step() {
    if (!decoder_ || !synced_ || status_ & (pts_event_pending | pts_eos)) release_block();
    if (!decoder_) {
      open_range();
    } else if (!synced_) {
      sync_at_psb(find_psb(start_));
    } else if (status_ & pts_event_pending) {
      take_event();
    } else if (status_ & pts_eos) {
      end_range();
    } else {
      take_block();
    }
  }

  void open_range() {
    if (range_ >= ranges_.size()) {
      emit_packet_gaps(trace_.bytes.size() + 1);
      done_ = true;
      return;
    }
    split_at_loss(range_);
    const Range& r = ranges_[range_];
    // libipt takes a pointer to mutable bytes but does not write to them.
    make_decoder(copy_.empty() ? const_cast<uint8_t*>(trace_.bytes.data()) + r.begin : copy_.data());
    if (!decoder_) {
      gap(GapCause::unsupported, r.begin, r.end, 0);
      ++range_;
      return;
    }
    start_ = std::max(start_, r.begin);
    synced_ = false;
  }

  /// Brings a range into memory. True: its bytes are not what was written any more from where it ends now, and the next range
  /// is what follows.
  bool split_at_loss(size_t range) {
    Range& r = ranges_[range];
    const uint64_t lost = bytes_.cover(r.begin, r.end);
    if (lost == r.end) return false;
    copy_.clear();
    r.lost_to = trace_.first_whole_psb(bytes_, lost + 1, r.end);
    const bool goes_on = r.lost_to < r.end;
    const Range behind{r.lost_to, std::exchange(r.end, lost)};
    bytes_.cover(r.begin, r.end);
    if (goes_on) ranges_.insert(ranges_.begin() + static_cast<ptrdiff_t>(range) + 1, behind);
    return goes_on;
  }

  void make_decoder(uint8_t* bytes) {
    const Range& r = ranges_[range_];
    pt_config c = config_;
    c.begin = bytes;
    c.end = bytes + (r.end - r.begin);
    decoder_.reset(pt_blk_alloc_decoder(&c));
    code_.reset();
    image_.reset();
    patch_at_ = kNone;
  }

  void end_range() {
    leave_stretch();
    account_for_before(trace_.first_stretch_from(ranges_[range_].end));
    emit_packet_gaps(ranges_[range_].end);
    if (ranges_[range_].lost_to != 0) gap(GapCause::cut, ranges_[range_].end, ranges_[range_].lost_to, 0);
    decoder_.reset();
    copy_.clear();
    patch_at_ = kNone;
    synced_ = false;
    ++range_;
    start_ = 0;
  }

  /// At the first PSB from there on, in the next step.
  void sync_later(uint64_t from) {
    leave_stretch();
    synced_ = false;
    start_ = from;
  }

  /// Offset of the first PSB from there on in the range, or its end.
  uint64_t find_psb(uint64_t from) {
    const uint64_t end = ranges_[range_].end;
    if (psbs_.bytes().size() != end) psbs_ = PsbSearch(trace_.bytes.first(end));
    return psbs_.next(from).value_or(end);
  }

  void sync_at_psb(uint64_t psb) {
    const Range& r = ranges_[range_];
    leave_stretch();
    resumed_ = kNone;
    if (psb >= r.end || !decoder_) {
      end_range();
      return;
    }
    undo_patch();
    sync_ = psb;
    samples_ = {psb, psb, psb};
    mode_ = ptem_unknown;
    status_ = pt_blk_sync_set(decoder_.get(), psb - r.begin);
    emit_packet_gaps(psb + 1);  // a gap without bytes may lie at the PSB itself
    synced_ = true;
    circle_.reset();
    if (status_ < 0) {
      synced_ = false;
      start_ = psb + kPsb.size();
      if (status_ == -pte_eos) return;
      const uint64_t next = find_psb(start_);
      gap(GapCause::desync, psb, next, 0);
      start_ = next;
      return;
    }
    // A PSB+ with a FUP says that tracing is on; libipt 2.0 makes no event of it.
    if (!(status_ & pts_ip_suppressed)) enter_stretch(0, StretchStart::resync);
  }

  /// Continues where stretch s begins, which need not be at a PSB: libipt can only start at one, so a copy of the trace
  /// gets a PSB+ written over the (already used) bytes in front.
  bool sync_at_stretch(size_t s) {
    const Range& r = ranges_[range_];
    const Stretch& st = trace_.map.stretches[s];
    const bool turned_on = st.start == StretchStart::enabled;
    resumed_ = kNone;
    PacketReader reader(trace_.bytes.first(r.end));
    reader.seek(st.begin);
    Packet first;
    if (!decoder_ || reader.next(first) != Step::ok) return false;
    std::vector<uint8_t> p(kPsb.begin(), kPsb.end());
    const auto ip_packet = [&p, &st](uint8_t opcode) {
      p.push_back(static_cast<uint8_t>(opcode | 6u << 5));  // IPBytes 110b: full IP
      for (int i = 0; i < 64; i += 8) p.push_back(static_cast<uint8_t>(st.begin_ip >> i));
    };
    const uint8_t mode_exec[] = {0x99, st.bits == 16 ? uint8_t{0} : st.bits == 32 ? uint8_t{2} : uint8_t{1}};
    const uint8_t psbend[] = {0x02, 0x23};
    if (turned_on) {
      p.insert(p.end(), std::begin(psbend), std::end(psbend));
      p.insert(p.end(), std::begin(mode_exec), std::end(mode_exec));
      ip_packet(0x11);  // TIP.PGE
    } else {
      p.insert(p.end(), std::begin(mode_exec), std::end(mode_exec));
      ip_packet(0x1d);  // FUP
      p.insert(p.end(), std::begin(psbend), std::end(psbend));
    }
    if (reader.offset() < r.begin + p.size()) return false;

    if (copy_.empty()) {
      copy_.assign(trace_.bytes.begin() + static_cast<ptrdiff_t>(r.begin),
                   trace_.bytes.begin() + static_cast<ptrdiff_t>(r.end));
      make_decoder(copy_.data());
      if (!decoder_) return false;
    }
    undo_patch();
    patch_at_ = reader.offset() - p.size() - r.begin;
    patch_size_ = p.size();
    std::copy(p.begin(), p.end(), copy_.begin() + static_cast<ptrdiff_t>(patch_at_));
    sync_ = r.begin + patch_at_;
    status_ = pt_blk_sync_set(decoder_.get(), patch_at_);
    synced_ = true;
    mode_ = ptem_unknown;
    samples_ = {st.begin, st.begin, st.begin};
    circle_.reset();
    emit_packet_gaps(st.begin);
    if (status_ < 0) return false;
    resumed_ = s;
    if (!turned_on) enter_stretch(st.begin_ip, StretchStart::resync);
    return true;
  }

  void undo_patch() {
    if (patch_at_ == kNone) return;
    const auto* from = trace_.bytes.data() + ranges_[range_].begin + patch_at_;
    std::copy(from, from + patch_size_, copy_.begin() + static_cast<ptrdiff_t>(patch_at_));
    patch_at_ = kNone;
  }

  struct PacketDecoderDeleter {
    void operator()(pt_packet_decoder* d) const { pt_pkt_free_decoder(d); }
  };
  using PacketDecoder = std::unique_ptr<pt_packet_decoder, PacketDecoderDeleter>;

  /// Reads the packets from a packet's offset on; nullptr when libipt cannot.
  PacketDecoder packet_decoder(uint64_t offset) const {
    pt_config c = config_;
    c.begin = const_cast<uint8_t*>(trace_.bytes.data());
    c.end = c.begin + ranges_[range_].end;
    PacketDecoder d(pt_pkt_alloc_decoder(&c));
    if (d && pt_pkt_sync_set(d.get(), offset) < 0) d.reset();
    return d;
  }

  // ---- stretches and code
  void sample_position() {
    uint64_t p = 0;
    if (pt_blk_get_offset(decoder_.get(), &p) < 0) return;
    p += ranges_[range_].begin;
    if (p > samples_[2]) samples_ = {samples_[1], samples_[2], p};
  }
  uint64_t position() const { return samples_[2]; }

  /// Into the stretches that the one it is in was cut into, as far as it has used the trace. libipt does not say where in between
  /// packets it stands, so the code may change a packet early or late.
  void go_on_with_cut() {
    const auto& all = trace_.map.stretches;
    while (stretch_ != kNone && all[stretch_].how == StretchEnd::handover && samples_[1] > all[stretch_].end) {
      unaccounted_ = std::max(unaccounted_, ++stretch_ + 1);
      if (auto code = images_.image_at(all[stretch_].begin, Ip(0))) use(std::move(code), 0);
    }
  }

  void leave_stretch() {
    stretch_ = kNone;
    last_block_ = {};
  }

  /// libipt says that tracing is on at ip: by a packet before position(), or by the PSB+ it was synchronised at.
  /// False when the code is not known; the decoder then stands at the next stretch whose code is.
  bool enter_stretch(uint64_t ip, StretchStart how) {
    const auto& all = trace_.map.stretches;
    size_t s = kNone;
    if (resumed_ != kNone) {
      s = std::exchange(resumed_, kNone);
    } else if (how == StretchStart::resync) {
      const size_t before = trace_.stretch_at(sync_);
      if (before < all.size() && sync_ < all[before].end) s = before;
      const size_t after = before < all.size() ? before + 1 : 0;
      if (s == kNone && after < all.size() && all[after].sync == sync_ && all[after].start != StretchStart::enabled)
        s = after;
    } else {
      // libipt may have read over the next TIP.PGE already, or stand before this one.
      size_t next = next_to_enter();
      const auto is_it = [&](const Stretch& st) { return st.start == how && st.begin_ip == ip; };
      while (next < all.size() && all[next].begin <= position() && !is_it(all[next])) ++next;
      if (next < all.size() && all[next].begin <= position()) s = next;
    }
    if (s != kNone) {
      account_for_before(s);
      unaccounted_ = std::max(unaccounted_, s + 1);
    }
    stretch_ = s;
    const uint64_t offset = s == kNone ? position() : all[s].begin;
    std::shared_ptr<const CodeImage> code = images_.image_at(offset, Ip(ip));
    if (!code) {
      skip_unattributed(offset);
      return false;
    }
    use(std::move(code), s == kNone ? 0 : all[s].bits);
    return true;
  }

  size_t next_to_enter() const { return std::max(unaccounted_, trace_.first_stretch_from(lost_to_)); }

  void prepare() {
    const size_t before = trace_.stretch_at(position()), next = next_to_enter();
    const auto& all = trace_.map.stretches;
    if (next >= all.size()) return;
    const Stretch& st = all[before < all.size() ? std::max(before, next) : next];
    if (auto code = images_.image_at(st.begin, Ip(st.begin_ip))) use(std::move(code), st.bits);
  }

  /// bits: 0 when nothing says.
  void use(std::shared_ptr<const CodeImage> code, int bits) {
    if (bits == 0) bits = bits_of(mode_);
    if (code == code_ && bits == image_bits_) return;
    image_ = code_cache_->image_of(code, bits);
    image_bits_ = bits;
    code_ = std::move(code);
    pt_blk_set_image(decoder_.get(), image_.get());
  }

  /// Of a stretch that libipt passed over without a word nothing is known; damage between stretches it need not notice.
  void account_for_before(size_t s) {
    const auto& all = trace_.map.stretches;
    const auto& gaps = trace_.map.gaps;
    const auto damage_before = [&](uint64_t offset) {
      for (; damage_ < gaps.size() && gaps[damage_].offset < offset; ++damage_) {
        const Event& g = gaps[damage_];
        if (g.cause == GapCause::desync && g.offset + g.count > lost_to_)
          gap(g.cause, std::max(g.offset, lost_to_), g.offset + g.count, 0);
      }
    };
    for (; unaccounted_ < s; ++unaccounted_) {
      const Stretch& st = all[unaccounted_];
      damage_before(st.begin);
      if (st.begin >= lost_to_) gap(GapCause::desync, st.begin, st.end, st.begin_ip);
    }
    damage_before(s < all.size() ? all[s].begin : ranges_[range_].end);
  }

  void skip_unattributed(uint64_t offset) {
    const auto& all = trace_.map.stretches;
    const Range& r = ranges_[range_];
    size_t s = stretch_;
    if (s == kNone) {
      // Packets and libipt do not agree on where tracing is on: nothing can be said up to the next PSB.
      const uint64_t next = find_psb(std::max(position(), sync_ + 1));
      gap(GapCause::unattributed, offset, next, 0);
      sync_later(next);
      return;
    }
    for (; s < all.size() && all[s].begin < r.end; ++s) {
      if (s != stretch_ && images_.image_at(all[s].begin, Ip(all[s].begin_ip))) {
        if (resume_from_stretch(s)) return;
        continue;
      }
      emit_packet_gaps(all[s].begin);
      emit(unattributed_gap(all[s]));
    }
    end_range();
  }

  /// By its own PSB when it begins at one, else by writing one in front.
  bool resume_from_stretch(size_t s) {
    const Stretch& st = trace_.map.stretches[s];
    if (st.start == StretchStart::resync) {
      sync_later(st.sync);
      return true;
    }
    if (st.begin_ip != 0 && sync_at_stretch(s)) return true;
    // Not enough room in front: then its PSB is close, and nothing else is in between.
    if (st.sync >= ranges_[range_].begin && (s == 0 || trace_.map.stretches[s - 1].end < st.sync)) {
      sync_later(st.sync);
      return true;
    }
    gap(GapCause::desync, st.begin, st.end, st.begin_ip);
    return false;
  }

  // ---- what libipt says
  void take_event() {
    // libipt looks at the code behind a TIP.PGE while it tells of it.
    if (stretch_ == kNone)
      prepare();
    else
      go_on_with_cut();
    pt_event ev;
    ev.lost_mtc = kNotTold;
    const int status = pt_blk_event(decoder_.get(), &ev, sizeof ev);
    sample_position();
    // An error may be that of what follows the event.
    if (status >= 0) status_ = status;
    if (ev.lost_mtc != kNotTold && !tell(ev)) return;
    if (status < 0) fail(status, 0);
  }

  /// False when the decoder was moved elsewhere.
  bool tell(const pt_event& ev) {
    circle_.reset();
    last_block_ = {};
    const auto& all = trace_.map.stretches;
    const bool just_enabled = just_enabled_;
    just_enabled_ = ev.type == ptev_enabled || (just_enabled && ev.type == ptev_exec_mode);
    Event e;
    switch (ev.type) {
      case ptev_enabled: {
        if (ev.status_update) return true;  // known since the synchronisation
        if (!enter_stretch(ev.variant.enabled.ip, StretchStart::enabled)) return false;
        if (stretch_ == kNone) return true;  // packets say that tracing is off: no block will be told
        e.kind = EventKind::enabled;
        e.ip = ev.variant.enabled.ip;
        break;
      }
      case ptev_disabled:
        if (ev.status_update) {
          leave_stretch();
          return true;
        }
        e.kind = EventKind::disabled;
        if (!ev.ip_suppressed) e.to = ev.variant.disabled.ip;
        break;
      case ptev_async_disabled:
        e.kind = EventKind::async_disabled;
        e.ip = ev.variant.async_disabled.at;
        if (!ev.ip_suppressed) e.to = ev.variant.async_disabled.ip;
        break;
      case ptev_async_branch:
        e.kind = EventKind::async_branch;
        e.ip = ev.variant.async_branch.from;
        if (!ev.ip_suppressed) e.to = ev.variant.async_branch.to;
        break;
      case ptev_overflow:
        return overflow(ev);
      case ptev_paging:
      case ptev_async_paging:
        if (ev.status_update) return true;
        e.kind = EventKind::paging;
        e.to = ev.type == ptev_paging ? ev.variant.paging.cr3 : ev.variant.async_paging.cr3;
        break;
      case ptev_exec_mode: {
        const int of_stretch = stretch_ == kNone ? 0 : all[stretch_].bits;
        const int before = mode_ == ptem_unknown ? of_stretch : bits_of(mode_);
        mode_ = ev.variant.exec_mode.mode;
        if (code_) use(code_, bits_of(mode_));
        if (ev.status_update || before == bits_of(mode_) || before == 0 || just_enabled) return true;
        e.kind = EventKind::exec_mode;
        e.count = static_cast<uint32_t>(bits_of(mode_));
        if (!ev.ip_suppressed) e.ip = ev.variant.exec_mode.ip;
        break;
      }
      case ptev_tsx:
        if (ev.status_update) return true;
        e.kind = EventKind::tsx;
        e.count = ev.variant.tsx.speculative | ev.variant.tsx.aborted << 1;
        if (!ev.ip_suppressed) e.ip = ev.variant.tsx.ip;
        break;
      case ptev_stop:
        e.kind = EventKind::stopped;
        break;
      case ptev_ptwrite:
        e.kind = EventKind::ptwrite;
        e.to = ev.variant.ptwrite.payload;
        if (!ev.ip_suppressed) e.ip = ev.variant.ptwrite.ip;
        break;
      default:
        return true;  // power, VMCS and maintenance events are not part of a flow
    }
    if (stretch_ == kNone && e.kind != EventKind::enabled) return true;  // a PIP while tracing is off, for one
    const bool ends = e.kind == EventKind::disabled || e.kind == EventKind::async_disabled;
    place(e);
    if (stretch_ != kNone) {
      const Stretch& st = all[stretch_];
      if (e.kind == EventKind::enabled) {
        e.offset = st.begin;
        e.time = st.begin_time;
      } else if (ends) {
        e.offset = st.end;
        e.time = st.end_time;
      }
    }
    emit(e);
    if (!ends) return true;
    if (stretch_ != kNone && all[stretch_].stopped) emit(stopped_event(all[stretch_]));
    leave_stretch();
    return true;
  }

  bool overflow(const pt_event& ev) {
    const bool resolved_on = !ev.ip_suppressed;
    // The packets of the OVF and of what resolves it are the packet scan's gap; it starts where the last stretch ended.
    Event e;
    e.kind = EventKind::overflow;
    if (resolved_on) e.to = ev.variant.overflow.ip;
    place(e);
    if (stretch_ != kNone) e.offset = trace_.map.stretches[stretch_].end;
    emit(e);
    Event g = e;
    g.kind = EventKind::gap;
    g.cause = GapCause::pt_overflow;
    g.to = 0;
    leave_stretch();
    if (resolved_on) {
      g.time.latest = std::max(g.time.latest, times_.window(samples_[1], position()).latest);
      emit(g);
      return enter_stretch(ev.variant.overflow.ip, StretchStart::overflow);
    }
    const size_t after = trace_.stretch_at(e.offset);
    const size_t next = after < trace_.map.stretches.size() ? after + 1 : 0;
    if (next < trace_.map.stretches.size())
      g.time.latest = std::max(g.time.latest, trace_.map.stretches[next].begin_time.earliest);
    emit(g);
    // It does not look for the FUP into a PSB+ behind the OVF.
    if (next < trace_.map.stretches.size() && trace_.map.stretches[next].start == StretchStart::overflow &&
        trace_.map.stretches[next].sync > e.offset) {
      sync_later(trace_.map.stretches[next].sync);
      return false;
    }
    return true;
  }

  void take_block() {
    // Without a mode libipt knows only the code that it remembers from other walks. The same bytes must give the same events.
    if (mode_ == ptem_unknown) {
      fail(-pte_bad_insn, stretch_ == kNone ? 0 : trace_.map.stretches[stretch_].begin_ip);
      return;
    }
    go_on_with_cut();
    pt_block b;
    b.ninsn = 0;
    b.ip = 0;
    const int status = pt_blk_next(decoder_.get(), &b, sizeof b);
    just_enabled_ = false;
    sample_position();
    if (b.ninsn > 0 && stretch_ == kNone) {
      // Packets say that tracing is off here: malformed trace, such as a PSB+ with a FUP that nothing announces.
      fail(status == -pte_eos ? status : -pte_bad_status_update, b.ip);
      return;
    }
    if (b.ninsn > 0 && runs_branch_again(b.ip)) {
      fail(-pte_noip, b.ip);
      return;
    }
    if (b.ninsn > 0) {
      Event e;
      e.kind = EventKind::block;
      e.end = block_end(b);
      e.count = b.ninsn;
      e.ip = b.ip;
      e.last_ip = b.end_ip;
      place(e);
      if (!goes_on(b) || (!is_one_run(b) && !split(e, bits_of(b.mode)))) {
        fail(-pte_bad_insn, e.ip);
        return;
      }
      go_on_from(held_, e);
      if (e.end == BlockEnd::none && status >= 0)
        held_ = e;
      else
        emit(e);
      last_block_ = e;
      const bool free_of_trace =
          e.end == BlockEnd::none || e.end == BlockEnd::direct_jump || e.end == BlockEnd::direct_call;
      if (!free_of_trace) {
        circle_.reset();
      } else if (status >= 0 && circle_.is_circle(b.ip)) {
        fail(-pte_bad_query, b.ip);
        return;
      }
    }
    if (status < 0) {
      fail(status, status == -pte_nomap ? missing_ip(b) : b.ninsn > 0 ? b.end_ip : b.ip);
      return;
    }
    status_ = status;
  }

  /// A block that ended nowhere must go on right behind.
  bool goes_on(const pt_block& b) const {
    return !held_ || (b.ip > held_->last_ip && b.ip - held_->last_ip <= kMaxInsn);
  }

  /// On its way to some events libipt runs over direct jumps and calls, and elsewhere over bytes that are no instruction.
  /// Each block is looked at once.
  bool is_one_run(const pt_block& b) {
    if (b.ninsn < 2 || !code_) return true;
    runs_.resize(kRuns);
    Run& known = runs_[(b.ip ^ b.ip >> 10 ^ b.end_ip << 3) % kRuns];
    const Run run = {b.ip, b.end_ip, code_.get(), b.mode, b.ninsn};
    if (known == run) return true;
    uint64_t at = b.ip;
    for (uint32_t n = 1; n < b.ninsn; ++n) {
      const X86Insn i = decode_x86(*code_, Ip(at), bits_of(b.mode));
      if (i.length == 0 || i.end == BlockEnd::direct_jump || i.end == BlockEnd::direct_call) return false;
      at += i.length;
    }
    if (at != b.end_ip) return false;
    known = run;
    return true;
  }

  /// Tells what ran up to the last direct jump or call inside; the block becomes what comes behind it. False when the code
  /// does not lead to the block's end.
  bool split(Event& block, int bits) {
    uint64_t at = block.ip;
    for (uint32_t n = 1; n < block.count; ++n) {
      const X86Insn i = decode_x86(*code_, Ip(at), bits);
      if (i.length == 0) return false;
      if (i.end != BlockEnd::direct_jump && i.end != BlockEnd::direct_call) {
        at += i.length;
        continue;
      }
      Event piece = block;
      piece.end = i.end;
      piece.count = n;
      piece.last_ip = at;
      go_on_from(held_, piece);
      emit(piece);
      block.ip = at = i.target;
      block.count -= n;
      n = 0;
    }
    return at == block.last_ip;
  }

  /// A TIP may come without an IP; libipt 2.0.5 then says so for code that it meets for the first time, but runs the branch
  /// again when it knows the code. True when a block that starts at ip is such a second run.
  bool runs_branch_again(uint64_t ip) const {
    const BlockEnd end = last_block_.end;
    if (ip != last_block_.last_ip || (end != BlockEnd::near_ret && end != BlockEnd::indirect_call &&
                                      end != BlockEnd::indirect_jump && end != BlockEnd::far_transfer))
      return false;
    // A branch to itself is as good as never seen, so there is time to look at the packets.
    const PacketDecoder d = packet_decoder(samples_[0]);
    pt_packet packet;
    uint64_t offset = 0;
    while (d && pt_pkt_get_offset(d.get(), &offset) >= 0 && offset < position() &&
           pt_pkt_next(d.get(), &packet, sizeof packet) >= 0) {
      if (packet.type == ppt_tip && packet.payload.ip.ipc == pt_ipc_suppressed) return true;
    }
    return false;
  }

  BlockEnd block_end(const pt_block& b) {
    switch (b.iclass) {
      case ptic_return:
        return BlockEnd::near_ret;
      case ptic_cond_jump:
        return BlockEnd::cond_branch;
      case ptic_other:
      case ptic_ptwrite:
        return BlockEnd::none;
      case ptic_far_call:
      case ptic_far_return:
      case ptic_far_jump:
      case ptic_call:
      case ptic_jump:
      case ptic_error:
        break;
    }
    // libipt does not say whether a jump or call is direct, takes some bytes for a far one that are no instruction, and
    // knows nothing of what it remembers from other walks: each one is looked at once.
    call_kinds_.resize(kCallKinds);
    CallKind& k = call_kinds_[(b.end_ip ^ b.end_ip >> 12) % kCallKinds];
    if (k.ip != b.end_ip || k.code != code_.get() || k.mode != b.mode) {
      k.ip = b.end_ip;
      k.code = code_.get();
      k.mode = b.mode;
      k.end = last_insn(b).end;
    }
    return k.end;
  }

  X86Insn last_insn(const pt_block& b) const {
    if (b.truncated)
      return decode_x86(ByteSpan(b.raw, std::min<size_t>(b.size, sizeof b.raw)), Ip(b.end_ip), bits_of(b.mode));
    return code_ ? decode_x86(*code_, Ip(b.end_ip), bits_of(b.mode)) : X86Insn{};
  }

  /// The address whose code is missing, when it is known.
  uint64_t missing_ip(const pt_block& b) const {
    if (b.ninsn == 0) return b.ip;
    const X86Insn i = last_insn(b);
    if (i.length == 0) return 0;
    switch (i.end) {
      case BlockEnd::none:
        return b.end_ip + i.length;
      case BlockEnd::direct_jump:
      case BlockEnd::direct_call:
        return i.target;
      default:
        return 0;
    }
  }

  // ---- errors
  GapCause why_missing(uint64_t ip) const {
    return code_ && ip != 0 ? why_no_instruction(*code_, Ip(ip)) : GapCause::image_missing;
  }
  /// libipt has other words for it where it looks for the address that a PSB+ names.
  bool meets_unknown_code(uint64_t ip) const {
    return code_ && ip != 0 && decode_x86(*code_, Ip(ip), bits_of(mode_)).length == 0 &&
           why_no_instruction(*code_, Ip(ip)) == GapCause::code_version_unknown;
  }

  void fail(int status, uint64_t ip) {
    release_block();
    if (status == -pte_eos) {
      end_range();
      return;
    }
    const GapCause cause = status == -pte_nomap           ? why_missing(ip)
                           : status == -pte_not_supported ? GapCause::unsupported
                           : meets_unknown_code(ip)       ? GapCause::code_version_unknown
                                                          : GapCause::desync;
    const auto& all = trace_.map.stretches;
    uint64_t at = std::min(position(), ranges_[range_].end);  // it may read over a last packet that is cut short
    if (stretch_ == kNone) account_for_before(trace_.first_stretch_from(at));
    const uint64_t psb = find_psb(std::max(at, sync_ + 1));
    if (resync_ == Resync::earliest) {
      size_t s = at == 0 ? 0 : trace_.stretch_at(at - 1) + 1;
      if (at != 0 && s > all.size()) s = 0;  // no stretch begins before: the first one is next
      for (; s < all.size() && all[s].begin < psb; ++s) {
        if (all[s].start == StretchStart::resync || all[s].begin_ip == 0) continue;
        gap(cause, at, all[s].begin, ip);
        leave_stretch();
        if (sync_at_stretch(s)) return;
        at = all[s].begin;
        break;
      }
    }
    gap(cause, at, psb, ip);
    sync_at_psb(psb);
  }

  // ---- events
  /// Between the packet before the last one that libipt used and the next one it will use.
  void place(Event& e) {
    times_.place(e, samples_[0], position(), stretch_ == kNone ? nullptr : &trace_.map.stretches[stretch_]);
  }

  void gap(GapCause cause, uint64_t from, uint64_t to, uint64_t ip) {
    Event e;
    e.kind = EventKind::gap;
    e.cause = cause;
    e.ip = ip;
    place(e);
    if (stretch_ == kNone) e.offset = from;
    e.count = saturate(to > e.offset ? to - e.offset : 0);
    e.time.latest = std::max(e.time.latest, trace_.times.window(from, std::max(from, to)).latest);
    emit(e);
  }

  /// What the packet scan knows to be missing before offset. Overflows and malformed packets are not repeated: libipt
  /// meets them too.
  void emit_packet_gaps(uint64_t offset) {
    const auto& gaps = trace_.map.gaps;
    for (; gap_ < gaps.size() && gaps[gap_].offset < offset; ++gap_) {
      if (gaps[gap_].cause == GapCause::not_captured || gaps[gap_].cause == GapCause::cut) emit(gaps[gap_]);
    }
  }

  /// Where libipt ends a block without a branch or an event depends on what it remembers of other walks over the same
  /// code. The same bytes must give the same events, so such a piece waits for what follows it.
  void release_block() {
    if (!held_) return;
    const Event e = *held_;
    held_.reset();
    emit(e);
  }

  void emit(Event e) {
    if (e.kind == EventKind::gap) lost_to_ = std::max(lost_to_, e.offset + e.count);
    times_.bound(e);
    ready_.push_back(e);
  }

  const PtTrace& trace_;
  TraceBytes bytes_;  // of the range that is decoded: libipt reads where it wants
  EventTimes times_;
  pt_config config_;
  Resync resync_;
  ImageSelector& images_;
  std::shared_ptr<IptCode> code_cache_;

  std::vector<Range> ranges_;  // between cuts; libipt sees one at a time
  size_t range_ = 0;
  std::unique_ptr<pt_block_decoder, DecoderDeleter> decoder_;
  bool synced_ = false, done_ = false;
  PsbSearch psbs_{{}};  // up to the range's end
  uint64_t start_ = 0;  // look for a PSB from here
  uint64_t sync_ = 0;   // where libipt was synchronised
  int status_ = 0;
  pt_exec_mode mode_ = ptem_unknown;  // as the last MODE.Exec said
  bool just_enabled_ = false;         // a mode that comes with it is how the stretch begins, not a change inside
  std::vector<uint8_t> copy_;         // of the range, once a PSB+ had to be written into it
  uint64_t patch_at_ = kNone;         // in copy_
  size_t patch_size_ = 0;

  std::array<uint64_t, 3> samples_{};  // the last three different read positions of libipt
  size_t stretch_ = kNone;             // where the flow is
  size_t resumed_ = kNone;             // where sync_at_stretch() went, until libipt says so
  size_t gap_ = 0;                     // next of map.gaps
  size_t unaccounted_ = 0;             // the first stretch behind the one that was entered last
  size_t damage_ = 0;                  // next of map.gaps that libipt may not notice
  uint64_t lost_to_ = 0;               // gaps were told up to here
  std::shared_ptr<const CodeImage> code_;
  std::shared_ptr<pt_image> image_;
  int image_bits_ = 0;
  std::vector<CallKind> call_kinds_;  // both from their first use on: most of what setting up would cost
  std::vector<Run> runs_;
  CircleGuard circle_;
  Event last_block_;           // while nothing but blocks came since
  std::optional<Event> held_;  // a block that ended nowhere, as far as libipt went

  std::vector<Event> ready_;  // made and not yet handed out, from taken_ on
  size_t taken_ = 0;
};

}  // namespace

Result<std::unique_ptr<FlowDecoder>> make_libipt_decoder(const PtTrace& trace, const DecodeConfig& config,
                                                         ImageSelector& images, std::shared_ptr<IptCode> code) {
  pt_config c;
  pt_config_init(&c);
  c.cpu.vendor = config.cpu.intel ? pcv_intel : pcv_unknown;
  c.cpu.family = config.cpu.family;
  c.cpu.model = config.cpu.model;
  c.cpu.stepping = config.cpu.stepping;
  c.mtc_freq = config.options.mtc_period;
  c.nom_freq = config.cpu.nominal_ratio;
  c.cpuid_0x15_eax = config.cpu.tsc_ctc_den;
  c.cpuid_0x15_ebx = config.cpu.tsc_ctc_num;
  c.flags.variant.block.end_on_call = 1;  // so that a block's instructions are contiguous
  c.flags.variant.block.end_on_jump = 1;
  // Nearly all Intel big cores have BDM70; a CPU that libipt does not know is taken for one of them, since the
  // workaround changes nothing on a CPU without the erratum.
  if (config.cpu.intel && (config.cpu.family == 0 || pt_cpu_errata(&c.errata, &c.cpu) < 0)) c.errata.bdm70 = 1;

  static uint8_t probe[16] = {};
  c.begin = probe;
  c.end = probe + sizeof probe;
  pt_block_decoder* test = pt_blk_alloc_decoder(&c);
  if (!test)
    return Error{Errc::unsupported, "cannot decode this trace: libipt rejects its configuration",
                 "cpu family " + std::to_string(config.cpu.family) + " model " + std::to_string(config.cpu.model),
                 "check the CPU and the timing constants stored with the trace"};
  pt_blk_free_decoder(test);
  return std::unique_ptr<FlowDecoder>(std::make_unique<LibiptEngine>(trace, c, config.resync, images, std::move(code)));
}

}  // namespace hindcast::decode
