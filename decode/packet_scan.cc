#include "decode/packet_scan.h"

#include <algorithm>

namespace hindcast::decode {

PacketScan::PacketScan(ByteSpan trace, std::span<const uint64_t> cuts, bool skd007)
    : trace_(trace), ends_(cuts.begin(), cuts.end()), skd007_(skd007), reader_(trace) {
  ends_.push_back(trace.size());
  std::sort(ends_.begin(), ends_.end());
  ends_.erase(std::unique(ends_.begin(), ends_.end()), ends_.end());
  std::erase_if(ends_, [&](uint64_t end) { return end > trace.size() || (end == 0 && !trace.empty()); });
  reader_ = PacketReader(trace.first(ends_[0]), skd007_);
}

bool PacketScan::next_part() {
  if (part_ + 1 == ends_.size()) return false;
  const uint64_t begin = ends_[part_++];
  reader_ = PacketReader(trace_.first(ends_[part_]), skd007_);
  reader_.seek(begin);
  synced_ = false;
  unsynced_because_ = LostRange::Why::cut;
  return true;
}

PacketScan::Found PacketScan::next_other(Packet& packet, LostRange& lost) {
  for (;;) {
    if (!synced_) {
      lost.why = unsynced_because_;
      lost.from = reader_.offset();
      reader_.resync();
      lost.to = reader_.offset();
      synced_ = true;
      if (lost.to > lost.from || lost.why == LostRange::Why::cut) return Found::lost;
    }
    switch (reader_.next(packet)) {
      case Step::ok:
        return Found::packet;
      case Step::end:
        if (!next_part()) return Found::end;
        break;
      case Step::truncated:
        lost = {LostRange::Why::truncated, reader_.offset(), ends_[part_]};
        reader_.seek(lost.to);
        return Found::lost;
      case Step::bad:
        synced_ = false;
        unsynced_because_ = LostRange::Why::bad;
        break;
    }
  }
}

}  // namespace hindcast::decode
