// What HostTrace holds, shared by the files that build it and that walk it. Not for others.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "decode/address_space.h"
#include "decode/attribution.h"
#include "decode/fast/fast_engine.h"
#include "decode/flow_index.h"
#include "decode/host_trace.h"
#include "decode/identity.h"
#include "decode/jit_code.h"
#include "decode/libipt_code.h"
#include "decode/sideband.h"

namespace hindcast::decode {

/// One PT stream with its scan and its owners.
struct PtStream {
  StreamInfo info;
  std::shared_ptr<StreamBytes> bytes;
  PtTrace trace;
  std::vector<Slice> slices;  // of its CPU, those that may have been traced
  std::vector<Owner> owners;  // per stretch
  std::vector<Pid> cr3_pids;  // per stretch, of a stream that was cut (stretch_cuts.h): Cr3Owners::of(); else empty
  std::optional<FlowIndex> index;
  bool whole_cpu = false;  // nobody knows any thread: everything belongs to kNoTid, and that is certain

  /// kNoTid when not certain (or whole_cpu).
  const Slice* owner(size_t stretch) const {
    return owners[stretch].certain ? &slices[owners[stretch].first] : nullptr;
  }
  /// An uncertain stretch that this thread may have run.
  bool may_be(size_t stretch, Tid tid) const;
  /// The stretch that offset lies in; stretches.size() when it lies between two.
  size_t inside(uint64_t offset) const;
};

struct HostTrace::Impl {
  Impl(const SnapshotInfo& snapshot, ByteSource& bytes)
      : info(snapshot), source(bytes), images(snapshot, bytes), spaces(snapshot, images) {}

  const SnapshotInfo& info;
  ByteSource& source;
  TscConversion clock;
  Sideband sideband;
  ImageStore images;
  AddressSpaces spaces;
  IdentityBook identities;
  JitCode jit;
  std::shared_ptr<IptCode> code = std::make_shared<IptCode>();
  BlockGraphs graphs;
  EngineCounts engine_counts;
  std::vector<std::unique_ptr<PtStream>> streams;

  std::vector<ProcessInfo> processes;
  std::vector<ThreadInfo> threads;
  std::vector<CpuCoverage> coverage;
  std::vector<HostGap> gaps;

  /// Moments on the record clock for bounds in ticks; the ends stay ends.
  RecordTime latest_record_time(Tsc t) const;
  RecordTime earliest_record_time(Tsc t) const;
  std::shared_ptr<const CodeImage> image_of(const PtStream& stream, size_t stretch);
  const PtStream* find_stream(uint32_t id) const;

  Result<void> read_jit();

  DecodeConfig decode_config(Resync resync) const;
  PtTimeConfig time_config() const;
  bool scan(PtStream& stream, const PtTimeConfig& time);
  void cut(PtStream& stream);
  void assign_cr3s();
};

/// Whose code the stretches of a stream ran. Borrows both. One thread at a time.
class StreamImages : public ImageSelector {
 public:
  StreamImages(HostTrace::Impl& host, const PtStream& stream) : host_(host), stream_(stream) {}
  std::shared_ptr<const CodeImage> image_at(uint64_t offset, Ip) override {
    return host_.image_of(stream_, stream_.inside(offset));
  }

 private:
  HostTrace::Impl& host_;
  const PtStream& stream_;
};

/// The cursors of flow_cursor.cc.
std::unique_ptr<SeekableFlow> open_stream_flow(HostTrace::Impl& host, const PtStream& stream,
                                               const FlowOptions& options);
std::unique_ptr<SeekableFlow> open_thread_flow(HostTrace::Impl& host, const ThreadInfo& thread,
                                               const FlowOptions& options);

}  // namespace hindcast::decode
