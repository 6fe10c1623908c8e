#include "decode/fast/lanes.h"

#include <algorithm>
#include <array>

#include "decode/fast/lane_writer.h"
#include "decode/fast/lex_lines.h"
#include "decode/packet_reader.h"

namespace hindcast::decode {
namespace {

/// Bytes lexed in one go: what comes out of them stays in the second-level cache. Who wants to know little does not wait for
/// all of that, nor for the memory.
constexpr uint64_t kFirstPiece = uint64_t{4} << 10, kPiece = uint64_t{32} << 10;
/// The most bits and TIPs that one byte of packets can give: a TNT of one byte has six, a TIP at least one byte.
constexpr uint64_t kBitsPerByte = 6;

/// The fewest bytes that two of TntsAt stand for are a long TNT and one behind it, or 64 where lexing begins anew.
constexpr uint64_t kBytesPerTnts = 2, kRoomForTnts = 8;

/// Fewer bytes are quicker one by one than as a line.
constexpr uint64_t kFewestInLines = 24;

/// How a first byte is passed over: its packet's size and the TNT bits in it. size 0: looked at by itself.
struct Lex {
  uint8_t size = 0;
  uint8_t bits = 0;
  uint8_t payload = 0;
};

constexpr std::array<Lex, 256> lex_table() {
  std::array<Lex, 256> t{};
  for (size_t b = 0; b < t.size(); ++b) {
    const FirstByte& f = kFirstBytes[b];
    if (f.size == 0 || is_ip(f.kind) || f.kind == Kind::mode_exec) continue;
    t[b].size = f.size;
    if (f.kind != Kind::tnt) continue;
    t[b].bits = f.detail;
    t[b].payload = f.payload_bits;
  }
  return t;
}
constexpr std::array<Lex, 256> kLex = lex_table();

template <class T>
void drop_front(std::vector<T>& lane, size_t n, size_t size) {
  std::copy(lane.begin() + static_cast<ptrdiff_t>(n), lane.begin() + static_cast<ptrdiff_t>(size), lane.begin());
}

template <class T>
void make_room(std::vector<T>& lane, size_t n) {
  if (lane.size() < n) lane.resize(n);
}

void drop_used(Lanes& lanes, uint32_t bit, size_t tip) {
  const uint32_t bytes = bit >> 3;
  const uint32_t gone = bytes * 8;
  if (bit != 0) {
    // All before the last one that begins at or before the bit, and that too when no bit is left.
    const auto first = lanes.tnt_at.begin();
    const auto behind = std::upper_bound(first, first + static_cast<ptrdiff_t>(lanes.tnts), int64_t{bit},
                                         [](int64_t b, const Lanes::TntsAt& t) { return b < t.first_bit; });
    const auto tnt = static_cast<size_t>(behind - first) - (bit < lanes.bits ? 1 : 0);
    drop_front(lanes.tnt_at, tnt, lanes.tnts);
    lanes.tnts -= tnt;
  }
  if (gone != 0) {
    drop_front(lanes.tnt, bytes, (lanes.bits + 7) / 8);
    for (size_t i = 0; i < lanes.tnts; ++i) lanes.tnt_at[i].first_bit -= static_cast<int32_t>(gone);
    lanes.bits -= gone;
  }
  if (tip != 0) {
    drop_front(lanes.tip, tip, lanes.tips);
    drop_front(lanes.tip_bits, tip, lanes.tips);
    drop_front(lanes.tip_offset, tip, lanes.tips);
    lanes.tips -= tip;
  }
  if (gone != 0)
    for (size_t i = 0; i < lanes.tips; ++i) lanes.tip_bits[i] -= std::min(gone, lanes.tip_bits[i]);
}

void clear(Lanes& lanes) {
  lanes.bits = 0;
  lanes.tips = lanes.tnts = 0;
}

}  // namespace

LaneLexer::LaneLexer(TraceBytes& trace, uint64_t from, uint64_t end, uint64_t ip, Way way)
    : trace_(trace),
      lexes_lines_(way == Way::fastest && can_lex_lines()),
      at_(from),
      end_(end),
      limit_(end),
      piece_(kFirstPiece),
      most_(kMostInLines) {
  last_ip_.expand(IpBytes::full, ip);
}

void LaneLexer::limit(uint64_t limit) {
  limit_ = std::min(limit, end_);
  if (stop_ == Stop::end && at_ < limit_) stop_ = Stop::full;
}

/// Makes what lies between readable, and a line behind it.
void LaneLexer::cover(uint64_t from, uint64_t to) {
  const uint64_t wanted = std::min<uint64_t>(to + kReadBehindLines, trace_.all().size());
  const uint64_t covered = trace_.cover(from, wanted);
  from_ = from;
  meets_loss_ = covered < std::min(wanted, end_);
  readable_ = trace_.all().first(std::min(covered, end_));
  lines_end_ = lexes_lines_ && covered > kReadBehindLines ? covered - kReadBehindLines : 0;
}

PacketReader LaneLexer::reader_at(uint64_t offset) const {
  PacketReader reader(readable_);
  reader.seek(offset);
  return reader;
}

/// PacketReader::next(), of a reader of what is readable: that becomes more where the packet needs it.
Step LaneLexer::next(PacketReader& reader, Packet& packet) {
  for (;;) {
    const Step step = reader.next(packet);
    if (step == Step::ok || step == Step::bad || readable_.size() >= end_ || meets_loss_) return step;
    cover(from_, readable_.size() + kPiece);
    reader.see(readable_);
  }
}

/// BBP, BIPs, BEP and its FUP say nothing of the flow. Where they end.
uint64_t LaneLexer::pass_block(Packet p, PacketReader reader) {
  for (uint64_t behind = reader.offset();; behind = reader.offset()) {
    if (p.kind == Kind::bep && p.detail == 0) return behind;
    const bool fup_follows = p.kind == Kind::bep;
    do {
      if (next(reader, p) != Step::ok) return behind;
    } while (is_timing(p.kind));
    if (fup_follows && p.kind == Kind::fup) {
      expand_ip(last_ip_, p);
      return reader.offset();
    }
    if (fup_follows || (p.kind != Kind::bbp && p.kind != Kind::bip && p.kind != Kind::bep)) return behind;
  }
}

/// Reads what begins with the packet that was read. False: it ends with the stretch, or is not all as it was written.
bool LaneLexer::read_event(const Packet& first, PacketReader reader) {
  using Needs = PacketEventReader::Needs;
  event_.emplace(last_ip_);
  Packet p = first;
  Needs needs = event_->take(p, reader.offset());
  while (needs == Needs::more && next(reader, p) == Step::ok) needs = event_->take(p, reader.offset());
  if (needs == Needs::more && !meets_loss_) needs = event_->end(end_);
  return needs == Needs::none;
}

LaneLexer::Stop LaneLexer::more(Lanes& lanes, uint32_t bit, size_t tip) {
  drop_used(lanes, bit, tip);
  if (stop_ != Stop::full) return stop_;

  // Offsets are kept in 32 bits: the base moves on as what was used goes.
  uint64_t base = at_;
  if (lanes.tnts != 0) base = std::min(base, lanes.base + lanes.tnt_at[0].offset);
  if (lanes.tips != 0) base = std::min(base, lanes.base + lanes.tip_offset[0]);
  const auto moved = static_cast<uint32_t>(base - lanes.base);
  for (size_t i = 0; i < lanes.tnts; ++i) lanes.tnt_at[i].offset -= moved;
  for (size_t i = 0; i < lanes.tips; ++i) lanes.tip_offset[i] -= moved;
  lanes.base = base;

  uint64_t until = std::min(at_ + piece_, limit_);
  piece_ = std::min(2 * piece_, kPiece);
  cover(base, until);
  until = std::min<uint64_t>(until, readable_.size());
  const uint64_t piece = std::max(until, at_) - at_ + kMaxPacketBytes;
  make_room(lanes.tnt, (lanes.bits + piece * kBitsPerByte) / 8 + 16);
  make_room(lanes.tnt_at, lanes.tnts + piece / kBytesPerTnts + kRoomForTnts);
  make_room(lanes.tip, lanes.tips + piece);
  make_room(lanes.tip_bits, lanes.tips + piece);
  make_room(lanes.tip_offset, lanes.tips + piece);
  lex(lanes, until);
  return stop_;
}

void LaneLexer::lex(Lanes& lanes, uint64_t until) {
  while (stop_ == Stop::full && at_ < until) {
    const uint64_t to = std::min({at_ + most_, until, lines_end_});
    if (to < at_ + kFewestInLines) {
      lex_packets(lanes, until);
      continue;
    }
    at_ = lex_lines(readable_, at_, to, last_ip_, lanes);
    most_ = std::min(2 * most_, kMostInLines);
    if (at_ >= to) continue;
    // Where there is one packet that lines cannot hold (or one PSB) there may be many: the rest of the lines was read for
    // nothing.
    lex_packets(lanes, std::min(at_ + kLineBytes, until));
    most_ = kLineBytes;
  }
  if (stop_ == Stop::full && at_ >= limit_) stop_ = Stop::end;
  if (stop_ == Stop::full && at_ >= readable_.size()) stop_ = Stop::lost;
}

void LaneLexer::lex_packets(Lanes& lanes, uint64_t until) {
  const uint8_t* const bytes = readable_.data();
  uint64_t at = at_;
  LaneWriter out(lanes);
  while (at < until) {
    const Lex lex = kLex[bytes[at]];
    if (lex.size != 0) [[likely]] {
      out.short_tnt(at, lex.payload, lex.bits);
      at += lex.size;
      continue;
    }
    if (is_cyc(bytes[at])) {
      at = behind_cyc(readable_, at);
      continue;
    }
    PacketReader reader = reader_at(at);
    Packet p;
    if (next(reader, p) != Step::ok) {
      // Where all is as it was written, the packet scan found none of these in the stretch.
      stop_ = meets_loss_ ? Stop::lost : Stop::end;
      break;
    }
    if (p.kind == Kind::tip && p.has_ip()) {
      out.tip(at, last_ip_.expand(p.ip_bytes(), p.payload));
    } else if (p.kind == Kind::tnt_long) {
      out.long_tnt(at, p.payload, p.detail);
    } else if (p.kind == Kind::psb) {
      stop_ = Stop::psb;
      break;
    } else if (p.kind == Kind::bbp || p.kind == Kind::bep) {
      at = pass_block(p, reader);
      continue;
    } else if (PacketEventReader::begins_with(p)) {
      stop_ = read_event(p, reader) ? Stop::event : meets_loss_ ? Stop::lost : Stop::end;
      break;
    }
    at += p.size;
  }
  at_ = at;
  out.close();
}

uint64_t LaneLexer::cross_psb(Lanes& lanes) {
  clear(lanes);
  cover(at_, at_ + kMaxPacketBytes);
  last_ip_.reset();
  return read_psb(at_);
}

void LaneLexer::pass_psb() {
  cover(at_, at_ + kMaxPacketBytes);
  read_psb(end_);
}

/// What is left of a PSB+, or of the one that begins at psb. The address that its FUP gives, or 0.
uint64_t LaneLexer::read_psb(uint64_t psb) {
  PacketReader reader = reader_at(at_);
  uint64_t ip = 0;
  psb_bits_ = 0;
  Packet p;
  // Another PSB is one of its own: each byte is read once, however many there are.
  while (next(reader, p) == Step::ok && p.kind != Kind::psbend && !is_tnt(p.kind) && p.kind != Kind::tip &&
         (p.kind != Kind::psb || p.offset == psb)) {
    const uint64_t to = expand_ip(last_ip_, p);
    if (p.kind == Kind::fup) ip = to;
    if (p.kind == Kind::mode_exec) psb_bits_ = bits_of_mode(p);
    at_ = reader.offset();
  }
  if (p.kind == Kind::psbend) at_ = reader.offset();
  stop_ = at_ >= limit_ ? Stop::end : Stop::full;
  return ip;
}

PacketEvent LaneLexer::cross_event(Lanes& lanes) {
  clear(lanes);
  go_behind_event();
  return event_->event();
}

bool LaneLexer::make_far(PacketEvent& event) {
  if (!event_->take_far()) return false;
  go_behind_event();
  event = event_->event();
  return true;
}

void LaneLexer::go_behind_event() {
  at_ = event_->behind();
  last_ip_ = event_->behind_ip();
  stop_ = at_ >= limit_ ? Stop::end : Stop::full;
}

}  // namespace hindcast::decode
