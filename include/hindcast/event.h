// What decoding makes and every view reads: blocks, control events and gaps, each with an interval of time.
//
// One flat value for all kinds, so that a flow is a plain array. Fields that a kind does not use are zero.
#pragma once

#include <cstdint>
#include <string_view>

#include "hindcast/units.h"

namespace hindcast {

enum class EventKind : uint8_t {
  block,           // instructions ip .. last_ip ran, count of them; end says how the last one ends
  enabled,         // TIP.PGE: tracing on at ip
  disabled,        // TIP.PGD bound to a branch: the block before left the trace; to = target when sent, else 0
  async_disabled,  // FUP + TIP.PGD: interrupted before ip ran; to = target when sent, else 0
  async_branch,    // FUP + TIP: interrupted before ip ran, control went to `to` (kernel traced)
  overflow,        // OVF: packets lost; to = where tracing resumed, 0 when it resumed off. A gap follows it.
  paging,          // PIP while tracing is on, outside PSB+: to = new CR3
  exec_mode,       // MODE.Exec change: count = 16, 32 or 64
  tsx,             // MODE.TSX: count = bit 0 in transaction, bit 1 aborted
  stopped,         // TraceStop, behind the TIP.PGD that ended the stretch
  ptwrite,         // PTW: to = payload, ip = its FUP or 0
  gap,             // a known unknown: cause, count = bytes of trace (saturating), time = its range
};

/// How a block's last instruction ends it. Names follow the SDM's branch classes (Vol. 3C, "Change of Flow").
enum class BlockEnd : uint8_t {
  none,         // runs on into the next block (cut by an event, a limit or the end of what is known)
  cond_branch,  // Jcc, LOOPcc, JrCXZ: one TNT bit
  direct_jump,
  direct_call,
  indirect_jump,
  indirect_call,
  near_ret,
  far_transfer,  // SYSCALL, SYSRET, INT n, IRET, far JMP/CALL/RET, VM entry ...
};

/// Why something is not known. Every cause is typed so that answers can say it.
enum class GapCause : uint8_t {
  none,
  pt_overflow,           // the CPU dropped packets (OVF)
  aux_truncated,         // the kernel says ring space ran out (AUX record TRUNCATED/PARTIAL/COLLISION)
  sideband_lost,         // the kernel dropped sideband records (LOST)
  image_missing,         // no code bytes at the address that ran
  desync,                // packets and code disagree, or packets are malformed; resumed at the next safe packet
  filtered,              // left out on purpose (address filter, kernel not traced, another process)
  not_captured,          // before the oldest byte that the ring still held, or after the freeze
  unsupported,           // a feature that this decoder cannot follow
  unattributed,          // ran on this CPU, but more than one thread fits, or none
  code_version_unknown,  // the code may have changed since it ran
  cut,                   // the file or stream ends early
};

constexpr std::string_view to_string(GapCause c) {
  constexpr std::string_view kNames[] = {
      "none",     "pt_overflow",  "aux_truncated", "sideband_lost", "image_missing",        "desync",
      "filtered", "not_captured", "unsupported",   "unattributed",  "code_version_unknown", "cut"};
  return kNames[static_cast<uint8_t>(c)];
}

constexpr std::string_view to_string(EventKind k) {
  constexpr std::string_view kNames[] = {"block",        "enabled",  "disabled", "async_disabled",
                                         "async_branch", "overflow", "paging",   "exec_mode",
                                         "tsx",          "stopped",  "ptwrite",  "gap"};
  return kNames[static_cast<uint8_t>(k)];
}

constexpr std::string_view to_string(BlockEnd e) {
  constexpr std::string_view kNames[] = {"none",          "cond_branch",   "direct_jump", "direct_call",
                                         "indirect_jump", "indirect_call", "near_ret",    "far_transfer"};
  return kNames[static_cast<uint8_t>(e)];
}

struct Event {
  EventKind kind = EventKind::gap;
  BlockEnd end = BlockEnd::none;
  GapCause cause = GapCause::none;
  uint8_t reserved = 0;
  uint32_t count = 0;    // block: instructions (>= 1); gap: trace bytes, saturating; others: see the kind
  uint64_t ip = 0;       // block: first instruction; async_*: the interrupted one; enabled: first to run
  uint64_t last_ip = 0;  // block: address of its last instruction
  uint64_t to = 0;       // target address or payload, see the kind
  uint64_t offset = 0;   // byte offset in the PT stream at or before which this was decided
  TscInterval time;      // ticks of the host's TSC; unknown() when no timing packet bounds it
};

}  // namespace hindcast
