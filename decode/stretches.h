// Cuts one CPU's stream into stretches of traced execution by reading packets alone; no code bytes are needed.
//
// A stretch is the unit of thread attribution: user-only tracing turns off at every kernel entry, so one stretch
// belongs to one thread. What lies between stretches is either tracing that was off on purpose or a typed gap.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "decode/packet_scan.h"
#include "decode/pt_time.h"
#include "decode/trace_bytes.h"
#include "hindcast/bytes.h"
#include "hindcast/event.h"
#include "hindcast/units.h"

namespace hindcast::decode {

enum class StretchStart : uint8_t {
  enabled,  // TIP.PGE
  resync,   // a PSB+'s FUP where tracing was not known to be on (mostly after a synchronisation): it ran before, unseen
  overflow,  // the FUP that resolves an OVF while tracing is on
  handover,  // where the stretch before it was cut (stretch_cuts.h): it goes on with what that one left
};

enum class StretchEnd : uint8_t {
  disabled,        // TIP.PGD alone: the branch before it left the trace (SYSCALL, far transfer, filter)
  async_disabled,  // FUP, TIP.PGD: interrupted before end_ip ran
  overflow,        // OVF: it ran on, unseen
  desync,          // a malformed packet, or a packet that cannot come here: it may have run on
  cut,             // an earlier freeze stopped the ring here
  end,             // the stream ended, or its last packet is cut short; it may have run on
  handover,        // it was cut (stretch_cuts.h), and the stretch behind it goes on
};

/// One run of traced execution. Offsets are bytes in the stream, at the first byte of a packet; but for a handover, which lies
/// anywhere: packets at or before it are of the stretch that ends there, others of the one that begins.
struct Stretch {
  uint64_t begin = 0;  // the packet that turned tracing on: TIP.PGE, or a FUP (see StretchStart)
  uint64_t end =
      0;  // the packet that ended it: TIP.PGD, OVF, the one that contradicts; else where packets end. > begin
  uint64_t whole_end = 0;  // the end of the last one of those that were one before they were cut; else end
  uint64_t sync = 0;       // the last PSB before begin: a decoder that knows nothing can start there
  uint64_t begin_ip = 0;   // where it started; 0 when the packet had its IP suppressed, or a handover tells none
  uint64_t end_ip = 0;     // async_disabled: the instruction that did not run; else 0
  uint64_t end_to = 0;     // TIP.PGD's own IP when it has one (kernel or filter boundary); else 0
  StretchStart start = StretchStart::enabled;
  StretchEnd how = StretchEnd::end;
  bool flow = false;  // at least one TNT or TIP in between
  // In between stand only packets that a PacketEventReader knows, in an order in which a CPU sends them, PSB+, TNT, TIPs and
  // timing; and no FUP that a packet in front of the stretch may still wait for.
  bool plain = true;
  bool in_psb = false;     // begin is in a PSB+
  uint8_t bits = 0;        // 64, 32 or 16, as the last MODE.Exec before begin said; 0: none did
  bool stopped = false;    // a TraceStop follows its TIP.PGD
  TscInterval begin_time;  // of the packet at begin
  TscInterval end_time;    // of the packet at end, or of what would come there
};

/// What CR3 was set to, by a PIP. Source: SDM Vol. 3C, "Paging Information Packet".
struct Paging {
  uint64_t offset = 0;  // of the last packet of what it came with: behind it nothing ran under the CR3 before
  uint64_t cr3 = 0;     // bit 0: of a guest (NR)
  // Where the TIP behind it led, when that is user code; 0: there is none. All trace of before was sent with the PIP, so a decoder
  // that knows nothing can start there.
  uint64_t ip = 0;
  uint8_t bits = 0;  // the mode there, as Stretch::bits

  bool operator==(const Paging&) const = default;
};

/// stretches in stream order, disjoint. gaps in stream order, disjoint: Events of kind gap with offset, count (bytes,
/// saturating), cause and time (the whole range):
///   not_captured  before the first PSB; from an earlier freeze's cut to the next PSB; behind an end that comes while
///                 tracing is on
///   pt_overflow   from OVF to the packet that tells whether tracing is on
///   desync        from a malformed or contradictory packet to where the state is known again
///   cut           a last packet that is cut short
/// psbs: where each PSB stands, ascending: a decoder that knows nothing can begin there.
/// pagings: ascending. Outside of PSB+ those that say what the one before said are left out, unless something was lost between.
struct StretchMap {
  std::vector<Stretch> stretches;
  std::vector<Event> gaps;
  std::vector<uint64_t> psbs;
  std::vector<Paging> pagings;
};

/// What packets alone say.
struct PtScan {
  TimeMap times;
  StretchMap map;
};

/// Never fails: damage becomes gaps. One pass, O(bytes); memory in proportion to what is found.
///   trace  one CPU's bytes, oldest first; work begins at the first PSB.
///   cuts   StreamInfo::cuts: where earlier freezes cut the ring; work resumes at the next PSB after each, and time passed
///          unseen.
/// A PSB+ sent while tracing is off may hold a FUP that announces the TIP.PGE that follows (erratum BDM70, SKD024,
/// SKL021, KBL021): such a FUP starts no stretch. On CPUs without the erratum that sequence cannot occur, so the rule is
/// always on. Source: SDM Vol. 3C, "Intel Processor Trace": PSB, OVF, FUP, TIP.PGE, TIP.PGD packet definitions.
PtScan scan_packets(TraceBytes& trace, const PtTimeConfig& time, std::span<const uint64_t> cuts = {},
                    uint64_t window = PacketScan::kWindow);
inline PtScan scan_packets(ByteSpan trace, const PtTimeConfig& time, std::span<const uint64_t> cuts = {}) {
  TraceBytes bytes(trace);
  return scan_packets(bytes, time, cuts);
}

}  // namespace hindcast::decode
