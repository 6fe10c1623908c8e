#include "decode/fast/packet_event.h"

#include <algorithm>

namespace hindcast::decode {

using Place = PacketEvent::Place;

bool PacketEventReader::begins_with(const Packet& p) {
  switch (p.kind) {
    case Kind::fup:
    case Kind::ptw:
    case Kind::mwait:
    case Kind::mode_tsx:
    case Kind::mode_exec:
    case Kind::pip:
    case Kind::vmcs:
      return true;
    case Kind::exstop:
      return p.detail != 0;
    case Kind::tip:
      return !p.has_ip();
    default:
      return false;
  }
}

PacketEventReader::Needs PacketEventReader::take(const Packet& p, uint64_t behind) {
  const LastIp before = last_ip_;
  const uint64_t ip = expand_ip(last_ip_, p);
  if (!begun_) {
    begun_ = true;
    event_.first = event_.placed = event_.last = p.offset;
    first_ = p.kind;
    if (p.kind != Kind::fup) return begin(p, behind);
  }
  if (is_timing(p.kind)) return Needs::more;
  if (is_far()) return take_of_far(p, ip, behind);
  switch (p.kind) {
    case Kind::fup:
      if (aborts_) last_ip_ = before;  // it is read again, with what follows it
      return take_fup(p, ip, behind);
    case Kind::exstop:
    case Kind::mwait:
    case Kind::pwre:
    case Kind::pwrx:
      return is_power(first_) ? Needs::more : Needs::other;
    case Kind::pip:
      if (first_ != Kind::fup || has_told(event_, EventKind::paging)) return Needs::other;
      event_.tell(EventKind::paging, p.payload);
      return Needs::more;
    case Kind::vmcs:
      return first_ == Kind::fup ? Needs::more : Needs::other;
    case Kind::mode_exec:
      if (first_ != Kind::fup || event_.bits != 0) return Needs::other;
      event_.bits = bits_of_mode(p);
      event_.tell(EventKind::exec_mode, event_.bits);
      return Needs::more;
    case Kind::tip:
      if (first_ != Kind::fup) return Needs::other;
      if (!p.has_ip()) event_.place = Place::nowhere;
      event_.to = event_.told[0].value = ip;
      return whole(p, behind);
    default:
      return Needs::other;
  }
}

PacketEventReader::Needs PacketEventReader::begin(const Packet& p, uint64_t behind) {
  switch (p.kind) {
    case Kind::ptw:
      event_.place = Place::ptwrite;
      event_.tell(EventKind::ptwrite, p.payload);
      return p.detail != 0 ? Needs::more : whole(p, behind);
    case Kind::mode_tsx:
      event_.tell(EventKind::tsx, p.payload & 3);
      aborts_ = p.payload & 2;
      return Needs::more;
    case Kind::exstop:
    case Kind::mwait:
      return Needs::more;
    case Kind::tip:
      event_.place = Place::branch;
      return whole(p, behind);
    case Kind::pip:
      event_.place = Place::mov_cr3;
      event_.tell(EventKind::paging, p.payload);
      break;
    case Kind::vmcs:
      event_.place = Place::vmptrld;
      break;
    case Kind::mode_exec:
      event_.place = Place::far_transfer;
      event_.bits = bits_of_mode(p);
      event_.tell(EventKind::exec_mode, event_.bits);
      break;
    default:
      return Needs::other;
  }
  vmcs_ = p.kind == Kind::vmcs;
  far_ = event_;
  far_.place = Place::far_transfer;
  whole(p, behind);
  return Needs::more;
}

PacketEventReader::Needs PacketEventReader::take_fup(const Packet& p, uint64_t ip, uint64_t behind) {
  event_.placed = p.offset;
  event_.at = p.has_ip() ? ip : 0;
  if (first_ == Kind::ptw) return whole(p, behind);
  if (first_ != Kind::fup) {
    event_.to = event_.at;
    return whole(p, aborts_ ? p.offset : behind);
  }
  if (p.offset != event_.first) return Needs::other;
  event_.tell(EventKind::async_branch, 0);
  if (p.has_ip()) return Needs::more;
  event_.place = Place::nowhere;
  return whole(p, behind);
}

PacketEventReader::Needs PacketEventReader::whole(const Packet& p, uint64_t behind) {
  event_.last = p.offset;
  behind_ = behind;
  behind_ip_ = last_ip_;
  return Needs::none;
}

/// Behind PIP, VMCS or MODE.Exec.
PacketEventReader::Needs PacketEventReader::take_of_far(const Packet& p, uint64_t ip, uint64_t behind) {
  const bool alone = event_.place != Place::far_transfer;  // it may be without a far transfer
  switch (p.kind) {
    case Kind::pip:
      if (has_told(far_, EventKind::paging)) break;
      far_.tell(EventKind::paging, p.payload);
      // The mode is that of where it leads.
      if (far_.bits != 0) std::swap(far_.told[far_.tells - 2], far_.told[far_.tells - 1]);
      return Needs::more;
    case Kind::psbend:  // without a PSB it means nothing
      return Needs::more;
    case Kind::vmcs:
      if (vmcs_) break;
      vmcs_ = true;
      return Needs::more;
    case Kind::mode_exec:
      if (far_.bits != 0) break;
      far_.bits = bits_of_mode(p);
      far_.tell(EventKind::exec_mode, far_.bits);
      return Needs::more;
    case Kind::tip:
      if (!p.has_ip()) break;
      far_.to = ip;
      far_.last = p.offset;
      far_is_whole_ = true;
      behind_far_ = behind;
      behind_far_ip_ = last_ip_;
      if (!alone) take_far();
      return Needs::none;
    default:
      break;
  }
  return alone ? Needs::none : Needs::other;
}

PacketEventReader::Needs PacketEventReader::end(uint64_t offset) {
  if (!is_far()) return Needs::other;
  if (far_.bits != 0) return event_.place != Place::far_transfer ? Needs::none : Needs::other;
  event_.ends = event_.place == Place::mov_cr3 && !vmcs_;
  far_is_whole_ = true;
  behind_far_ = offset;
  behind_far_ip_ = last_ip_;
  return Needs::none;
}

bool PacketEventReader::take_far() {
  if (!far_is_whole_) return false;
  event_ = far_;
  behind_ = behind_far_;
  behind_ip_ = behind_far_ip_;
  return true;
}

bool PacketEventReader::has_told(const PacketEvent& e, EventKind kind) {
  return std::any_of(e.told.begin(), e.told.begin() + e.tells,
                     [kind](const PacketEvent::Told& t) { return t.kind == kind; });
}

}  // namespace hindcast::decode
