#include "decode/packet_scan.h"

#include <algorithm>

namespace hindcast::decode {
namespace {

/// What it takes to read a packet right, and to see that it is none.
constexpr uint64_t kMostToRead = 2 * kMaxPacketBytes;

/// Whether the run of pairs that a PSB is part of may go on behind the bytes.
bool may_go_on(ByteSpan bytes, uint64_t psb) {
  while (psb + 2 <= bytes.size() && bytes[psb] == 0x02 && bytes[psb + 1] == 0x82) psb += 2;
  return psb + 2 > bytes.size();
}

}  // namespace

PacketScan::PacketScan(TraceBytes& trace, std::span<const uint64_t> cuts, bool skd007, uint64_t window)
    : trace_(trace), window_(window), ends_(cuts.begin(), cuts.end()), skd007_(skd007), reader_(trace.all().first(0)) {
  const uint64_t size = trace.all().size();
  ends_.push_back(size);
  std::sort(ends_.begin(), ends_.end());
  ends_.erase(std::unique(ends_.begin(), ends_.end()), ends_.end());
  std::erase_if(ends_, [&](uint64_t end) { return end > size || (end == 0 && size != 0); });
  begin_part(0, LostRange::Why::leftover);
}

void PacketScan::begin_part(uint64_t begin, LostRange::Why why) {
  reader_ = PacketReader(trace_.all().first(begin), skd007_);
  reader_.seek(begin);
  seen_to_ = begin;
  lose_sync(why);
}

void PacketScan::lose_sync(LostRange::Why why) {
  safe_to_ = 0;
  synced_ = false;
  unsynced_because_ = why;
}

void PacketScan::set_safe_to() { safe_to_ = sees_all() ? ~uint64_t{0} : std::max(seen_to_, kMostToRead) - kMostToRead; }

/// Covers another window, from a place on that is not behind the last one.
void PacketScan::read_on(uint64_t at) {
  seen_to_ = std::min(ends_[part_], seen_to_ + std::max(window_, seen_to_ - at));
  trace_.cover(at, seen_to_);
  reader_.see(trace_.all().first(seen_to_));
  if (reader_.offset() != at) reader_.seek(at);
  set_safe_to();
}

bool PacketScan::see_more() {
  if (sees_all()) return false;
  read_on(reader_.offset());
  return true;
}

/// To the next PSB, or the end of the part.
void PacketScan::resync() {
  const uint64_t from = reader_.offset();
  for (;;) {
    const bool found = reader_.resync();
    if (sees_all() || (found && !may_go_on(reader_.bytes(), reader_.offset()))) break;
    read_on(from);
  }
  synced_ = true;
  set_safe_to();
}

PacketScan::Found PacketScan::next_other(Packet& packet, LostRange& lost) {
  for (;;) {
    if (!synced_) {
      lost.why = unsynced_because_;
      lost.from = reader_.offset();
      resync();
      lost.to = reader_.offset();
      if (lost.to > lost.from || lost.why == LostRange::Why::cut) return Found::lost;
    }
    if (reader_.offset() >= safe_to_) {
      read_on(reader_.offset());
      continue;
    }
    switch (reader_.next(packet)) {
      case Step::ok:
        return Found::packet;
      case Step::end:
        if (part_ + 1 == ends_.size()) return Found::end;
        begin_part(ends_[part_++], LostRange::Why::cut);
        break;
      case Step::truncated:
        lost = {LostRange::Why::truncated, reader_.offset(), ends_[part_]};
        reader_.seek(lost.to);
        return Found::lost;
      case Step::bad:
        lose_sync(LostRange::Why::bad);
        break;
    }
  }
}

}  // namespace hindcast::decode
