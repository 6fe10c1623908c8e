// perf records in their perf.data on-disk encoding: the sideband format of every source, real, simulated or imported.
//
// A record is  u32 type; u16 misc; u16 size;  then size - 8 bytes of body. Kernel records (type < 64) made by us end
// in a sample_id trailer; which fields it has is the stream's sample_type (linux/perf_event.h, "sample_id").
#pragma once

#include <cstdint>
#include <optional>

#include "hindcast/bytes.h"
#include "hindcast/units.h"

namespace hindcast::perf {

enum RecordType : uint32_t {
  kMmap = 1,
  kLost = 2,
  kComm = 3,
  kExit = 4,
  kThrottle = 5,
  kUnthrottle = 6,
  kFork = 7,
  kRead = 8,
  kSample = 9,
  kMmap2 = 10,
  kAux = 11,
  kItraceStart = 12,
  kLostSamples = 13,
  kSwitch = 14,
  kSwitchCpuWide = 15,
  kNamespaces = 16,
  kKsymbol = 17,
  kBpfEvent = 18,
  kCgroup = 19,
  kTextPoke = 20,
  kAuxOutputHwId = 21,
  // written by the perf tool, not the kernel
  kIdIndex = 69,
  kAuxtraceInfo = 70,
  kAuxtrace = 71,
  kThreadMap = 73,
  kCpuMap = 74,
  kTimeConv = 79,
};

enum Misc : uint16_t {
  kMiscCommExec = 0x2000,
  kMiscSwitchOut = 0x2000,
  kMiscSwitchOutPreempt = 0x4000,
  kMiscMmapBuildId = 0x4000,
  kMiscMmapData = 0x2000,
  kMiscForkExec = 0x2000,
};

enum SampleType : uint64_t {
  kSampleTid = 1u << 1,
  kSampleTime = 1u << 2,
  kSampleId = 1u << 6,
  kSampleCpu = 1u << 7,
  kSampleStreamId = 1u << 9,
  kSampleIdentifier = 1u << 16,
};
/// What our own sideband events ask for.
inline constexpr uint64_t kOurSampleType = kSampleTid | kSampleTime | kSampleCpu | kSampleIdentifier;

enum AuxFlag : uint64_t { kAuxTruncated = 1, kAuxOverwrite = 2, kAuxPartial = 4, kAuxCollision = 8 };

/// The trailer's fields; those its sample_type lacks keep their defaults.
struct SampleId {
  Pid pid = kNoPid;
  Tid tid = kNoTid;
  std::optional<RecordTime> time;
  CpuId cpu = kNoCpu;
  uint64_t id = 0;
};

/// One record inside borrowed bytes.
struct Record {
  uint32_t type = 0;
  uint16_t misc = 0;
  ByteSpan body;        // without the 8-byte header, with the trailer
  uint64_t offset = 0;  // of the header in the stream
};

/// Walks records; stops at the first that is shorter than its header or longer than what is left.
class RecordReader {
 public:
  explicit RecordReader(ByteSpan bytes) : bytes_(bytes) {}
  /// False at the end and at a malformed record; malformed() tells which.
  bool next(Record& out) {
    if (malformed_ || bytes_.size() - pos_ == 0) return false;
    ByteReader r(bytes_.subspan(pos_));
    const uint32_t type = r.u32();
    const uint16_t misc = r.u16(), size = r.u16();
    if (r.failed() || size < 8 || size > bytes_.size() - pos_) {
      malformed_ = true;
      return false;
    }
    out = Record{type, misc, bytes_.subspan(pos_ + 8, size - 8u), pos_};
    pos_ += size;
    return true;
  }
  bool malformed() const { return malformed_; }
  uint64_t offset() const { return pos_; }

 private:
  ByteSpan bytes_;
  uint64_t pos_ = 0;
  bool malformed_ = false;
};

inline constexpr size_t sample_id_bytes(uint64_t sample_type) {
  size_t n = 0;
  for (uint64_t bit : {uint64_t{kSampleTid}, uint64_t{kSampleTime}, uint64_t{kSampleId}, uint64_t{kSampleStreamId},
                       uint64_t{kSampleCpu}, uint64_t{kSampleIdentifier}})
    if (sample_type & bit) n += 8;
  return n;
}

/// The trailer of a kernel record (type < 64, not kSample); nothing when the body is too short to hold it.
inline std::optional<SampleId> read_sample_id(const Record& record, uint64_t sample_type) {
  const size_t n = sample_id_bytes(sample_type);
  if (record.body.size() < n) return std::nullopt;
  ByteReader r(record.body.subspan(record.body.size() - n));
  SampleId s;
  if (sample_type & kSampleTid) {
    s.pid = Pid(r.read<int32_t>());
    s.tid = Tid(r.read<int32_t>());
  }
  if (sample_type & kSampleTime) s.time = RecordTime(r.u64());
  if (sample_type & kSampleId) s.id = r.u64();
  if (sample_type & kSampleStreamId) r.skip(8);
  if (sample_type & kSampleCpu) {
    s.cpu = CpuId(r.u32());
    r.skip(4);
  }
  if (sample_type & kSampleIdentifier) s.id = r.u64();
  return s;
}

}  // namespace hindcast::perf
