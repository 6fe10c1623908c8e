// A perf.data file, as far as Intel PT needs it: what the exporter writes and the importer reads.
//
//   file     := FileHeader  ids*  attr*  event*  sections  feature*
//   attr     := struct perf_event_attr (its own `size` bytes), then Section of the ids of its events
//   event    := record of perf_record.h; an AUXTRACE record is followed by `size` bytes of trace
//   sections := one Section for each set bit of FileHeader.features, in order of the bits
//
// FileHeader.attrs and .data say where attrs and events lie; the sections begin where the events end. Integers are of the
// machine that recorded; only little-endian files are handled. Source: tools/perf/Documentation/perf.data-file-format.txt,
// tools/perf/util/{header.c,intel-pt.h}, linux/perf_event.h (6.1).
#pragma once

#include <cstdint>
#include <type_traits>

#include "hindcast/pt_config.h"

namespace hindcast::perf {

inline constexpr uint64_t kFileMagic = 0x32454c4946524550;     // "PERFILE2"
inline constexpr uint64_t kSwappedMagic = 0x50455246494c4532;  // the same, written by a big-endian machine
inline constexpr uint64_t kOldFileMagic = 0x454c494646524550;  // "PERFFILE", before Linux 3.x

struct Section {
  uint64_t offset, size;
};

struct FileHeader {
  uint64_t magic;
  uint64_t size;       // of this struct; 16 when the file is a pipe's
  uint64_t attr_size;  // of one attr, its Section included
  Section attrs, data, event_types;
  uint64_t features[4];
};
static_assert(sizeof(FileHeader) == 104 && std::is_trivially_copyable_v<FileHeader>);
inline constexpr uint64_t kPipeHeaderBytes = 16;
inline constexpr uint64_t kFirstAttrBytes = 64;  // PERF_ATTR_SIZE_VER0

/// Numbers of the feature bits that we write or read.
enum Feature : uint32_t {
  kFeatureBuildId = 2,
  kFeatureHostname = 3,
  kFeatureVersion = 5,
  kFeatureArch = 6,
  kFeatureNrCpus = 7,
  kFeatureCpuDesc = 8,
  kFeatureCpuId = 9,
  kFeatureCommandLine = 11,
  kFeatureEventDesc = 12,
  kFeaturePmuMappings = 16,
  kFeatureAuxtrace = 18,
  kFeatureSampleTime = 21,
  kFeatureDirFormat = 24,
  kFeatureCompressed = 27,
  /// Ours, where perf reserves bits and reads none: a counted text like kFeatureHostname, JSON, with what perf's format has
  /// no place for: {"source", "clock_error_ticks", "ctc_hz", "root_pids"}, each as in SnapshotInfo.
  kFeatureHindcast = 255,
};
inline constexpr uint32_t kFeatureBits = 256;

/// More record types that perf itself writes.
inline constexpr uint32_t kTracingData = 66;
inline constexpr uint32_t kBuildId = 67;
inline constexpr uint32_t kFinishedRound = 68;
inline constexpr uint32_t kCompressed = 81;   // bytes of a zstd stream of kernel records, which ends anywhere
inline constexpr uint32_t kCompressed2 = 83;  // the same behind a u64 count of them, padded to 8; Linux 6.16
inline constexpr uint32_t kFirstToolRecord = 64;

/// u32 type; u32 reserved; u64 priv[]. priv[kInfoFilterBytes] bytes of filter text follow, padded to 8, then
/// u64 cap_event_trace.
inline constexpr uint32_t kAuxtraceIntelPt = 1;
enum IntelPtInfo : size_t {
  kInfoPmuType,
  kInfoTimeShift,
  kInfoTimeMult,
  kInfoTimeZero,
  kInfoTimeKnown,
  kInfoTscBit,
  kInfoNoRetCompBit,
  kInfoSchedSwitch,  // 0 none, 2 SWITCH records, 3 SWITCH_CPU_WIDE records
  kInfoSnapshotMode,
  kInfoPerCpu,
  kInfoMtcBit,
  kInfoMtcFrequencyBits,
  kInfoTscCtcNum,
  kInfoTscCtcDen,
  kInfoCycBit,
  kInfoNominalRatio,
  kInfoFilterBytes,
  kInfoWords,
};

/// Body of an AUXTRACE record.
struct AuxtraceBody {
  uint64_t size;    // bytes of trace behind the record
  uint64_t offset;  // of the first one, counted since the ring began
  uint64_t reference;
  uint32_t index;
  int32_t tid;
  uint32_t cpu;
  uint32_t reserved;
};
static_assert(sizeof(AuxtraceBody) == 40 && std::is_trivially_copyable_v<AuxtraceBody>);

/// One entry of the build-id table: record header, this, the path padded to 8.
struct BuildIdBody {
  int32_t pid;
  uint8_t build_id[20];
  uint8_t size;  // 0: 20, when the record's misc lacks kMiscBuildIdSize
  uint8_t reserved[3];
};
static_assert(sizeof(BuildIdBody) == 28 && std::is_trivially_copyable_v<BuildIdBody>);
inline constexpr uint16_t kMiscBuildIdSize = 1u << 15;

/// The intel_pt PMU's config of every kernel so far (/sys/bus/event_source/devices/intel_pt/format).
inline constexpr uint64_t kPtConfigTsc = 1u << 10;
inline constexpr uint64_t kPtConfigNoRetComp = 1u << 11;
inline constexpr uint64_t kPtConfigMtc = 1u << 9;
inline constexpr uint64_t kPtConfigMtcPeriod = 0xfu << 14;
inline constexpr uint64_t kPtConfigCyc = 1u << 1;

constexpr uint64_t pt_config(const PtOptions& o) {
  const auto bit = [](bool on, int at) { return uint64_t{on} << at; };
  return bit(o.pt, 0) | bit(o.cyc, 1) | bit(o.pwr_evt, 4) | bit(o.fup_on_ptw, 5) | bit(o.mtc, 9) | bit(o.tsc, 10) |
         bit(o.noretcomp, 11) | bit(o.ptw, 12) | bit(o.branch, 13) | (uint64_t{o.mtc_period} & 15) << 14 |
         (uint64_t{o.cyc_thresh} & 15) << 19 | (uint64_t{o.psb_period} & 15) << 24 | bit(o.event, 31) |
         bit(o.notnt, 55);
}
/// perf sets neither pt nor branch on kernels that imply them, so bit 0 clear means both are on.
constexpr PtOptions pt_options(uint64_t config) {
  const auto bit = [config](int at) { return (config >> at & 1) != 0; };
  const auto field = [config](int at) { return static_cast<uint8_t>(config >> at & 15); };
  PtOptions o;
  o.pt = true;
  o.branch = !bit(0) || bit(13);
  o.cyc = bit(1);
  o.pwr_evt = bit(4);
  o.fup_on_ptw = bit(5);
  o.mtc = bit(9);
  o.tsc = bit(10);
  o.noretcomp = bit(11);
  o.ptw = bit(12);
  o.mtc_period = field(14);
  o.cyc_thresh = field(19);
  o.psb_period = field(24);
  o.event = bit(31);
  o.notnt = bit(55);
  return o;
}

}  // namespace hindcast::perf
