// What one needs to know of a CPU and of its PT configuration to read its trace: without it timing cannot be
// decoded.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "hindcast/result.h"
#include "hindcast/units.h"

namespace hindcast {

/// CPU identity and the timing constants of Intel SDM Vol. 3C, "Packet Generation ... TMA, MTC, CYC, CBR".
struct PtCpu {
  bool intel = true;    // vendor GenuineIntel; errata apply to Intel models only
  uint16_t family = 0;  // display family
  uint8_t model = 0;    // display model
  uint8_t stepping = 0;
  uint32_t tsc_ctc_num = 0;   // CPUID.15H:EBX; TSC = CTC * num / den. 0: unknown, MTC gives no time
  uint32_t tsc_ctc_den = 0;   // CPUID.15H:EAX
  uint32_t ctc_hz = 0;        // CPUID.15H:ECX, or 0
  uint8_t nominal_ratio = 0;  // max non-turbo ratio: nominal frequency / bus clock
};

/// Options by the names that the kernel's intel_pt PMU gives them in format/. Values as the kernel takes
/// them.
struct PtOptions {
  bool pt = true;      // the enable bit the kernel calls "pt"
  bool branch = true;  // COFI packets; needs pt
  bool tsc = true;
  bool mtc = true;
  uint8_t mtc_period = 3;  // one MTC each 2^mtc_period CTC ticks; 0..15
  bool cyc = false;
  uint8_t cyc_thresh = 0;  // 0..15; n > 0: CYC only after 2^(n-1) cycles
  uint8_t psb_period = 3;  // one PSB about each 2^(psb_period + 11) bytes; 0..15
  bool noretcomp = false;  // true: RET compression off
  bool ptw = false;
  bool fup_on_ptw = false;
  bool pwr_evt = false;
  bool event = false;
  bool notnt = false;

  bool operator==(const PtOptions&) const = default;
};

/// Parses "tsc,mtc,cyc,noretcomp,psb_period=3,mtc=0" on top of the defaults above; a bare name means 1.
/// Unknown names, values out of range and contradictions (branch without pt, mtc_period without mtc) are
/// Errc::usage with the list of names. Defined in transport/pt_options.cc, since both sides print and read
/// it.
Result<PtOptions> parse_pt_options(std::string_view text);
/// The canonical text: every option that is on, in the order above, and "name=0" for those that are on by
/// default but off here. Parses back to the same value, for every value that parse_pt_options can return.
std::string to_text(const PtOptions& options);

/// perf's conversion between TSC and the clock of perf records:
///   ns = zero + ((tsc * mult) >> shift)   in modulo-2^64 arithmetic (zero may be a "negative" number)
/// error_ticks bounds how far the relation may be off when it was fitted by samples; 0 when the kernel gave
/// it.
struct TscConversion {
  bool known = false;
  uint16_t shift = 0;
  uint32_t mult = 0;
  uint64_t zero = 0;
  uint64_t error_ticks = 0;

  RecordTime to_record_time(Tsc tsc) const {
    const uint64_t q = tsc.value() >> shift, r = tsc.value() & ((uint64_t{1} << shift) - 1);
    return RecordTime(zero + q * mult + ((r * mult) >> shift));
  }
  /// The inverse, as an interval: rounding and error_ticks included.
  TscInterval to_tsc(RecordTime t) const {
    if (!known || mult == 0) return TscInterval::unknown();
    const uint64_t d = t.value() - zero, q = d / mult, r = d % mult;
    const uint64_t tick = (q << shift) + (r << shift) / mult;
    const uint64_t slack = error_ticks + 1 + ((uint64_t{1} << shift) / mult);
    return {Tsc(tick > slack ? tick - slack : 0), Tsc(tick + slack)};
  }
};

}  // namespace hindcast
