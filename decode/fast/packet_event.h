// What rare packets say of one place in a stretch, put together from all packets that belong to it.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "decode/last_ip.h"
#include "decode/packet_reader.h"
#include "hindcast/event.h"

namespace hindcast::decode {

/// The CPU has sent all branches before it sends the first of these packets:
///   FUP, TIP                   an interrupt or exception; in between PIP, VMCS and MODE.Exec, which hold where it leads
///   MODE.TSX, FUP              a transaction began, was committed, or aborted: then the FUP is also that of FUP, TIP
///   PTW or PTW, FUP            a PTWRITE
///   EXSTOP, MWAIT, each FUP    where the processor stopped or waited
///   PIP                        a MOV to CR3, or a far transfer
///   VMCS                       a VMPTRLD, or a far transfer
///   MODE.Exec                  a far transfer; its TIP follows
///   TIP or FUP without an IP   a place that nobody knows
struct PacketEvent {
  /// Where the walk has to be.
  enum class Place : uint8_t {
    before,        // the instruction at `at`, which did not run, or not any more; at == 0: where it stands
    ptwrite,       // behind the next PTWRITE, which lies at `at` unless that is 0
    mov_cr3,       // behind the next MOV to CR3
    vmptrld,       // behind the next VMPTRLD
    far_transfer,  // behind the next far transfer
    branch,        // behind the next branch that takes a TIP; where that led nobody knows
    nowhere,       // it cannot go on
  };
  struct Told {
    EventKind kind = EventKind::gap;
    uint64_t value = 0;  // Event::count of tsx and exec_mode, Event::to of others
  };

  Place place = Place::before;
  uint64_t at = 0;    // as its FUP says; 0: it does not
  uint64_t to = 0;    // what ran next; 0: what lies behind `place`, or behind a far transfer the stretch ended
  bool ends = false;  // mov_cr3: nothing but timing follows in the stretch
  uint8_t bits = 0;   // mode of execution from there on; 0: as before
  uint8_t tells = 0;
  std::array<Told, 3> told{};                // in order, `tells` of them
  uint64_t first = 0, placed = 0, last = 0;  // offsets of its packets; placed: of the one that says where

  void tell(EventKind kind, uint64_t value) { told[tells++] = {kind, value}; }
};

/// Takes packets one by one until it is known what they say. Cheap; borrows nothing.
class PacketEventReader {
 public:
  enum class Needs : uint8_t {
    more,   // packets: take() or end()
    none,   // the event is whole
    other,  // what came belongs to no event in the stretch: it ends there
  };

  explicit PacketEventReader(const LastIp& last_ip) : last_ip_(last_ip), behind_ip_(last_ip) {}

  /// True for what may begin an event. What else is neither TNT, TIP nor PSB says nothing of the flow.
  static bool begins_with(const Packet& p);
  /// The next packet; behind: where the one after it begins.
  Needs take(const Packet& p, uint64_t behind);
  /// The stretch is over at offset.
  Needs end(uint64_t offset);

  const PacketEvent& event() const { return event_; }
  uint64_t behind() const { return behind_; }  // where what comes after the event begins
  const LastIp& behind_ip() const { return behind_ip_; }
  /// With event().place at mov_cr3 or vmptrld: what they and the packets behind them say when a far transfer comes first.
  /// Nothing: no far transfer sends these.
  bool take_far();

 private:
  Needs begin(const Packet& p, uint64_t behind);
  Needs whole(const Packet& p, uint64_t behind);
  Needs take_of_far(const Packet& p, uint64_t ip, uint64_t behind);
  Needs take_fup(const Packet& p, uint64_t ip, uint64_t behind);
  bool is_far() const { return far_.place == PacketEvent::Place::far_transfer; }
  static bool has_told(const PacketEvent& e, EventKind kind);

  PacketEvent event_;
  LastIp last_ip_;
  Kind first_ = Kind::pad;
  bool begun_ = false, aborts_ = false, vmcs_ = false;
  uint64_t behind_ = 0;
  LastIp behind_ip_;
  PacketEvent far_;  // what is known of it so far
  bool far_is_whole_ = false;
  uint64_t behind_far_ = 0;
  LastIp behind_far_ip_;
};

}  // namespace hindcast::decode
